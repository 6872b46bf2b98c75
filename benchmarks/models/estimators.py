"""Every scikit-learn estimator that answers rows: one case each, by its class's name.

The set is made from ``all_estimators``, so that a new release adds its new classes; the
tables below say only what the defaults of this module do not fit.
"""

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.models import data
from benchmarks.models.case import Array, Case, Fitted, Sample

_SEED = 0
_TREES = 20


@functools.cache
def classes() -> dict[str, type]:
    """Return the classes with ``predict`` or ``transform``, by name.

    ``FrozenEstimator`` has what the estimator inside it has.
    """
    # Without these imports a release hides its newest classes.
    from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401
    from sklearn.utils import all_estimators

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Importing every module of it warns of some.
        found = dict(all_estimators())
    return {
        name: cls
        for name, cls in found.items()
        if hasattr(cls, "predict") or hasattr(cls, "transform") or name == "FrozenEstimator"
    }


def cases() -> Iterator[Case]:
    """Yield one case an estimator."""
    for name in classes():
        yield Case("sklearn", name, functools.partial(fit, name))


def fit(name: str) -> Fitted:
    """Fit the estimator of that name on data that suit it."""
    model = build(name)
    asked, target = _data(name, model)
    given: Any = data.frame(asked) if isinstance(asked, dict) else asked
    if name in _BY_TARGET:
        return model.fit(given), asked
    if name in {"DictVectorizer", "FeatureHasher"}:
        return model.fit(given.to_dict("records")), asked
    return model.fit(given, target), asked


def build(name: str) -> Any:
    """Return the unfitted estimator, small and with a fixed seed."""
    cls = classes()[name]
    parameters = _PARAMETERS.get(name, dict)()
    known = inspect.signature(cls).parameters
    usual = {"n_estimators": _TREES, "random_state": _SEED}
    given = {key: value for key, value in usual.items() if key in known} | parameters
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Deprecated classes are served too.
        return cls(**given)


def _data(name: str, model: Any) -> tuple[Sample, Array | None]:
    from sklearn.base import is_classifier, is_regressor

    if name in _DATA:
        return _DATA[name]()
    if is_classifier(model):
        return data.numbers()
    if is_regressor(model):
        return data.values()
    return data.numbers()


def _linear() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression()


def _ridge() -> Any:
    from sklearn.linear_model import Ridge

    return Ridge()


def _tree() -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=4, random_state=_SEED)


def _regression_tree() -> Any:
    from sklearn.tree import DecisionTreeRegressor

    return DecisionTreeRegressor(max_depth=4, random_state=_SEED)


def _scaler() -> Any:
    from sklearn.preprocessing import StandardScaler

    return StandardScaler()


def _components() -> Any:
    from sklearn.decomposition import PCA

    return PCA(2)


def _atoms() -> Array:
    atoms = np.random.default_rng(_SEED).normal(size=(10, data.WIDTH))
    return np.asarray(atoms / np.linalg.norm(atoms, axis=1, keepdims=True))


def _frozen() -> Any:
    return _linear().fit(*data.numbers())


def _search() -> dict[str, Any]:
    return {"estimator": _linear(), "cv": 3}


_PARAMETERS: dict[str, Callable[[], dict[str, Any]]] = {
    "BernoulliRBM": lambda: {"n_components": 5, "n_iter": 5},
    "BisectingKMeans": lambda: {"n_clusters": 4},
    "ClassifierChain": lambda: {"estimator": _linear()},
    "ColumnTransformer": lambda: {
        "transformers": [("scale", _scaler(), [0, 1, 2]), ("pass", "passthrough", [3, 4, 5])]
    },
    "DictionaryLearning": lambda: {"n_components": 4, "max_iter": 3},
    "FactorAnalysis": lambda: {"n_components": 3},
    "FeatureAgglomeration": lambda: {"n_clusters": 3},
    "FeatureHasher": lambda: {"n_features": 16},
    "FeatureUnion": lambda: {"transformer_list": [("pca", _components()), ("scale", _scaler())]},
    "FixedThresholdClassifier": lambda: {"estimator": _linear(), "threshold": 0.3},
    "FrozenEstimator": lambda: {"estimator": _frozen()},
    "FunctionTransformer": lambda: {"func": np.log1p},
    "GaussianRandomProjection": lambda: {"n_components": 4},
    "GaussianMixture": lambda: {"n_components": 3},
    "BayesianGaussianMixture": lambda: {"n_components": 3},
    "GenericUnivariateSelect": lambda: {"mode": "k_best", "param": 3},
    "GridSearchCV": lambda: {**_search(), "param_grid": {"C": [0.1, 1.0]}},
    "HalvingGridSearchCV": lambda: {**_search(), "param_grid": {"C": [0.1, 1.0]}},
    "HalvingRandomSearchCV": lambda: (
        {**_search(), "param_distributions": {"C": [0.1, 1.0]}} | {"n_candidates": 2}
    ),
    "HashingVectorizer": lambda: {"n_features": 64},
    "HistGradientBoostingClassifier": lambda: {"max_iter": 20},
    "HistGradientBoostingRegressor": lambda: {"max_iter": 20},
    "KMeans": lambda: {"n_clusters": 4},
    "LatentDirichletAllocation": lambda: {"n_components": 4, "max_iter": 5},
    "LocalOutlierFactor": lambda: {"novelty": True},
    "MLPClassifier": lambda: {"hidden_layer_sizes": (16,), "max_iter": 50},
    "MLPRegressor": lambda: {"hidden_layer_sizes": (16,), "max_iter": 50},
    "MiniBatchDictionaryLearning": lambda: {"n_components": 4, "max_iter": 3},
    "MiniBatchKMeans": lambda: {"n_clusters": 4},
    "MiniBatchNMF": lambda: {"n_components": 4, "max_iter": 20},
    "MiniBatchSparsePCA": lambda: {"n_components": 4, "max_iter": 20},
    "MultiOutputClassifier": lambda: {"estimator": _linear()},
    "MultiOutputRegressor": lambda: {"estimator": _ridge()},
    "NMF": lambda: {"n_components": 4},
    "Nystroem": lambda: {"n_components": 20},
    "OneHotEncoder": lambda: {"handle_unknown": "ignore"},
    "OneVsOneClassifier": lambda: {"estimator": _linear()},
    "OneVsRestClassifier": lambda: {"estimator": _linear()},
    "OrdinalEncoder": lambda: {"handle_unknown": "use_encoded_value", "unknown_value": -1},
    "OutputCodeClassifier": lambda: {"estimator": _linear()},
    "PCA": lambda: {"n_components": 4},
    "PatchExtractor": lambda: {"patch_size": (3, 3)},
    "Pipeline": lambda: {"steps": [("scale", _scaler()), ("model", _linear())]},
    "PolynomialCountSketch": lambda: {"n_components": 20},
    "QuantileTransformer": lambda: {"n_quantiles": 100},
    "RBFSampler": lambda: {"n_components": 20},
    "RFE": lambda: {"estimator": _linear()},
    "RFECV": lambda: {"estimator": _linear(), "cv": 3},
    "RadiusNeighborsClassifier": lambda: {"radius": 3.0, "outlier_label": 0},
    "RadiusNeighborsRegressor": lambda: {"radius": 3.0},
    "RandomTreesEmbedding": lambda: {"max_depth": 3},
    "RandomizedSearchCV": lambda: (
        {**_search(), "param_distributions": {"C": [0.1, 1.0]}} | {"n_iter": 2}
    ),
    "RegressorChain": lambda: {"estimator": _ridge()},
    "SelectFromModel": lambda: {"estimator": _tree()},
    "SelectKBest": lambda: {"k": 3},
    "SelectPercentile": lambda: {"percentile": 40},
    "SelfTrainingClassifier": lambda: {"estimator": _linear()},
    "SequentialFeatureSelector": lambda: {"estimator": _tree(), "cv": 2},
    "SkewedChi2Sampler": lambda: {"n_components": 20},
    "SparseCoder": lambda: {"dictionary": _atoms()},
    "SparsePCA": lambda: {"n_components": 4, "max_iter": 20},
    "SparseRandomProjection": lambda: {"n_components": 4, "density": 0.5},
    "StackingClassifier": lambda: {"estimators": [("tree", _tree()), ("linear", _linear())]},
    "StackingRegressor": lambda: {"estimators": [("tree", _regression_tree()), ("r", _ridge())]},
    "TheilSenRegressor": lambda: {"max_subpopulation": 500},
    "TransformedTargetRegressor": lambda: {
        "regressor": _ridge(),
        "func": np.log1p,
        "inverse_func": np.expm1,
    },
    "TruncatedSVD": lambda: {"n_components": 3},
    "TunedThresholdClassifierCV": lambda: {"estimator": _linear()},
    "VotingClassifier": lambda: {"estimators": [("tree", _tree()), ("linear", _linear())]},
    "VotingRegressor": lambda: {"estimators": [("tree", _regression_tree()), ("r", _ridge())]},
}

_BY_TARGET = {"LabelBinarizer", "LabelEncoder", "MultiLabelBinarizer"}
"""Transformers of labels: their ``fit`` takes nothing else."""


def _partly_labelled() -> tuple[Array, Array]:
    x, y = data.numbers()
    y[::3] = -1
    return x, y


def _categories() -> tuple[Sample, Array]:
    columns = data.people()
    texts = {name: columns[name] for name in ("city", "contract", "grade")}
    return texts, data.people_score(columns)


def _records() -> tuple[Sample, None]:
    columns = data.people(gaps=False)
    return {name: columns[name] for name in ("age", "city", "grade")}, None


def _labels() -> tuple[Array, None]:
    return data.people()["city"], None


def _label_sets() -> tuple[Array, None]:
    return np.random.default_rng(_SEED).integers(0, 6, (data.ROWS, 3)).astype(np.float64), None


def _images() -> tuple[Array, None]:
    return np.random.default_rng(_SEED).random((data.ROWS, 6, 5)), None


def _one_column() -> tuple[Array, Array]:
    x, y = data.values()
    return x[:, :1], y


def _kernel() -> tuple[Array, None]:
    x, _ = data.numbers()
    return np.asarray(x[:40] @ x[:40].T), None


def _two_outputs() -> tuple[Array, Array]:
    return data.values(2)


_DATA: dict[str, Callable[[], tuple[Any, Any]]] = {
    "AdditiveChi2Sampler": data.positive,
    "BernoulliRBM": data.unit,
    "CCA": _two_outputs,
    "CategoricalNB": data.counts,
    "ClassifierChain": data.many_labels,
    "ComplementNB": data.counts,
    "CountVectorizer": data.texts,
    "DictVectorizer": _records,
    "FeatureHasher": _records,
    "FixedThresholdClassifier": functools.partial(data.numbers, 2),
    "FunctionTransformer": data.positive,
    "GammaRegressor": data.positive_values,
    "HashingVectorizer": data.texts,
    "IsotonicRegression": _one_column,
    "IterativeImputer": data.missing,
    "KNNImputer": data.missing,
    "KernelCenterer": _kernel,
    "LabelBinarizer": _labels,
    "LabelEncoder": _labels,
    "LabelPropagation": _partly_labelled,
    "LabelSpreading": _partly_labelled,
    "LatentDirichletAllocation": data.counts,
    "MiniBatchNMF": data.positive,
    "MissingIndicator": data.missing,
    "MultiLabelBinarizer": _label_sets,
    "MultiOutputClassifier": data.many_labels,
    "MultiOutputRegressor": _two_outputs,
    "MultiTaskElasticNet": _two_outputs,
    "MultiTaskElasticNetCV": _two_outputs,
    "MultiTaskLasso": _two_outputs,
    "MultiTaskLassoCV": _two_outputs,
    "MultinomialNB": data.counts,
    "NMF": data.positive,
    "OneHotEncoder": _categories,
    "OrdinalEncoder": _categories,
    "PLSCanonical": _two_outputs,
    "PLSRegression": _two_outputs,
    "PLSSVD": _two_outputs,
    "PatchExtractor": _images,
    "PoissonRegressor": data.positive_values,
    "RegressorChain": _two_outputs,
    "SelfTrainingClassifier": _partly_labelled,
    "SimpleImputer": data.missing,
    "SkewedChi2Sampler": data.positive,
    "TargetEncoder": _categories,
    "TfidfTransformer": data.counts,
    "TfidfVectorizer": data.texts,
    "TransformedTargetRegressor": data.positive_values,
    "TunedThresholdClassifierCV": functools.partial(data.numbers, 2),
    "TweedieRegressor": data.positive_values,
}
