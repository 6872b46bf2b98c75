"""Steps that a user wrote: models refer to this module by its bare name."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier


class CarefulRegression(LogisticRegression):  # type: ignore[misc]
    """A subclass that changes nothing but its name."""


class DoubtfulTree(DecisionTreeClassifier):  # type: ignore[misc]
    """A subclass whose probabilities are drawn towards even ones."""

    def predict_proba(self, X: Any, check_input: bool = True) -> Any:  # noqa: N803
        """Return flattened probabilities."""
        given = super().predict_proba(X, check_input)
        return 0.8 * given + 0.2 / given.shape[1]


class Clipper(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Clip each column to the quantiles it was fitted with."""

    def __init__(self, share: float = 0.05) -> None:
        self.share = share

    def fit(self, X: Any, y: Any = None) -> "Clipper":  # noqa: N803
        """Learn the quantiles."""
        del y
        self.low_, self.high_ = np.quantile(np.asarray(X), [self.share, 1 - self.share], axis=0)
        self.n_features_in_ = np.shape(X)[1]
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803
        """Return the clipped matrix."""
        return np.clip(np.asarray(X), self.low_, self.high_)


class NearestTo(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Say which class has the nearest mean, by the sum of absolute differences."""

    def fit(self, X: Any, y: Any) -> "NearestTo":  # noqa: N803
        """Learn the means."""
        X = np.asarray(X)  # noqa: N806
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == label].mean(axis=0) for label in self.classes_])
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Return labels."""
        far = np.abs(np.asarray(X)[:, None, :] - self.means_[None]).sum(axis=2)
        return self.classes_[far.argmin(axis=1)]


def ratios(matrix: Any) -> Any:
    """Return each column divided by the sum of the absolute values of its row, plus one."""
    matrix = np.asarray(matrix)
    return matrix / (1.0 + np.abs(matrix).sum(axis=1, keepdims=True))


def words(text: str) -> list[str]:
    """Split at commas and blanks."""
    return [word for word in text.lower().replace(",", " ").split(" ") if word]
