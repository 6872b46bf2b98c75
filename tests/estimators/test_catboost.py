"""CatBoost as ONNX: the scores are the same bits, categories are told by their hashes."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import catboost
import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest

from converters import releases
from converters.estimators import catboost_categories, catboost_trees, registry
from converters.estimators.table import Table
from converters.onnx_writer import Graph
from tests.estimators.boosters import Array, assert_close, hard, numbers
from tests.estimators.conftest import Written
from toolkit.errors import UnsupportedModelError

_X, _SCORE = numbers()
_SMALL: dict[str, Any] = {
    "iterations": 15,
    "depth": 4,
    "thread_count": 1,
    "verbose": False,
    "allow_writing_files": False,
}


def _splits(model: Any, folder: Path) -> Iterator[tuple[int, float]]:
    """Give the borders of a model's features."""
    path = folder / "saved.json"
    model.save_model(str(path), format="json")
    for feature in json.loads(path.read_text())["features_info"]["float_features"]:
        for border in feature["borders"]:
            if abs(border) < 1e38:
                yield feature["flat_feature_index"], border


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss_function": "MAE"},
        {"loss_function": "Quantile:alpha=0.8"},
        {"grow_policy": "Lossguide"},
        {"grow_policy": "Depthwise"},
        {"nan_mode": "Max"},
    ],
    ids=str,
)
def test_a_regressor_gives_the_same_bits(
    written: Written, settings: dict[str, Any], tmp_path: Path
) -> None:
    x = np.where(np.random.default_rng(4).random(_X.shape) < 0.1, np.nan, _X)
    model = catboost.CatBoostRegressor(**_SMALL | settings).fit(x, _SCORE)
    rows = hard(_X, _splits(model, tmp_path))
    np.testing.assert_array_equal(written(model, rows, "predict")[0], model.predict(rows))


@pytest.mark.parametrize(
    "loss", ["Poisson", "Tweedie:variance_power=1.3", "RMSEWithUncertainty", "Cox"]
)
def test_the_links_are_applied(written: Written, loss: str) -> None:
    model = catboost.CatBoostRegressor(**_SMALL, loss_function=loss).fit(_X, np.exp(_SCORE / 5))
    assert_close(written(model, _X, "predict")[0], model.predict(_X), 1e-14)


def test_several_targets_are_each_told(written: Written) -> None:
    y = np.column_stack([_SCORE, -2 * _SCORE, _X[:, 1]])
    model = catboost.CatBoostRegressor(**_SMALL, loss_function="MultiRMSE").fit(_X, y)
    assert_close(written(model, _X, "predict")[0], model.predict(_X), 1e-14)


@pytest.mark.parametrize(
    ("classes", "settings"),
    [
        (2, {}),
        (2, {"loss_function": "CrossEntropy"}),
        (2, {"grow_policy": "Lossguide"}),
        (3, {}),
        (3, {"loss_function": "MultiClassOneVsAll"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("names", [[0, 1, 2], ["low", "middle", "high"]], ids=["int", "text"])
def test_a_classifier_gives_labels_and_probabilities(
    written: Written, classes: int, settings: dict[str, Any], names: list[Any], tmp_path: Path
) -> None:
    if settings.get("loss_function") == "CrossEntropy" and isinstance(names[0], str):
        names = [0, 1]  # CatBoost takes probabilities as the targets of this loss.
    y = np.array(names)[np.digitize(_SCORE, [-1.0, 1.0][: classes - 1])]
    model = catboost.CatBoostClassifier(**_SMALL | settings).fit(_X, y)
    rows = hard(_X, _splits(model, tmp_path), missing=False)
    labels, probabilities = written(model, rows, "predict", "predict_proba")
    np.testing.assert_array_equal(labels, model.predict(rows).reshape(-1))
    assert_close(probabilities, model.predict_proba(rows), 1e-14)


def test_a_threshold_of_the_users_own_decides_the_label(written: Written) -> None:
    model = catboost.CatBoostClassifier(**_SMALL).fit(_X, (_SCORE > 0).astype(int))
    before = model.predict(_X)
    model.set_probability_threshold(0.2)
    assert not np.array_equal(before, model.predict(_X))
    np.testing.assert_array_equal(written(model, _X, "predict")[0], model.predict(_X))


_CITIES = np.array(["Zürich", "Oslo", 'a "quoted"\\ town', "Łódź", "Bern"], dtype=object)


def _people() -> tuple[dict[str, Array], Array]:
    """Return columns of texts and numbers, and labels that depend on their combinations."""
    rng = np.random.default_rng(2)
    columns = {
        "city": _CITIES[rng.integers(0, 5, 1500)],
        "size": rng.normal(size=1500),
        "grade": np.array(["p", "q", "r", "s"], dtype=object)[rng.integers(0, 4, 1500)],
        "member": np.array(["yes", "no"], dtype=object)[rng.integers(0, 2, 1500)],
        "zone": rng.integers(0, 6, 1500),
    }
    odd = np.isin(columns["city"], ["Oslo", "Bern"]) ^ (columns["member"] == "yes")
    labels = odd ^ np.isin(columns["grade"], ["p", "s"]) ^ (columns["size"] > 0)
    return columns, labels.astype(int)


def _answers(model: Any, columns: Mapping[str, Array], examples: Mapping[str, Any]) -> Array:
    """Write the model where ``examples`` are known, and ask it."""
    graph = Graph(releases.find("25.11").limits)
    parts = tuple(graph.input(name, array.dtype, 1) for name, array in columns.items())
    answers = registry.write(graph, model, Table(graph, parts, tuple(columns), examples))
    probabilities = registry.tensor(answers, "predict_proba", model)
    data = graph.model("m", {"p": probabilities}).SerializeToString()
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    asked = {i.name: columns[i.name].reshape(-1, 1) for i in session.get_inputs()}
    given: Array = session.run(None, asked)[0]
    return given


def _examples(columns: Mapping[str, Array]) -> dict[str, Any]:
    names = ("city", "grade", "member", "zone")
    return {name: tuple(np.unique(columns[name]).tolist()) for name in names}


@pytest.mark.parametrize(
    ("settings", "elements"),
    [
        ({"one_hot_max_size": 10}, set()),
        ({"max_ctr_complexity": 1, "one_hot_max_size": 2}, {"cat_feature_value"}),
        (
            {"max_ctr_complexity": 4, "one_hot_max_size": 3, "iterations": 60},
            {"cat_feature_value", "float_feature", "cat_feature_exact_value"},
        ),
    ],
    ids=["one-hot", "one feature", "combinations"],
)
def test_categories_are_told_by_their_hashes(
    settings: dict[str, Any], elements: set[str], tmp_path: Path
) -> None:
    columns, labels = _people()
    names = ["city", "grade", "member", "zone"]
    model = catboost.CatBoostClassifier(**_SMALL | {"depth": 6} | settings)
    model.fit(pd.DataFrame(columns), labels, cat_features=names)
    model.save_model(str(tmp_path / "saved.json"), format="json")
    ctrs = json.loads((tmp_path / "saved.json").read_text())["features_info"].get("ctrs", ())
    assert {e["combination_element"] for ctr in ctrs for e in ctr["elements"]} == elements
    asked = {name: array[:400].copy() for name, array in columns.items()}
    asked["city"][::9], asked["grade"][1::9], asked["zone"][2::9] = "never seen", "", 99
    given = _answers(model, asked, _examples(columns))
    assert_close(given, model.predict_proba(pd.DataFrame(asked)), 1e-14)


@pytest.mark.parametrize("one_hot", [2, 10])
def test_a_category_that_no_example_explains_is_refused(one_hot: int) -> None:
    columns, labels = _people()
    model = catboost.CatBoostClassifier(**_SMALL, one_hot_max_size=one_hot)
    model.fit(pd.DataFrame(columns), labels, cat_features=["city", "grade", "member", "zone"])
    fewer = _examples(columns) | {"city": ("Oslo", "Bern")}
    with pytest.raises(UnsupportedModelError, match="in no row of the sample"):
        _answers(model, columns, fewer)


def test_the_hash_of_a_text_is_catboosts_own() -> None:
    odd = ["", "a\nb", "tab\t", 'q"\\', "日本語", "??/", "0", "{", "'"]
    hashes = catboost_categories.hashes(odd)
    assert list(hashes) == odd
    assert len(set(hashes.values())) == len(odd)


def test_a_model_that_learned_from_texts_is_refused_by_that_reason() -> None:
    texts = [f"good {i % 3}" if i % 2 else f"bad {i % 5}" for i in range(40)]
    pool = catboost.Pool([[text] for text in texts], [i % 2 for i in range(40)], text_features=[0])
    model = catboost.CatBoostClassifier(iterations=2, verbose=0, allow_writing_files=False)
    model.fit(pool)
    with pytest.raises(UnsupportedModelError, match="text features are not written"):
        catboost_trees.read(model)
