"""A forest as Triton's FIL backend answers it: read by treelite, computed in float32.

The rules are those of ``src/tl_model.h`` in triton-inference-server/fil_backend. The proof
of a conversion runs this same file, so that what is served is what was proven.
"""

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_MULTICLASS = 2  # treelite's TaskType::kMultiClf


class Shape(NamedTuple):
    """What a forest takes and gives: FIL calls a binary classifier one of one class."""

    features: int
    targets: int
    classes: int


class Forest:
    """A forest and how it is asked; ``threads`` below 1 are all of the machine's."""

    def __init__(self, model: Any, settings: Any) -> None:
        from treelite.gtil.gtil import GTILConfig

        header = model.get_header_accessor()
        self._model = model
        self._settings = settings
        self._config = GTILConfig(predict_type="default", nthread=settings.threads)
        self.shape = Shape(
            int(model.num_feature),
            int(header.get_field("num_target")[0]),
            int(header.get_field("num_class").max()),
        )
        if settings.probabilities and int(header.get_field("task_type")[0]) == _MULTICLASS:
            # Whatever the model's own link is: FIL knows these two for several classes.
            vectors = int(header.get_field("leaf_vector_shape")[1]) > 1
            header.set_field("postprocessor", "identity_multiclass" if vectors else "softmax")

    def widths(self) -> tuple[int, ...]:
        """Return the widths that ``output__0`` may have."""
        if not self._settings.classifier:
            return (1,)
        if not self._settings.probabilities:
            return (1,)
        return (2, 1) if self.shape.classes == 1 else (self.shape.classes,)

    def answer(self, rows: Any, width: int) -> Any:
        """Return float32 of shape (rows, ``width``) for float32 rows."""
        values = self._computed(rows)
        if not self._settings.classifier:
            return values
        if self._settings.probabilities:
            binary = self.shape.classes == 1 and width > 1
            return np.hstack([np.float32(1.0) - values, values]) if binary else values
        if self.shape.classes > 1:
            return values.argmax(axis=1).astype(np.float32).reshape(-1, 1)
        return (values > np.float32(self._settings.threshold)).astype(np.float32)

    def _computed(self, rows: Any) -> Any:
        """Ask treelite in float32, as FIL does.

        ``treelite.gtil.predict`` itself would widen the rows of a float64 model and sum in
        float64 (4.8), so its C function is called as that calls it, with the other type.
        """
        from treelite.core import _LIB, _check_call

        rows = np.ascontiguousarray(rows, dtype=np.float32)
        count = ctypes.c_uint64(len(rows))
        sizes = ctypes.POINTER(ctypes.c_uint64)()
        axes = ctypes.c_uint64()
        handle, config = self._model.handle, self._config.handle
        _check_call(
            _LIB.TreeliteGTILGetOutputShape(
                handle, count, config, ctypes.byref(sizes), ctypes.byref(axes)
            )
        )
        values = np.zeros([sizes[axis] for axis in range(axes.value)], np.float32)
        floats = ctypes.POINTER(ctypes.c_float)
        _check_call(
            _LIB.TreeliteGTILPredict(
                handle,
                rows.ctypes.data_as(floats),
                ctypes.c_char_p(b"float32"),
                count,
                values.ctypes.data_as(floats),
                config,
            )
        )
        return values.reshape(len(rows), -1)


def load(path: Path, settings: Any) -> Forest:
    """Read a model file of the kind that ``settings`` name; treelite raises what it raises."""
    import treelite

    kind = settings.model_type
    if kind == "treelite_checkpoint":
        model = treelite.Model.deserialize(path)
    elif kind == "lightgbm":
        model = treelite.frontend.load_lightgbm_model(path)
    elif kind == "xgboost":
        model = treelite.frontend.load_xgboost_model_legacy_binary(path)
    else:
        model = treelite.frontend.load_xgboost_model(
            path,
            format_choice="json" if kind == "xgboost_json" else "ubjson",
            allow_unknown_field=settings.unknown_fields,
        )
    return Forest(model, settings)
