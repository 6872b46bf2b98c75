"""The rows that a measurement sends, as perf_analyzer reads them.

Each row is a step ``{"NAME": {"b64": ..., "shape": [...]}}``: the bytes of the V2 protocol,
so every data type, NaN, infinity, and texts that are no UTF-8 arrive as they are (looked at
in 2.51 on both wires; numbers written as JSON would not). Of a batch it takes that many
steps one after the other, from the first again after the last.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit import proof
from toolkit.errors import ConfigError, UnexpectedError
from toolkit.spec import DType

if TYPE_CHECKING:
    from perf.target import Target
    from toolkit.client.asking import Signature
    from toolkit.client.transport import TensorMetadata

MADE_UP = ("zero", "random")
"""What perf_analyzer makes up by itself."""

_MOST_ROWS = 256
_MOST_BYTES = 16_000_000
_LARGEST_ORDINARY = 1e9
_WORDS = ("red", "green", "blue", "a", "river", "and", "seven", "words", "here")

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What ``--input-data`` of perf_analyzer gets: a file of its own JSON, zero or random.

    ``told`` says in words what is sent; ``rows`` is 0 where that is not known; ``shapes``
    are of the inputs whose dims are not fixed, for perf_analyzer's own inventions.
    """

    source: str | Path
    told: str
    rows: int = 0
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()


def prepare(
    target: "Target",
    model: str,
    folder: Path,
    *,
    given: str | Path | None = None,
    version: str | None = None,
) -> Data:
    """Return what to send to ``model``; what has to be written goes into ``folder``.

    ``given`` is ``zero`` or ``random``, a file or folder of perf_analyzer's, or a file of
    rows as ``toolkit predict`` reads them. Without it the entry's own sample is sent, and
    for a model without one, small values that are made up. Raises ``RequestError``,
    ``RepositoryError``, ``SampleError``, ``InvalidInputError``.
    """
    if given is not None and str(given) not in MADE_UP and _is_analyzers(Path(given)):
        return Data(source=Path(given), told=f"{given}")
    known = _signature(target, model, version)
    batched = known.max_batch_size > 0
    if given is not None and str(given) in MADE_UP:
        shapes = tuple(
            (tensor.name, _made_up_dims(tensor, batched=batched))
            for tensor in known.metadata.inputs
            if -1 in tensor.shape[int(batched) :]
        )
        return Data(source=str(given), told=f"{given} values of perf_analyzer", shapes=shapes)
    if given is not None:
        steps, told = _from_file(Path(given), known), str(given)
    else:
        steps, told = _own(target, known, version)
    path = folder / "input.json"
    path.write_text(json.dumps({"data": steps}), encoding="utf-8")
    return Data(source=path, told=f"{len(steps)} row(s), {told}", rows=len(steps))


def _signature(target: "Target", model: str, version: str | None) -> "Signature":
    from toolkit.client.asking import signature_of

    with target.client() as client:
        return signature_of(client.metadata(model, version), client.config(model, version))


def _is_analyzers(path: Path) -> bool:
    """Whether this is a folder of tensors, or perf_analyzer's JSON: ``{"data": [{...}]}``."""
    if path.is_dir():
        return True
    if path.suffix != ".json" or not path.is_file():
        return False
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return False
    if not isinstance(value, dict) or not value.keys() <= {"data", "validation_data"}:
        return False
    steps = value.get("data")
    return isinstance(steps, list) and bool(steps) and isinstance(steps[0], (dict, list))


def _own(target: "Target", known: "Signature", version: str | None) -> tuple[list[Any], str]:
    """Return the entry's sample as steps, or rows that are made up, and which it is."""
    entry = target.entry
    if entry is not None:
        folder = entry.path / version if version else entry.latest
        kept = proof.read_rows(folder)
        names = {tensor.name for tensor in known.metadata.inputs}
        if kept is not None and names >= kept.inputs.keys():
            chosen, told = _ordinary(folder, kept)
            return _steps(chosen, known), told
    told = "made up: the model has no sample here (--input-data FILE gives one)"
    return _steps(_made_up(known), known), told


def _ordinary(version: Path, rows: proof.ProofRows) -> tuple[Tensors, str]:
    """Return those of the kept rows that came from the sample; they are the first.

    Beside them rows are kept that were made to be hard (huge, missing, infinite). Up to
    half of the rows that are kept, and more if there are few others, are of the sample.
    """
    count = len(rows)
    try:
        text = (version / proof.REPORT_FILE).read_text(encoding="utf-8")
        report = json.loads(text)["report"]
        sample, asked = int(report["sample_rows"]), int(report["rows"])
        invented = int(report.get("kinds", {}).get("sample", 0))
    except (OSError, ValueError, KeyError, TypeError):
        return rows.inputs, "all that its proof holds"
    if sample:
        return _first(rows.inputs, min(sample, (count + 1) // 2)), "of the model's own sample"
    places = np.linspace(0, asked - 1, count).astype(np.int64)
    ordinary = int((places < invented).sum())
    if ordinary:
        return _first(rows.inputs, ordinary), "invented for the model's proof"
    small = np.flatnonzero([_is_small(rows.inputs, row) for row in range(count)])
    chosen = small if len(small) else np.arange(count)
    inputs = {name: array[chosen] for name, array in rows.inputs.items()}
    return inputs, "invented for the model's proof"


def _is_small(inputs: Tensors, row: int) -> bool:
    values = (array[row] for array in inputs.values() if array.dtype.kind == "f")
    return all(bool((np.abs(value) < _LARGEST_ORDINARY).all()) for value in values)


def _first(inputs: Tensors, count: int) -> Tensors:
    return {name: array[:count] for name, array in inputs.items()}


def _from_file(path: Path, known: "Signature") -> list[Any]:
    """Return the rows of a file as steps; for a model without a batch axis it is one."""
    from toolkit.tables import Takes, open_rows

    def nothing() -> Any:
        raise ConfigError("rows for a measurement come from a file, not from standard input")

    def no_files(_: Path) -> Iterator[Path]:
        yield from ()

    batched = known.max_batch_size > 0
    takes = Takes(known.metadata.inputs, known.optional, known.feature_names)
    with closing(open_rows(str(path), None, nothing, no_files)) as source:
        pieces = source.pieces(takes, _MOST_ROWS if batched else 2**31)
        piece = next(iter(pieces))
    if piece.errors:
        reason = next(iter(sorted(piece.errors.items())))[1]
        raise ConfigError(f"{path}: {reason}", hint="every row of --input-data must fit the model")
    tensors = piece.tensors if batched else {name: a[None] for name, a in piece.tensors.items()}
    return _steps(tensors, known)


def _made_up(known: "Signature") -> Tensors:
    """Return small values that most models take: 0 to 1, 0 to 9, short words."""
    rng = np.random.default_rng(0)
    batched = known.max_batch_size > 0
    made: dict[str, NDArray[Any]] = {}
    for tensor in known.metadata.inputs:
        shape = (64, *_made_up_dims(tensor, batched=batched))
        dtype = DType(tensor.datatype)
        if dtype is DType.BYTES:
            made[tensor.name] = rng.choice(np.array(_WORDS, dtype=object), shape)
        elif dtype.value.startswith("FP"):
            made[tensor.name] = rng.random(shape).astype(dtype.numpy_name)
        else:
            most = 2 if dtype is DType.BOOL else 10
            made[tensor.name] = rng.integers(0, most, shape).astype(dtype.numpy_name)
    return made


def _made_up_dims(tensor: "TensorMetadata", *, batched: bool) -> tuple[int, ...]:
    return tuple(1 if dim == -1 else dim for dim in tensor.shape[int(batched) :])


def _steps(tensors: Tensors, known: "Signature") -> list[dict[str, Any]]:
    """Return a step a row, as many as are useful."""
    inputs = {tensor.name: tensor for tensor in known.metadata.inputs}
    batched = known.max_batch_size > 0
    arrays = {name: _fitted(array, inputs[name], batched) for name, array in tensors.items()}
    size = sum(max(array[:1].nbytes, 1) for array in arrays.values())
    count = min(len(next(iter(arrays.values()))), _MOST_ROWS, max(_MOST_BYTES // size, 1))
    return [{name: _content(array[row]) for name, array in arrays.items()} for row in range(count)]


def _fitted(array: NDArray[Any], tensor: "TensorMetadata", batched: bool) -> NDArray[Any]:
    """Return rows in the data type and the dims that the server names."""
    dims = tensor.shape[int(batched) :]
    try:
        dtype = DType(tensor.datatype).numpy_name
    except ValueError as error:
        raise UnexpectedError(f"input {tensor.name!r} is {tensor.datatype}") from error
    if array.dtype != dtype:
        array = array.astype(dtype)
    # A row of one value may be kept without the axis that Triton gives it.
    return array if -1 in dims else array.reshape(len(array), *dims)


def _content(value: NDArray[Any]) -> dict[str, Any]:
    from toolkit.client.tensors import to_binary

    value = np.asarray(value)
    binary = to_binary(np.ascontiguousarray(value))
    return {"b64": base64.b64encode(binary).decode(), "shape": list(value.shape)}
