"""The links between raw scores and predictions of scikit-learn's losses."""

from typing import Any

import numpy as np

from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError


def _name(loss: Any) -> str:
    return type(loss.link).__name__


def inverse(loss: Any, raw: Tensor) -> Tensor:
    """Return predictions for raw scores of shape (rows, n).

    Raises:
        UnsupportedModelError: a link that scikit-learn 1.9 does not have.
    """
    name = _name(loss)
    if name == "IdentityLink":
        return raw
    if name == "LogLink":
        return raw.apply("Exp")
    if name == "LogitLink":
        return raw.apply("Sigmoid")
    if name == "HalfLogitLink":
        return (raw * 2.0).apply("Sigmoid")
    if name == "MultinomialLogit":
        return raw.apply("Softmax", axis=1)
    raise _unknown(loss)


def link(loss: Any, predictions: Tensor) -> Tensor:
    """Return raw scores for predictions of shape (rows, n).

    Raises:
        UnsupportedModelError: a link that no ``init`` estimator is known to need.
    """
    name = _name(loss)
    if name in {"LogitLink", "HalfLogitLink"}:
        logit = (predictions / (1.0 - predictions)).apply("Log")
        return logit * 0.5 if name == "HalfLogitLink" else logit
    if name == "MultinomialLogit":
        logs = predictions.apply("Log")
        mean = logs.sum() / float(predictions.width)
        return (predictions / mean.apply("Exp")).apply("Log")
    raise _unknown(loss)


def from_raw_scores(graph: Graph, loss: Any, raw: Tensor) -> Tensor:
    """Return the probabilities of all classes, shape (rows, classes)."""
    if raw.width > 1:
        return inverse(loss, raw)
    if _name(loss) == "LogitLink":
        return two_sided(raw).apply("Softmax", axis=1)
    one = inverse(loss, raw)
    return graph.concat([1.0 - one, one])


def two_sided(score: Tensor) -> Tensor:
    """Return 0 and the score, (rows, 2): the softmax is 1 - sigmoid and sigmoid.

    Three nodes for label and probabilities, where sigmoid and comparison take six.
    """
    written = score.graph.written
    key = ("two_sided", score.name)
    if key not in written:
        written[key] = score @ np.array([[0.0, 1.0]])
    sides: Tensor = written[key]
    return sides


def predicted(loss: Any, raw: Tensor) -> Tensor:
    """Return a regressor's predictions, shape (rows,)."""
    return inverse(loss, raw).cast(np.float64).reshape(-1)


def _unknown(loss: Any) -> UnsupportedModelError:
    return UnsupportedModelError(f"the link {_name(loss)} is not written as exact ONNX")
