"""Tensors and errors in few words, for people and for JSON."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite, isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.client.tensors import datatype_of
from toolkit.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    PermissionDeniedError,
    RequestError,
    UnavailableError,
    UnknownModelError,
)

_COUNTED = 1 << 20  # looking through more elements than this would be felt
_TEXT = 64

# What these say is about servers and models; the others may quote a value.
_DISCREET = (
    ConnectionFailedError,
    DeadlineExceededError,
    PermissionDeniedError,
    UnavailableError,
    UnknownModelError,
)

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"%PDF", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
)

_encode: Callable[[object], str] = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str
).encode


def as_json(thing: object) -> str:
    """Return ``thing`` as one line of JSON; what it has no number for becomes ``"NaN"``."""
    try:
        return _encode(thing)
    except ValueError:  # asking each array first would cost every line that has none
        return _encode(_finite(thing))


@dataclass(frozen=True, slots=True)
class Summaries:
    """How much of tensors and errors may be told.

    Up to ``values`` elements are told in full. ``redact`` hides all values, or those of
    the inputs and outputs that it names.
    """

    values: int = 10
    redact: bool | Collection[str] = False

    def of_tensors(self, tensors: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Return what JSON can hold of each tensor; None for none."""
        if tensors is None:
            return None
        return {name: self._of(name, tensor) for name, tensor in tensors.items()}

    def of_error(self, error: RequestError | None) -> dict[str, Any] | None:
        """Return kind, class, message and hint; texts that may quote a value are withheld."""
        if error is None:
            return None
        told = not self.redact or isinstance(error, _DISCREET)
        return {
            "kind": error.kind,
            "class": type(error).__name__,
            "message": error.message if told else "withheld: it may quote a value",
            "hint": error.hint if told else None,
            "status": error.status,
        }

    def _of(self, name: str, tensor: Any) -> dict[str, Any]:
        if not isinstance(tensor, np.ndarray):
            return {"type": type(tensor).__name__, "shape": _shape_of(tensor)}
        told: dict[str, Any] = {"dtype": _dtype_of(tensor), "shape": list(tensor.shape)}
        if self.redact is True or (self.redact and name in self.redact):
            return told
        if tensor.size <= self.values:
            told["values"] = _values(tensor)
        elif tensor.size <= _COUNTED:
            told |= _extent(tensor)
        return told


def line_of(summary: Mapping[str, Any] | None) -> str:
    """Return a summary of tensors as one line for a terminal."""
    return ", ".join(f"{name}={_piece(told)}" for name, told in (summary or {}).items())


def _piece(told: Mapping[str, Any]) -> str:
    if "values" in told:
        return as_json(told["values"])
    kind = told.get("dtype") or told["type"]
    shape = "" if told["shape"] is None else as_json(told["shape"])
    if "min" in told:
        return f"{kind}{shape} {told['min']} … {told['max']}"
    if "lengths" in told:
        low, high = told["lengths"]
        return f"{kind}{shape} of {low} to {high} characters or bytes"
    return f"{kind}{shape}"


def _dtype_of(array: NDArray[Any]) -> str:
    try:
        return datatype_of(array)
    except KeyError:
        return array.dtype.name


def _shape_of(thing: Any) -> list[int] | None:
    shape = getattr(thing, "shape", None)
    if isinstance(shape, tuple):
        return [int(axis) for axis in shape]
    return [len(thing)] if hasattr(thing, "__len__") else None


def _values(array: NDArray[Any]) -> Any:
    if array.dtype.kind in "biuf":
        return array.tolist()
    return _each(array.tolist(), _short)


def _each(nested: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(nested, list):
        return [_each(element, change) for element in nested]
    return change(nested)


def _finite(thing: Any) -> Any:
    """Return the same with ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` for those numbers."""
    if isinstance(thing, Mapping):
        return {key: _finite(value) for key, value in thing.items()}
    if isinstance(thing, list):
        return [_finite(value) for value in thing]
    if isinstance(thing, float) and not isfinite(thing):
        return "NaN" if isnan(thing) else "Infinity" if thing > 0 else "-Infinity"
    return thing


def _short(element: object) -> object:
    if isinstance(element, bytes):
        digest = sha256(element).hexdigest()[:12]
        return {"bytes": len(element), "type": _type_of(element), "sha256": digest}
    text = str(element)
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}… ({len(text)} characters)"


def _type_of(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((name for start, name in _SIGNATURES if data.startswith(start)), "binary")


def _extent(array: NDArray[Any]) -> dict[str, Any]:
    if array.dtype.kind in "iuf":
        # NaN, if there is one, is both.
        return {
            "min": np.minimum.reduce(array, axis=None).item(),
            "max": np.maximum.reduce(array, axis=None).item(),
        }
    if array.dtype.kind == "b":
        return {"min": bool(array.all()), "max": bool(array.any())}
    lengths = [len(item) for item in array.ravel().tolist() if hasattr(item, "__len__")]
    return {"lengths": [min(lengths), max(lengths)]} if lengths else {}
