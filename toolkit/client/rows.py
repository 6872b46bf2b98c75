"""From the rows a person holds to the tensors a model takes, checked on the way.

Nothing is bent to fit: a value goes through if the model's data type can hold it (doubles
may lose digits in FP32, as they do in every framework), and is refused by name, row and
value if not.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.client.tensors import DTYPES
from toolkit.client.transport import TensorMetadata
from toolkit.errors import InvalidInputError


def to_tensors(
    rows: object,
    inputs: Sequence[TensorMetadata],
    *,
    optional: Collection[str] = (),
    feature_names: Sequence[str] = (),
) -> dict[str, NDArray[Any]]:
    """Return one array for each of ``inputs`` from ``rows``.

    ``rows`` is an array, nested lists, a DataFrame, or a dict of columns or tensors. For
    one input: anything of its shape, a single row without the batch axis, or as many
    columns as a row has values, by ``feature_names`` where the model has them and the
    columns too, else in their order. For more inputs: columns or keys with the names of
    the inputs. ``optional`` inputs may be missing.

    Raises ``InvalidInputError`` naming the input, what it takes and what it got.
    """
    frame = _frame_columns(rows)
    columns = frame if frame is not None else rows
    if not isinstance(columns, Mapping):
        if len(inputs) != 1:
            names = ", ".join(spec.name for spec in inputs)
            raise InvalidInputError(
                f"the model takes {len(inputs)} inputs ({names}), got one array",
                hint=f"give a dict or a DataFrame with {names}",
            )
        return {inputs[0].name: _tensor(columns, inputs[0])}
    if len(inputs) == 1 and inputs[0].name not in columns:
        ordered = _in_order(columns, feature_names)
        return {inputs[0].name: _from_columns(ordered, inputs[0])}
    _check_names(columns, [spec.name for spec in inputs], optional)
    return {
        spec.name: _tensor(columns[spec.name], spec, column=frame is not None)
        for spec in inputs
        if spec.name in columns
    }


def check_row_counts(tensors: Mapping[str, NDArray[Any]]) -> int:
    """Return the number of rows; ``InvalidInputError`` if the tensors differ in it."""
    counts = {name: len(array) for name, array in tensors.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise InvalidInputError(f"the inputs differ in their number of rows: {listed}")
    return next(iter(counts.values()))


def _frame_columns(rows: object) -> dict[str, NDArray[Any]] | None:
    """Return a DataFrame's columns; a program that never imported pandas holds none."""
    pandas = sys.modules.get("pandas")
    kind = getattr(pandas, "DataFrame", None)
    if kind is None or not isinstance(rows, kind):
        return None
    frame: Any = rows
    names = [str(name) for name in frame.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InvalidInputError(f"the DataFrame has columns of the same name: {_list(repeated)}")
    return {name: frame.iloc[:, place].to_numpy() for place, name in enumerate(names)}


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
            f"input {spec.name!r} takes {_values_a_row(spec)}, got {len(columns)} columns: {listed}"
        )
    arrays = {
        str(name): _convert(_array(values, spec), spec, f"column {str(name)!r}")
        for name, values in columns.items()
    }
    for name, array in arrays.items():
        if array.ndim != 1:
            raise InvalidInputError(
                f"column {name!r} has shape {list(array.shape)}, not one value a row",
                hint=f"a tensor goes by the name of the model's input, {spec.name!r}",
            )
    check_row_counts(arrays)
    matrix = np.stack(list(arrays.values()), axis=1)
    return _fit(matrix if len(spec.shape) > 1 else matrix[:, 0], spec, column=True)


def _tensor(values: object, spec: TensorMetadata, *, column: bool = False) -> NDArray[Any]:
    array = _fit(_array(values, spec), spec, column=column)
    return _convert(array, spec, f"input {spec.name!r}")


def _array(values: object, spec: TensorMetadata) -> NDArray[Any]:
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
    if array.dtype == object and any(isinstance(v, (list, tuple)) for v in array.flat):
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


def _fit(array: NDArray[Any], spec: TensorMetadata, *, column: bool) -> NDArray[Any]:
    """Give the array the axes that the model wants: a lone row, or a plain column."""
    shape = spec.shape
    fitted = array
    if array.ndim == 0 and all(dim in {-1, 1} for dim in shape):
        fitted = array.reshape((1,) * len(shape))
    elif array.ndim == len(shape) - 1:
        is_row = shape[0] in {-1, 1} and _matches(array.shape, shape[1:])
        is_column = shape[-1] in {-1, 1} and _matches(array.shape, shape[:-1])
        if is_column and (column or not is_row):
            fitted = array[..., np.newaxis]
        elif is_row:
            fitted = array[np.newaxis]
    if array.size == 0:
        raise InvalidInputError(
            f"input {spec.name!r} got no rows (shape {list(array.shape)}),"
            f" it takes {_values_a_row(spec)}"
        )
    if fitted.ndim != len(shape) or not _matches(fitted.shape, shape):
        raise InvalidInputError(
            f"input {spec.name!r} takes {_values_a_row(spec)}, got shape {list(array.shape)}"
        )
    return fitted


def _matches(given: Sequence[int], wanted: Sequence[int]) -> bool:
    return all(there in {-1, here} for here, there in zip(given, wanted, strict=True))


def _values_a_row(spec: TensorMetadata) -> str:
    return f"{spec.datatype} of shape {list(spec.shape)}"


def _convert(array: NDArray[Any], spec: TensorMetadata, where: str) -> NDArray[Any]:
    """Return the array in the model's data type, or refuse the first value it cannot hold."""
    target = DTYPES.get(spec.datatype)
    if target is None:
        raise InvalidInputError(f"{where}: numpy has no data type for {spec.datatype}")
    if target.kind == "O":
        return _texts(array, where)
    if array.dtype == target:
        return array
    if array.dtype == object:
        array = _numbers(array, spec, where)
    if array.dtype.kind not in "biuf":
        what = "text" if array.dtype.kind in "US" else str(array.dtype)
        first = array.flat[0]
        raise InvalidInputError(f"{where} takes {spec.datatype}, got {what} ({first!r})")
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(target)
    lost = _lost(array, converted)
    if lost.any():
        place = np.unravel_index(int(np.argmax(lost)), lost.shape)
        raise InvalidInputError(
            f"{where}: {array[place].item()!r} in {_place(place)} cannot be {spec.datatype}"
        )
    return converted


def _lost(array: NDArray[Any], converted: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the values that the conversion changed beyond rounding."""
    target = converted.dtype
    lost: NDArray[np.bool_]
    if array.dtype.kind == "b":
        lost = np.zeros(array.shape, dtype=bool)
    elif target.kind == "f":
        lost = np.isinf(converted) & np.isfinite(array)
    elif target.kind == "b":
        lost = (array != 0) & (array != 1)
    elif array.dtype.kind in "iu":
        bounds = np.iinfo(target)
        lost = (array < bounds.min) | (array > bounds.max)
    else:
        bounds = np.iinfo(target)
        doubles = array.astype(np.float64)
        # float(2**63 - 1) rounds up to 2**63, so the upper bound itself is already too large.
        fits = (doubles >= float(bounds.min)) & (doubles < float(int(bounds.max) + 1))
        lost = ~(fits & (doubles == np.trunc(doubles)))
    return lost


def _numbers(array: NDArray[Any], spec: TensorMetadata, where: str) -> NDArray[Any]:
    """Return an array of objects as one of numbers, if that is what they all are."""
    for place, value in np.ndenumerate(array):
        if not isinstance(value, (bool, int, float, np.number, np.bool_)):
            raise InvalidInputError(
                f"{where} takes {spec.datatype}, got {_shown(value)} in {_place(place)}"
            )
    return np.array(array.tolist())


def _texts(array: NDArray[Any], where: str) -> NDArray[Any]:
    texts = np.empty(array.shape, dtype=object)
    for place, value in np.ndenumerate(array):
        if not isinstance(value, (str, bytes)):
            raise InvalidInputError(f"{where} takes text, got {_shown(value)} in {_place(place)}")
        try:
            texts[place] = value.encode() if isinstance(value, str) else value
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"{where}: the text in {_place(place)} cannot be written as UTF-8"
            ) from error
    return texts


def _shown(value: object) -> str:
    shown = repr(value.item() if isinstance(value, np.generic) else value)
    return shown if len(shown) <= 40 else f"{shown[:40]}…"  # noqa: PLR2004  a line's worth


def _place(place: Sequence[int | np.intp]) -> str:
    row, *rest = (int(index) for index in place) if len(place) else (0,)
    return f"row {row}" + (f", value {', '.join(map(str, rest))}" if rest else "")


def _list(names: Sequence[str]) -> str:
    shown = [repr(name) for name in names[:10]]
    return ", ".join(shown) + (f" and {len(names) - 10} more" if len(names) > 10 else "")  # noqa: PLR2004
