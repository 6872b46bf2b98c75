"""Pipelines that prepare one matrix of numbers for a model."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn import (
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    kernel_approximation,
    linear_model,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
)
from sklearn.pipeline import make_pipeline

from benchmarks.models import data, steps
from benchmarks.models.case import Array, Case, Fitted, own_steps


def cases() -> Iterator[Case]:
    """Yield the cases."""
    for name, (make, pair) in _CASES.items():
        yield Case("pipelines", name, steps.fitting(make, pair))
    yield Case("pipelines", "pandas output", _pandas_output)


def _pandas_output() -> Fitted:
    columns = data.people()
    numbers = {name: columns[name] for name in ("age", "income", "children")}
    model = make_pipeline(steps.impute(), steps.scale(), linear_model.Ridge()).set_output(
        transform="pandas"
    )
    return model.fit(data.frame(numbers), data.people_score(columns)), dict(numbers)


def _first_only() -> tuple[Array, Array]:
    """Return labels that the first column alone decides."""
    x, _ = data.numbers()
    return x, (x[:, 0] > 0.3).astype(np.int64)


def _union() -> Any:
    return pipeline.make_union(decomposition.PCA(3), feature_selection.SelectKBest(k=3))


def _function(function: Any, **settings: Any) -> Any:
    return preprocessing.FunctionTransformer(function, **settings)


def _bins(**settings: Any) -> Any:
    return preprocessing.KBinsDiscretizer(
        n_bins=5, quantile_method="averaged_inverted_cdf", **settings
    )


def _process(kind: str) -> Any:
    return getattr(gaussian_process, kind)(random_state=0)


_CASES: dict[str, tuple[Callable[[], Any], steps.Data]] = {
    "scale, logistic": (lambda: make_pipeline(steps.scale(), steps.logistic()), data.numbers),
    "scale, logistic, text labels": (
        lambda: make_pipeline(steps.scale(), steps.logistic()),
        steps.named_labels,
    ),
    "min-max, linear SVC": (
        lambda: make_pipeline(preprocessing.MinMaxScaler(), svm.LinearSVC()),
        data.numbers,
    ),
    "min-max clipped, ridge": (
        lambda: make_pipeline(preprocessing.MinMaxScaler(clip=True), linear_model.Ridge()),
        data.values,
    ),
    "max-abs, SGD": (
        lambda: make_pipeline(
            preprocessing.MaxAbsScaler(), linear_model.SGDClassifier(random_state=0)
        ),
        data.numbers,
    ),
    "robust, SVC": (lambda: make_pipeline(preprocessing.RobustScaler(), svm.SVC()), data.numbers),
    "scale, SVR": (lambda: make_pipeline(steps.scale(), svm.SVR()), data.values),
    "scale, neighbors": (
        lambda: make_pipeline(steps.scale(), neighbors.KNeighborsClassifier()),
        data.numbers,
    ),
    "scale, neighbors regressor": (
        lambda: make_pipeline(steps.scale(), neighbors.KNeighborsRegressor(weights="distance")),
        data.values,
    ),
    "scale, gaussian process": (
        lambda: make_pipeline(steps.scale(), _process("GaussianProcessRegressor")),
        data.values,
    ),
    "scale, gaussian process classifier": (
        lambda: make_pipeline(steps.scale(), _process("GaussianProcessClassifier")),
        steps.binary,
    ),
    "scale, MLP": (
        lambda: make_pipeline(
            steps.scale(), neural_network.MLPClassifier((16,), max_iter=50, random_state=0)
        ),
        data.numbers,
    ),
    "scale, forest": (lambda: make_pipeline(steps.scale(), steps.forest()), data.numbers),
    "scale, forest, text labels": (
        lambda: make_pipeline(steps.scale(), steps.forest()),
        steps.named_labels,
    ),
    "scale, forest regressor": (
        lambda: make_pipeline(steps.scale(), steps.regression_forest()),
        steps.many_values,
    ),
    "scale, boosting": (
        lambda: make_pipeline(steps.scale(), ensemble.GradientBoostingClassifier(**steps.TREES)),
        data.numbers,
    ),
    "scale, hist boosting": (
        lambda: make_pipeline(steps.scale(), ensemble.HistGradientBoostingClassifier(max_iter=20)),
        data.missing,
    ),
    "scale, LDA": (
        lambda: make_pipeline(steps.scale(), discriminant_analysis.LinearDiscriminantAnalysis()),
        steps.binary,
    ),
    "mean, logistic": (
        lambda: make_pipeline(steps.impute(), steps.scale(), steps.logistic()),
        data.missing,
    ),
    "median with indicator, logistic": (
        lambda: make_pipeline(
            steps.impute(strategy="median", add_indicator=True), steps.scale(), steps.logistic()
        ),
        data.missing,
    ),
    "constant, forest": (
        lambda: make_pipeline(steps.impute(strategy="constant", fill_value=-9.0), steps.forest()),
        data.missing,
    ),
    "mode, forest regressor": (
        lambda: make_pipeline(steps.impute(strategy="most_frequent"), steps.regression_forest()),
        steps.missing_values,
    ),
    "mean with indicator, forest": (
        lambda: make_pipeline(steps.impute(add_indicator=True), steps.forest()),
        data.missing,
    ),
    "neighbors imputer, ridge": (
        lambda: make_pipeline(impute.KNNImputer(), linear_model.Ridge()),
        steps.missing_values,
    ),
    "missing indicator union": (
        lambda: make_pipeline(
            pipeline.make_union(steps.impute(), impute.MissingIndicator()), steps.logistic()
        ),
        data.missing,
    ),
    "bins one-hot, logistic": (lambda: make_pipeline(_bins(), steps.logistic()), data.numbers),
    "bins ordinal, tree": (
        lambda: make_pipeline(_bins(encode="ordinal", strategy="uniform"), steps.tree()),
        data.numbers,
    ),
    "bins dense, ridge": (
        lambda: make_pipeline(_bins(encode="onehot-dense"), linear_model.Ridge()),
        data.values,
    ),
    "splines, ridge": (
        lambda: make_pipeline(preprocessing.SplineTransformer(), linear_model.Ridge()),
        data.values,
    ),
    "splines continued, ridge": (
        lambda: make_pipeline(
            preprocessing.SplineTransformer(extrapolation="continue", knots="quantile"),
            linear_model.Ridge(),
        ),
        data.values,
    ),
    "polynomial, ridge": (
        lambda: make_pipeline(
            steps.scale(), preprocessing.PolynomialFeatures(2), linear_model.Ridge()
        ),
        data.values,
    ),
    "interactions, logistic": (
        lambda: make_pipeline(
            steps.scale(),
            preprocessing.PolynomialFeatures(2, interaction_only=True),
            steps.logistic(),
        ),
        data.numbers,
    ),
    "quantiles, logistic": (
        lambda: make_pipeline(preprocessing.QuantileTransformer(n_quantiles=100), steps.logistic()),
        data.numbers,
    ),
    "normal quantiles, ridge": (
        lambda: make_pipeline(
            preprocessing.QuantileTransformer(n_quantiles=200, output_distribution="normal"),
            linear_model.Ridge(),
        ),
        data.values,
    ),
    "Yeo-Johnson, logistic": (
        lambda: make_pipeline(preprocessing.PowerTransformer(), steps.logistic()),
        data.numbers,
    ),
    "Box-Cox, ridge": (
        lambda: make_pipeline(
            preprocessing.PowerTransformer(method="box-cox"), linear_model.Ridge()
        ),
        data.positive,
    ),
    "normalize, SVC": (lambda: make_pipeline(preprocessing.Normalizer(), svm.SVC()), data.numbers),
    "binarize, Bernoulli": (
        lambda: make_pipeline(preprocessing.Binarizer(threshold=0.2), naive_bayes.BernoulliNB()),
        data.numbers,
    ),
    "best columns, logistic": (
        lambda: make_pipeline(feature_selection.SelectKBest(k=4), steps.scale(), steps.logistic()),
        data.numbers,
    ),
    "varied columns, forest": (
        lambda: make_pipeline(feature_selection.VarianceThreshold(1.0), steps.forest()),
        data.numbers,
    ),
    "selected columns, forest": (
        lambda: make_pipeline(feature_selection.SelectFromModel(steps.forest()), steps.forest()),
        data.numbers,
    ),
    "selected first column": (
        lambda: make_pipeline(
            feature_selection.SelectFromModel(steps.tree(), threshold=0.5), steps.logistic()
        ),
        _first_only,
    ),
    "eliminated columns": (
        lambda: make_pipeline(
            steps.scale(), feature_selection.RFE(steps.logistic()), steps.logistic()
        ),
        data.numbers,
    ),
    "PCA, logistic": (
        lambda: make_pipeline(steps.scale(), decomposition.PCA(4), steps.logistic()),
        data.numbers,
    ),
    "whitened PCA, SVC": (
        lambda: make_pipeline(decomposition.PCA(4, whiten=True), svm.SVC(kernel="poly")),
        data.numbers,
    ),
    "SVD, ridge": (
        lambda: make_pipeline(decomposition.TruncatedSVD(4, random_state=0), linear_model.Ridge()),
        data.values,
    ),
    "NMF, logistic": (
        lambda: make_pipeline(decomposition.NMF(4, random_state=0), steps.logistic()),
        data.positive,
    ),
    "ICA, neighbors": (
        lambda: make_pipeline(
            decomposition.FastICA(4, random_state=0), neighbors.KNeighborsClassifier(3)
        ),
        data.numbers,
    ),
    "Nystroem, SGD": (
        lambda: make_pipeline(
            kernel_approximation.Nystroem(n_components=30, random_state=0),
            linear_model.SGDClassifier(loss="log_loss", random_state=0),
        ),
        data.numbers,
    ),
    "union of PCA and columns": (
        lambda: make_pipeline(steps.scale(), _union(), steps.logistic()),
        data.numbers,
    ),
    "nested": (
        lambda: make_pipeline(
            make_pipeline(steps.impute(), steps.scale()),
            make_pipeline(decomposition.PCA(4), steps.logistic()),
        ),
        data.missing,
    ),
    "log1p, ridge": (
        lambda: make_pipeline(_function(np.log1p), linear_model.Ridge()),
        data.positive,
    ),
    "sqrt, forest": (lambda: make_pipeline(_function(np.sqrt), steps.forest()), data.positive),
    "identity, logistic": (lambda: make_pipeline(_function(None), steps.logistic()), data.numbers),
    "clip, logistic": (
        lambda: make_pipeline(
            _function(np.clip, kw_args={"a_min": -1.0, "a_max": 1.0}), steps.logistic()
        ),
        data.numbers,
    ),
    "own function, logistic": (
        lambda: make_pipeline(_function(own_steps().ratios), steps.logistic()),
        data.numbers,
    ),
    "own subclass of logistic": (
        lambda: make_pipeline(steps.scale(), own_steps().CarefulRegression()),
        data.numbers,
    ),
    "own subclass of a tree": (
        lambda: make_pipeline(steps.scale(), own_steps().DoubtfulTree(max_depth=4)),
        data.numbers,
    ),
    "own transformer, forest": (
        lambda: make_pipeline(own_steps().Clipper(), steps.forest()),
        data.numbers,
    ),
    "own classifier": (
        lambda: make_pipeline(steps.scale(), own_steps().NearestTo()),
        steps.named_labels,
    ),
}
