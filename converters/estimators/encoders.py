"""Encoders of categories: one position a column, and what each class makes of it."""

from typing import Any

import numpy as np

from converters.estimators.categories import one_hot, position, positions, unknown_in
from converters.estimators.registry import Answers, writes
from converters.estimators.table import Table
from converters.onnx_writer import Array, Graph
from toolkit.errors import UnsupportedModelError


@writes("sklearn:OneHotEncoder")
def write_one_hot_encoder(graph: Graph, model: Any, x: Table) -> Answers:
    """Write a 1.0 for each column's category, float64 whatever ``dtype`` is."""
    strict = model.handle_unknown == "error"
    found = positions(x, model.categories_, "OneHotEncoder", strict=strict)
    codes, widths = [], []
    for i, place in enumerate(found):
        table = _one_hot_codes(model, i)
        width = int(model._n_features_outs[i])  # noqa: SLF001 - nothing public tells it
        table = np.where(table < 0, width, table)
        codes.append(place.lookup(table[:-1] if strict else table, unknown_in(x, i)))
        widths.append(width)
    return {"transform": one_hot(graph, codes, widths)}


def _one_hot_codes(model: Any, i: int) -> Array:
    """Return the output column of each category, the unknown last; -1 is none."""
    count = len(model.categories_[i])
    codes = np.arange(count)
    unknown = -1
    if model._infrequent_enabled:  # noqa: SLF001 - as the library groups them
        mapping = model._default_to_infrequent_mappings[i]  # noqa: SLF001 - as above
        infrequent = model._infrequent_indices[i]  # noqa: SLF001 - as above
        if mapping is not None:
            codes = np.asarray(mapping)
        if infrequent is not None and model.handle_unknown in {"infrequent_if_exist", "warn"}:
            unknown = int(codes[infrequent[0]])
    codes = np.append(codes, unknown).astype(np.int64)
    dropped = model._drop_idx_after_grouping  # noqa: SLF001 - as above
    if dropped is not None and dropped[i] is not None:
        drop = int(dropped[i])
        codes = np.where(codes == drop, -1, np.where(codes > drop, codes - 1, codes))
    return codes


@writes("sklearn:OrdinalEncoder")
def write_ordinal_encoder(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the position of each category, or the values set for unknown and missing ones."""
    strict = model.handle_unknown == "error"
    found = positions(x, model.categories_, "OrdinalEncoder", strict=strict)
    columns = [
        place.lookup(_ordinals(model, i, strict), unknown_in(x, i)) for i, place in enumerate(found)
    ]
    return {"transform": graph.concat(columns)}


def _ordinals(model: Any, i: int, strict: bool) -> Array:
    """Return the number of each category; last comes the unknown, unless it is an error."""
    codes = np.arange(len(model.categories_[i]))
    missing = model._missing_indices.get(i)  # noqa: SLF001 - as the library numbers them
    mapping = None
    if model._infrequent_enabled:  # noqa: SLF001 - as above
        mapping = model._default_to_infrequent_mappings[i]  # noqa: SLF001 - as above
    if mapping is not None:
        # The missing category comes last and keeps its number; ``mapping`` may leave it out.
        others = codes[codes != missing] if missing is not None else codes
        codes[others] = np.asarray(mapping)[others]
    numbers = codes.astype(model.dtype).astype(np.float64)
    if missing is not None:
        numbers[codes == missing] = model.encoded_missing_value
    return numbers if strict else np.append(numbers, float(model.unknown_value))


@writes("sklearn:TargetEncoder")
def write_target_encoder(graph: Graph, model: Any, x: Table) -> Answers:
    """Write what the target was on average for each category; of unknown ones, for all."""
    found = positions(x, model.categories_, "TargetEncoder", strict=False)
    means = np.atleast_1d(model.target_mean_).astype(np.float64)
    each = len(means)
    columns = []
    for i, place in enumerate(found):
        encodings = np.stack(model.encodings_[i * each : (i + 1) * each], axis=1)
        table = np.concatenate([encodings, means.reshape(1, -1)]).astype(np.float64)
        columns.append(place.reshape(-1).lookup(table))
    return {"transform": graph.concat(columns)}


@writes("sklearn:LabelEncoder")
def write_label_encoder(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the position of a label in ``classes_``, int64 ``(rows,)``."""
    (place,) = positions(x, [model.classes_], "LabelEncoder", strict=True)
    count = np.arange(len(model.classes_), dtype=np.int64)
    return {"transform": place.reshape(-1).lookup(graph.constant(count), unknown_in(x, 0))}


@writes("sklearn:LabelBinarizer")
def write_label_binarizer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write ``pos_label`` where a label is, int64; an unknown one is nowhere."""
    if model.y_type_.startswith("multilabel"):
        msg = "LabelBinarizer: it was fitted with several labels a row"
        raise UnsupportedModelError(msg)
    classes = model.classes_
    columns = x.columns()
    if len(columns) != 1:
        msg = f"LabelBinarizer: it takes one column and is given {len(columns)}"
        raise UnsupportedModelError(msg)
    place = position(columns[0], classes, "LabelBinarizer", len(classes))
    # With two classes the library keeps the column of the second; with one, that of none.
    wanted = np.array([1]) if model.y_type_ == "binary" else np.arange(len(classes))
    there = place.eq(wanted.astype(np.int64).reshape(1, -1))
    yes, no = (np.array(label, dtype=np.int64) for label in (model.pos_label, model.neg_label))
    return {"transform": graph.where(there, graph.constant(yes), graph.constant(no))}
