"""A valid question for a model, made from what it says of itself; none is run for it."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from itertools import chain, cycle
from math import prod
from typing import Any

from toolkit.client.asking import Signature
from toolkit.client.transport import IndexedModel, TensorMetadata
from toolkit.errors import RequestError
from toolkit.gateway.models import Known

LONGEST = 200_000
"""How many values an example has at most."""

PUBLISHED = 1_000
"""How many values an example in the OpenAPI schema has at most."""

PATHS = ("/predict/{model}", "/predict_batched/{model}")

_ANY = 4
_FEW = 64
_ROWS_AND_VALUES = 2
_VALUES: Mapping[str, tuple[Any, ...]] = {
    "BYTES": ("some text", "more text"),
    "BOOL": (True, False),
    "FP": (0.5, 1.5, 2.5, 3.5),
    "INT": (1, 2, 3, 4),
}
_SAME: Mapping[str, Any] = {"BYTES": "", "BOOL": False, "FP": 0, "INT": 0}


def example(signature: Signature, *, longest: int = LONGEST) -> Any:
    """Return a valid ``features`` of one row; None if it would have more than ``longest`` values.

    Records by the names of features where they are known, or by those of several inputs with
    a value each; an object of inputs by their names where they take more; else nested lists.
    Inputs that may be left out are left out. An axis of any length gets a few values.
    """
    inputs = signature.metadata.inputs
    needed = [spec for spec in inputs if spec.name not in signature.optional] or list(inputs[:1])
    shapes = [_shape(spec, signature) for spec in needed]
    if sum(map(prod, shapes)) > longest:
        return None
    if len(inputs) == 1:
        return _alone(needed[0], shapes[0], signature.feature_names)
    if signature.max_batch_size and all(prod(shape) == 1 for shape in shapes):
        values = chain.from_iterable(map(_values, needed, shapes))
        return [{spec.name: value for spec, value in zip(needed, values, strict=True)}]
    return {
        spec.name: _nested(_values(spec, shape), shape)
        for spec, shape in zip(needed, shapes, strict=True)
    }


async def published(
    listed: Callable[[], Awaitable[Iterable[IndexedModel]]],
    known: Callable[[str], Awaitable[Known]],
) -> dict[str, Any]:
    """Return an example for each served model, None for one too large to be published.

    What Triton does not tell now is left out: the schema is there without it.
    """
    names: dict[str, None] = {}
    found: dict[str, Any] = {}
    with suppress(RequestError):
        names = dict.fromkeys(one.name for one in await listed())
    for name in names:
        with suppress(RequestError):
            found[name] = example((await known(name)).signature, longest=PUBLISHED)
    return found


def openapi(schema: Mapping[str, Any], examples: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with the served models in it, and a request to each of them.

    ``examples`` has ``features`` for each model, None for one too large to be shown.
    """
    full = deepcopy(dict(schema))
    if not examples:
        return full
    shown = {
        model: {"summary": model, "value": {"features": features}}
        for model, features in examples.items()
        if features is not None
    }
    for path in PATHS:
        asked = full.get("paths", {}).get(path, {}).get("post")
        if asked is None:
            continue
        for parameter in asked.get("parameters", ()):
            if parameter["name"] == "model":
                parameter["schema"] = {**parameter.get("schema", {}), "enum": list(examples)}
        content = asked.get("requestBody", {}).get("content", {}).get("application/json")
        if content is not None and shown:
            content["examples"] = shown
    return full


def _alone(spec: TensorMetadata, shape: Sequence[int], names: Sequence[str]) -> Any:
    """Return the example for the one input of a model."""
    values = _values(spec, shape)
    if len(shape) == _ROWS_AND_VALUES and shape == (1, len(set(names))):
        return [dict(zip(names, values, strict=True))]
    return _nested(values, shape)


def _shape(spec: TensorMetadata, signature: Signature) -> tuple[int, ...]:
    """Return the input's shape with one row, and with lengths where any will do."""
    names = signature.feature_names
    first = bool(signature.max_batch_size) or (len(spec.shape) > 1 and spec.shape[0] == -1)
    rest = [
        length if length != -1 else len(names) or _ANY
        for length in (spec.shape[1:] if first else spec.shape)
    ]
    return (1, *rest) if first else tuple(rest)


def _values(spec: TensorMetadata, shape: Sequence[int]) -> Iterator[Any]:
    """Yield as many values as the shape has; all the same where they are many."""
    kind = spec.datatype if spec.datatype in _VALUES else "INT"
    kind = "FP" if spec.datatype.startswith(("FP", "BF")) else kind
    count = prod(shape)
    source = cycle(_VALUES[kind]) if count <= _FEW else cycle((_SAME[kind],))
    return (value for value, _ in zip(source, range(count), strict=False))


def _nested(values: Iterator[Any], shape: Sequence[int]) -> Any:
    if not shape:
        return next(values)
    return [_nested(values, shape[1:]) for _ in range(shape[0])]
