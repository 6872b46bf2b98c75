"""From the user's sample, or from what the model knows of itself, to the first rows."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from converters import anatomy, intake, invented, onnx_graph, reference
from converters.categories import fitted_categories, learn
from converters.missing_texts import missing_texts
from converters.options import ConversionOptions
from converters.rows import Array, Form, Rows, sent
from converters.source import LoadedModel
from toolkit.errors import SampleError
from toolkit.spec import TensorSpec

_MOST_SAMPLE_ROWS = 1000
_MOST_CELLS = 4_000_000
_INVENTED_ROWS = 32

MATRIX_INPUT = "input"
"""The name of the one input of a model that takes a matrix of numbers."""


def tabular(source: LoadedModel, options: ConversionOptions) -> Rows:
    """Return the first rows for a model that takes a matrix, named columns or texts.

    Raises:
        SampleError: the sample does not fit, or there is none and the model does not
            say how wide its rows are.
    """
    width, columns = _expected(source)
    sample = options.sample
    if sample is None:
        return _invented(source, options, width, columns)
    if isinstance(sample, Mapping):
        return _from_columns(source, sample, width, columns)
    array = np.array(sample)
    if array.ndim == 1 and array.dtype.kind in "UO":
        return _texts(array)
    if array.ndim == 1 and width in {None, 1}:
        array = array.reshape(-1, 1)
    if array.ndim == 2 and array.dtype.kind in "UO":  # noqa: PLR2004
        named = {name: array[:, i] for i, name in enumerate(columns or _numbered(array.shape[1]))}
        return _from_columns(source, named, width, columns)
    if array.ndim > 2 and array.dtype.kind in "biuf":  # noqa: PLR2004
        return tensors(array.astype(np.float64))
    if array.ndim != 2:  # noqa: PLR2004
        msg = f"the sample has {array.ndim} axes; {source.class_name} takes rows of numbers"
        raise SampleError(msg)
    return _from_matrix(source, array, width, columns)


def _numbered(width: int) -> tuple[str, ...]:
    """Return the names that scikit-learn gives to columns without one."""
    return tuple(f"x{i}" for i in range(width))


def tensors(
    sample: np.ndarray | Mapping[str, np.ndarray], names: tuple[str, ...] | None = None
) -> Rows:
    """Return the sample as tensors, in the order of ``names`` when they match.

    Raises:
        SampleError: tensors of different row counts, of no rows, or of other names.
    """
    given = dict(sample) if isinstance(sample, Mapping) else {MATRIX_INPUT: sample}
    if names is not None:
        if len(given) != len(names):
            msg = f"the sample holds {len(given)} tensors, the model takes {len(names)}"
            raise SampleError(msg, hint=f"inputs: {', '.join(names)}")
        if set(given) == set(names):
            given = {name: given[name] for name in names}
        elif isinstance(sample, Mapping):
            msg = f"the sample names {', '.join(given)}; the model takes {', '.join(names)}"
            raise SampleError(msg)
        else:
            given = dict(zip(names, given.values(), strict=True))
    values = {name: _texts_as_objects(np.array(array)) for name, array in given.items()}
    lengths = {array.shape[0] if array.ndim else 0 for array in values.values()}
    if len(lengths) != 1 or not min(lengths):
        msg = "every tensor of the sample needs the same number of rows, at least one"
        raise SampleError(msg)
    cells = max(array[0].size for array in values.values())
    most = max(2, min(_MOST_SAMPLE_ROWS, _MOST_CELLS // max(cells, 1)))
    return _limited(Form.TENSORS, (), _without_missing_text(values), most)


def invented_tensors(inputs: tuple[TensorSpec, ...], seed: int) -> Rows:
    """Return random rows for inputs of known dims.

    Raises:
        SampleError: a dimension is open, so that only a sample can tell.
    """
    rng = np.random.default_rng(seed)
    values: dict[str, Array] = {}
    for tensor in inputs:
        if -1 in tensor.dims:
            msg = f"input {tensor.name!r} has open dimensions {list(tensor.dims)}"
            raise SampleError(msg, hint="give rows to prove it with: --sample data.npy")
        shape = (_INVENTED_ROWS, *tensor.dims)
        name = tensor.dtype.numpy_name
        if name.startswith("float"):
            values[tensor.name] = rng.normal(size=shape).astype(name)
        elif name == "object":
            values[tensor.name] = np.full(shape, "text", dtype=object)
        else:
            values[tensor.name] = rng.integers(0, 2, shape).astype(name)
    return Rows(Form.TENSORS, (), values, 0)


def _expected(source: LoadedModel) -> tuple[int | None, tuple[str, ...]]:
    """Return how many columns the model takes and what it calls them."""
    model = source.model
    if hasattr(model, "num_feature") and hasattr(model, "feature_name"):  # A LightGBM booster.
        width, names = model.num_feature(), tuple(model.feature_name())
    elif source.framework == "catboost":
        names = tuple(str(name) for name in model.feature_names_ or ())
        width = len(names)
        if names == tuple(map(str, range(width))):
            names = ()  # CatBoost's own names for columns that had none.
    else:
        # Of a pipeline that begins with CatBoost it is 0.
        width = getattr(model, "n_features_in_", None) or None
        found = getattr(model, "feature_names_in_", None)
        names = () if found is None else tuple(str(name) for name in found)
    if names == tuple(f"Column_{i}" for i in range(len(names))):
        names = ()  # LightGBM's own names for columns that had none.
    return width, names


def _by_columns(source: LoadedModel, columns: tuple[str, ...]) -> bool:
    """Say whether each column is an input of its own, even where all hold numbers."""
    model = source.model
    if source.framework == "catboost" and model.get_cat_feature_indices():
        return True
    if intake.names_values(model) is not None:
        return True
    return bool(columns) and (
        anatomy.picks_by_name(model) or bool(fitted_categories(model, columns))
    )


def _command(source: LoadedModel, options: ConversionOptions) -> str:
    return f"toolkit convert {source.path}{' --trusted' if options.trusted else ''}"


def _invented(
    source: LoadedModel, options: ConversionOptions, width: int | None, columns: tuple[str, ...]
) -> Rows:
    """Return rows made up for the model; it may refuse them all the same.

    Raises:
        SampleError: it does not say what rows it takes.
    """
    names = columns or _numbered(width or 0)
    apart = _by_columns(source, columns)
    rows = None
    for made in invented.samples(source.model, width, names, apart=apart, seed=options.seed):
        rows = replace(tabular(source, replace(options, sample=made)), sample_rows=0)
        if reference.accepts(source, rows):
            return rows
    if rows is None:
        msg = f"{source.class_name} does not say what rows it takes: a sample is needed"
    else:
        msg = f"{source.class_name} takes none of the rows made up for it: a sample is needed"
    raise SampleError(msg, hint=f"{_command(source, options)} --sample data.csv")


def _from_matrix(
    source: LoadedModel, array: Array, width: int | None, columns: tuple[str, ...]
) -> Rows:
    if width is not None and array.shape[1] != width:
        raise _wrong_width(array.shape[1], width)
    if array.dtype.kind not in "biuf":
        msg = f"the sample is a matrix of {array.dtype}, not of numbers"
        raise SampleError(msg, hint="give text in named columns: .csv, .parquet or .jsonl")
    if _by_columns(source, columns):
        named = dict(zip(columns or _numbered(array.shape[1]), array.T, strict=True))
        return _from_columns(source, named, width, columns)
    matrix = array.astype(np.float64)
    return _limited(Form.MATRIX, columns, {MATRIX_INPUT: matrix}, _MOST_SAMPLE_ROWS)


def _from_columns(
    source: LoadedModel,
    sample: Mapping[str, np.ndarray],
    width: int | None,
    columns: tuple[str, ...],
) -> Rows:
    if len(sample) == 1 and (only := np.array(next(iter(sample.values())))).ndim == 2:  # noqa: PLR2004
        return _from_matrix(source, only, width, columns)  # As in an .npz file of one matrix.
    sample = _by_model_names(sample, columns)
    learn(source.model, sample)
    missing = [name for name in columns if name not in sample]
    if missing:
        msg = f"the sample lacks columns of {source.class_name}: {', '.join(missing)}"
        raise SampleError(msg, hint=f"the sample has: {', '.join(sample)}")
    wanted = columns or tuple(sample)
    read = {name: _column(name, np.array(sample[name])) for name in wanted}
    apart = _by_columns(source, wanted)
    if not columns and len(read) == 1 and width is None and not apart:
        only = next(iter(read.values()))
        if only.dtype == object:
            return _texts(only)
    if width is not None and len(read) != width:
        raise _wrong_width(len(read), width)
    if all(array.dtype.kind in "biuf" for array in read.values()) and not apart:
        matrix = np.column_stack([array.astype(np.float64) for array in read.values()])
        return _limited(Form.MATRIX, columns, {MATRIX_INPUT: matrix}, _MOST_SAMPLE_ROWS)
    sendable = set(missing_texts(source.model, wanted))
    if intake.names_values(source.model) is not None:
        sendable = set(wanted)
    whole = _without_missing_text(
        {n: _sendable(a) if n in sendable else a for n, a in read.items()}
    )
    return _limited(Form.COLUMNS, wanted, whole, _MOST_SAMPLE_ROWS)


def _sendable(array: Array) -> Array:
    """Write the empty text for a missing one, where the model takes it as such."""
    if array.dtype != object:
        return array
    return np.array(["" if cell is None else cell for cell in array.tolist()], dtype=object)


def _by_model_names(
    sample: Mapping[str, np.ndarray], columns: tuple[str, ...]
) -> Mapping[str, np.ndarray]:
    """Rename columns as LightGBM does, which makes a blank an underscore, where that fits."""
    wanted = {name for name in columns if name not in sample}
    renamed = [name.replace(" ", "_") for name in sample]
    return {
        new if new in wanted and renamed.count(new) == 1 else name: values
        for (name, values), new in zip(sample.items(), renamed, strict=True)
    }


def _wrong_width(given: int, expected: int) -> SampleError:
    return SampleError(
        f"the sample has {given} columns, the model takes {expected}",
        hint="leave a column out, the target for one, with --drop COLUMN",
    )


def _column(name: str, array: Array) -> Array:
    """Return one column as float64, int64, bool or object (texts, ``None`` missing)."""
    if array.ndim != 1:
        msg = f"column {name!r} has {array.ndim} axes, not one"
        raise SampleError(msg)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind == "f":
        return array.astype(np.float64)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind not in "OU":
        msg = f"column {name!r} holds {array.dtype}, which Triton has no data type for"
        raise SampleError(msg, hint=f"--drop {name}")
    cells = [None if _is_missing(cell) else cell for cell in array.tolist()]
    known = [cell for cell in cells if cell is not None]
    if all(isinstance(cell, str) for cell in known):
        return np.array(cells, dtype=object)
    if all(isinstance(cell, bool | int | float) for cell in known):
        return np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)
    msg = f"column {name!r} mixes texts and other values"
    raise SampleError(msg, hint=f"--drop {name}")


def _is_missing(cell: object) -> bool:
    # NaN, NaT and pandas' NA, told by name: pandas need not be installed to hold them.
    return cell is None or (not isinstance(cell, str) and str(cell) in {"nan", "NaT", "<NA>"})


def _without_missing_text(read: dict[str, Array]) -> dict[str, Array]:
    """Leave out rows with a missing text: the V2 protocol cannot send one.

    Raises:
        SampleError: no row is left.
    """
    length = len(next(iter(read.values())))
    keep = np.ones(length, dtype=bool)
    for array in read.values():
        if array.dtype == object:
            there = np.array([cell is not None for cell in array.flat], dtype=bool)
            keep &= there.reshape(length, -1).all(axis=1)
    if length and not keep.any():
        msg = "a text is missing in every row of the sample, and Triton takes no missing text"
        raise SampleError(msg, hint="give at least one row without an empty cell")
    return {name: array[keep] for name, array in read.items()}


def _texts(array: Array) -> Rows:
    texts = _without_missing_text({MATRIX_INPUT: _column(MATRIX_INPUT, array)})
    return _limited(Form.TEXTS, (), texts, _MOST_SAMPLE_ROWS)


def _texts_as_objects(array: Array) -> Array:
    return array.astype(object) if array.dtype.kind == "U" else array


def _limited(form: Form, columns: tuple[str, ...], values: dict[str, Array], most: int) -> Rows:
    values = {name: array[:most] for name, array in values.items()}
    count = len(next(iter(values.values())))
    if not count:
        msg = "the sample holds no rows"
        raise SampleError(msg)
    return Rows(form, columns, values, count)


def first_rows(source: LoadedModel, options: ConversionOptions) -> Rows:
    """Return the rows to begin with: the sample, or invented ones where that can be done.

    Raises:
        SampleError: the sample does not fit the model, or there is none and it is needed.
    """
    if source.framework == "onnx":
        return _for_onnx(source, options)
    if source.framework in {"torch", "torchscript"}:
        return _for_torch(source, options)
    return tabular(source, options)


def _for_onnx(source: LoadedModel, options: ConversionOptions) -> Rows:
    inputs, _, batched = onnx_graph.signature(onnx_graph.session(source.path))
    if options.sample is None:
        return invented_tensors(inputs, options.seed)
    sample = options.sample
    if not batched and not isinstance(sample, Mapping):
        sample = sample[None] if sample.ndim == len(inputs[0].dims) else sample
    rows = tensors(sample, tuple(tensor.name for tensor in inputs))
    for tensor, array in zip(inputs, rows.tensors.values(), strict=True):
        dims = array.shape[1:]
        fits = len(dims) == len(tensor.dims) and all(
            wanted in {-1, given} for wanted, given in zip(tensor.dims, dims, strict=True)
        )
        if not fits:
            msg = f"input {tensor.name!r} takes rows of {list(tensor.dims)}, not of {list(dims)}"
            raise SampleError(msg)
    return Rows(Form.TENSORS, (), sent(rows, inputs), rows.sample_rows)


def _for_torch(source: LoadedModel, options: ConversionOptions) -> Rows:
    if options.sample is None:
        msg = f"{source.class_name} does not say what tensors it takes: a sample is needed"
        raise SampleError(msg, hint=f"{_command(source, options)} --sample data.npy")
    sample = options.sample
    if source.framework == "torch" and isinstance(sample, Mapping):
        parameters = tuple(inspect.signature(source.model.forward).parameters)
        sample = {name: sample[name] for name in sorted(sample, key=_position(parameters))}
        _check_arguments(source, tuple(sample), parameters)
    rows = tensors(sample)
    # Modules hold float32 weights and take nothing else, unless they say so.
    double = any(p.dtype.itemsize == 8 and p.is_floating_point() for p in source.model.parameters())  # noqa: PLR2004
    values = {
        name: array if double or array.dtype != np.float64 else array.astype(np.float32)
        for name, array in rows.tensors.items()
    }
    return Rows(Form.TENSORS, (), values, rows.sample_rows)


def _check_arguments(
    source: LoadedModel, names: tuple[str, ...], parameters: tuple[str, ...]
) -> None:
    """Raise ``SampleError`` for names that are not the first arguments: tensors go by position."""
    known = [name for name in names if name in parameters]
    if known and known != list(parameters[: len(known)]):
        left = next(name for name in parameters if name not in known)
        msg = f"the sample names {', '.join(names)} and leaves out {left}, an argument before"
        raise SampleError(msg, hint=f"{source.class_name}.forward takes {', '.join(parameters)}")


def _position(parameters: tuple[str, ...]) -> Callable[[str], int]:
    return lambda name: parameters.index(name) if name in parameters else len(parameters)
