"""From the rows a person holds to the tensors a model takes, checked on the way.

Nothing is bent to fit: a value goes through if the model's data type can hold it (doubles
may lose digits in FP32, as they do in every framework), and is refused by name, row and
value if not.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from toolkit.client.frames import columns_of, plain, row_by_names
from toolkit.client.shapes import fit, wanted, wrong_width
from toolkit.client.tensors import DTYPES
from toolkit.client.transport import TensorMetadata
from toolkit.client.values import convert
from toolkit.errors import InvalidInputError


def to_tensors(
    rows: object,
    inputs: Sequence[TensorMetadata],
    *,
    optional: Collection[str] = (),
    feature_names: Sequence[str] = (),
) -> dict[str, NDArray[Any]]:
    """Return one array for each of ``inputs`` from ``rows``.

    ``rows`` is an array or tensor, nested lists, a DataFrame or Arrow table, a list of
    dicts, or a dict of columns or tensors. For one input: anything of its shape, a single
    row without the batch axis, or as many columns as a row has values, by
    ``feature_names`` where the model has them and the columns too, else in their order.
    For more inputs: columns or keys with the names of the inputs. ``optional`` inputs may
    be missing.

    Raises ``InvalidInputError`` naming the input, what it takes and what it got.
    """
    if len(inputs) == 1 and _fits(rows, inputs[0]):
        return {inputs[0].name: cast("NDArray[Any]", rows)}
    frame = columns_of(rows)
    if frame is None and len(inputs) + len(feature_names) > 1:
        frame = row_by_names(rows, feature_names or [spec.name for spec in inputs])
    columns = frame if frame is not None else rows
    if not isinstance(columns, Mapping):
        if len(inputs) != 1:
            names = ", ".join(spec.name for spec in inputs)
            raise InvalidInputError(
                f"the model takes {len(inputs)} inputs ({names}), got one array",
                hint=f"give a dict or a DataFrame with {names}",
            )
        return {inputs[0].name: _tensor(columns, inputs[0])}
    if len(inputs) == 1 and _are_features(columns, inputs[0].name, feature_names):
        ordered = _in_order(columns, feature_names)
        return {inputs[0].name: _from_columns(ordered, inputs[0])}
    _check_names(columns, [spec.name for spec in inputs], optional)
    return {
        spec.name: _tensor(columns[spec.name], spec, column=frame is not None)
        for spec in inputs
        if spec.name in columns
    }


def _fits(rows: object, spec: TensorMetadata) -> bool:
    """Return whether this is an array that the input takes as it is."""
    return (
        type(rows) is np.ndarray
        and rows.dtype.kind != "O"
        and rows.dtype == DTYPES.get(spec.datatype)
        and rows.ndim == len(spec.shape)
        and rows.size > 0
        and all(there in {-1, here} for here, there in zip(rows.shape, spec.shape, strict=True))
    )


def _are_features(columns: Mapping[str, object], name: str, feature_names: Sequence[str]) -> bool:
    """Return whether these are the columns of the one input, and not the input itself."""
    return name not in columns or (name in feature_names and len(columns) > 1)


def check_row_counts(tensors: Mapping[str, NDArray[Any]]) -> int:
    """Return the number of rows; ``InvalidInputError`` if the tensors differ in it."""
    if len(tensors) == 1:
        return len(next(iter(tensors.values())))
    counts = {name: len(array) for name, array in tensors.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise InvalidInputError(f"the inputs differ in their number of rows: {listed}")
    return next(iter(counts.values()))


def _in_order(columns: Mapping[str, object], feature_names: Sequence[str]) -> Mapping[str, object]:
    """Return the columns in the order the model was trained with.

    Columns that only have numbers, 0 to the last, have no names; they stay as they are.
    """
    numbered = [str(name) for name in columns] == [str(place) for place in range(len(columns))]
    if not feature_names or numbered:
        return columns
    # LightGBM, when it is trained, writes underscores for the blanks in names.
    blanks = {name: str(name).replace(" ", "_") for name in columns if name not in feature_names}
    columns = {
        blanks[name] if blanks.get(name) in feature_names else name: values
        for name, values in columns.items()
    }
    _check_names(columns, feature_names, ())
    return {name: columns[name] for name in feature_names}


def _check_names(
    columns: Mapping[str, object], names: Sequence[str], optional: Collection[str]
) -> None:
    missing = [name for name in names if name not in columns and name not in optional]
    unknown = [str(name) for name in columns if name not in names]
    if missing or unknown:
        parts = [f"missing: {_list(missing)}"] if missing else []
        parts += [f"unknown: {_list(unknown)}"] if unknown else []
        raise InvalidInputError(
            f"the names do not match the model's ({'; '.join(parts)})",
            hint=f"the model takes {_list(names)}",
        )


def _from_columns(columns: Mapping[str, object], spec: TensorMetadata) -> NDArray[Any]:
    """Stack columns, in the order they come, into the one input of a model."""
    width = spec.shape[-1] if len(spec.shape) > 1 else 1
    if len(spec.shape) > 2 or width not in {-1, len(columns)}:  # noqa: PLR2004  rows x values
        listed = _list([str(name) for name in columns])
        raise InvalidInputError(
            f"input {spec.name!r} takes {wanted(spec)}, got {len(columns)} columns: {listed}",
            hint=f"a tensor goes by the name of the model's input, {spec.name!r}"
            if len(spec.shape) > 2  # noqa: PLR2004
            else wrong_width(len(columns), width),
        )
    arrays = {
        str(name): convert(_array(values, spec), spec, f"column {str(name)!r}")
        for name, values in columns.items()
    }
    if all(array.ndim == 0 for array in arrays.values()):  # one row, by its names
        arrays = {name: array[np.newaxis] for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.ndim != 1:
            raise InvalidInputError(
                f"column {name!r} has shape {list(array.shape)}, not one value a row",
                hint=f"a tensor goes by the name of the model's input, {spec.name!r}",
            )
    check_row_counts(arrays)
    matrix = np.stack(list(arrays.values()), axis=1)
    return fit(matrix if len(spec.shape) > 1 else matrix[:, 0], spec, column=True)


def _tensor(values: object, spec: TensorMetadata, *, column: bool = False) -> NDArray[Any]:
    array = fit(_array(values, spec), spec, column=column)
    return convert(array, spec, f"input {spec.name!r}")


def _array(values: object, spec: TensorMetadata) -> NDArray[Any]:
    try:
        values = plain(values)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"input {spec.name!r} takes {wanted(spec)}, got {error.message}", hint=error.hint
        ) from error
    if isinstance(values, np.ndarray):
        return values
    try:
        # As objects, or numpy would make text of numbers and cut zero bytes off its end.
        array = np.asarray(values, dtype=object if spec.datatype == "BYTES" else None)
        if array.dtype.kind in "US" and not hasattr(values, "dtype"):
            array = np.asarray(values, dtype=object)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = _ragged(values) or " ".join(str(error).split())
        raise InvalidInputError(f"input {spec.name!r}: {reason}") from error
    if array.dtype == object:
        if array.ndim == 0 and not isinstance(values, (str, bytes, int)):
            raise InvalidInputError(
                f"input {spec.name!r} takes {wanted(spec)},"
                f" got {'None' if values is None else f'an object of type {type(values).__name__}'}"
            )
        if any(isinstance(value, (list, tuple)) for value in array.flat):
            raise InvalidInputError(f"input {spec.name!r}: {_ragged(values) or 'ragged rows'}")
    return array


def _ragged(values: object) -> str | None:
    if not isinstance(values, (list, tuple)) or not values:
        return None
    lengths = [len(row) if isinstance(row, (list, tuple)) else 1 for row in values]
    odd = next((place for place, length in enumerate(lengths) if length != lengths[0]), None)
    if odd is None:
        return None
    return f"row {odd} has length {lengths[odd]}, but row 0 has {lengths[0]}"


def _list(names: Sequence[str]) -> str:
    shown = [repr(name) for name in names[:10]]
    return ", ".join(shown) + (f" and {len(names) - 10} more" if len(names) > 10 else "")  # noqa: PLR2004
