"""Objects that answer for others; this file travels with the pickle that holds one.

It is imported by its bare name, from the folder of the pickle, wherever that is served.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class Ensemble:
    """Models that answer together: the weighted ``average`` of numbers, or a ``vote`` on labels.

    The average of classifiers that give probabilities is that of their probabilities.
    """

    def __init__(self, models: Sequence[Any], weights: Sequence[float], method: str) -> None:
        self.models = list(models)
        self.weights = [float(weight) for weight in weights]
        self.method = method
        first = models[0]
        width = first.num_feature() if hasattr(first, "num_feature") else None
        width = width or getattr(first, "n_features_in_", None)
        if width is not None:
            self.n_features_in_ = int(width)
        names = getattr(first, "feature_names_in_", None)
        if names is not None:
            self.feature_names_in_ = np.asarray(names)
        if method == "average" and all(hasattr(model, "predict_proba") for model in models):
            self.classes_ = np.asarray(first.classes_)
            if any(not np.array_equal(model.classes_, self.classes_) for model in models):
                raise ValueError("the models of the ensemble know different classes")
            self.predict_proba = _Probabilities(self)

    def predict(self, rows: Any) -> Any:
        """Return one answer a row."""
        if hasattr(self, "predict_proba"):
            return self.classes_[np.argmax(self.predict_proba(rows), axis=1)]
        answers = [np.asarray(model.predict(rows)) for model in self.models]
        if self.method == "average":
            return np.average(np.stack(answers), axis=0, weights=self.weights)
        labels = np.unique(np.concatenate([answer.ravel() for answer in answers]))
        scores = np.zeros((len(labels), *answers[0].shape))
        for answer, weight in zip(answers, self.weights, strict=True):
            for place, label in enumerate(labels):
                scores[place] += weight * (answer == label)
        return labels[np.argmax(scores, axis=0)]


class _Probabilities:
    """The method ``predict_proba``, of those ensembles only that have it."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble

    def __call__(self, rows: Any) -> Any:
        each = [model.predict_proba(rows) for model in self.ensemble.models]
        return np.average(np.stack(each), axis=0, weights=self.ensemble.weights)


class Called:
    """A function that is asked as a model is."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def predict(self, rows: Any) -> Any:
        """Return what the function says of ``rows``."""
        return self.function(rows)
