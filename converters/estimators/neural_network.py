"""Multi-layer perceptrons."""

from collections.abc import Callable
from typing import Any

import numpy as np

from converters.estimators.linear import softmax
from converters.estimators.links import two_sided
from converters.estimators.registry import Answers, labelled, writes
from converters.estimators.special import expit
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor

_HALF = 0.5

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "exp": lambda x: x.apply("Exp"),
    "tanh": lambda x: x.apply("Tanh"),
    "logistic": expit,
    "relu": lambda x: x.apply("Relu"),
    "softmax": softmax,
}


@writes("sklearn:MLPRegressor")
def write_mlp_regressor(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the layers; one output is answered with one axis."""
    outputs = _outputs(model, x)
    return {"predict": outputs.reshape(-1) if outputs.width == 1 else outputs}


@writes("sklearn:MLPClassifier")
def write_mlp_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the layers; a label is predicted from above one half."""
    outputs = _outputs(model, x)
    binarizer = model._label_binarizer  # noqa: SLF001
    if binarizer.y_type_.startswith("multilabel"):
        return {"predict_proba": outputs, "predict": (outputs > _HALF).cast(np.int64)}
    if outputs.width > 1:
        index = outputs.argmax()
    else:
        outputs = softmax(two_sided(_scores(model, x)))
        index = outputs.argmax()
    return {"predict_proba": outputs, **labelled(graph, model.classes_, index)}


def _outputs(model: Any, x: Table) -> Tensor:
    return _ACTIVATIONS[model.out_activation_](_scores(model, x))


def _scores(model: Any, x: Table) -> Tensor:
    """Return what goes into the last activation."""
    value = x.matrix()
    for i, (weights, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        if i:
            value = _ACTIVATIONS[model.activation](value)
        value = value @ np.asarray(weights, dtype=np.float64)
        value = value + np.asarray(bias, dtype=np.float64)
    return value
