"""``--road fil`` writes what Triton's FIL backend answers as the original does, or refuses."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import treelite
import xgboost
from sklearn import ensemble

from converters import table
from converters.to_fil import rounded_down
from tests.converters.conftest import Array, Convert, Data
from toolkit import pbtxt
from toolkit.errors import ConfigError, MissingDependencyError, ParityError, UnsupportedModelError
from toolkit.spec import Road, ServingConfig

_LGBM = {"n_estimators": 20, "n_jobs": 1, "verbose": -1}
_XGB = {"n_estimators": 20, "n_jobs": 1}

EXACT: dict[str, Callable[[], Any]] = {
    "random forest": lambda: ensemble.RandomForestClassifier(30, random_state=0),
    "extra trees": lambda: ensemble.ExtraTreesRegressor(30, random_state=0),
    "gradient boosting": lambda: ensemble.GradientBoostingRegressor(random_state=0),
    "gradient boosting, classes": lambda: ensemble.GradientBoostingClassifier(n_estimators=20),
    "xgboost": lambda: xgboost.XGBRegressor(**_XGB),
    "xgboost, classes": lambda: xgboost.XGBClassifier(**_XGB),
    "xgboost, dart": lambda: xgboost.XGBRegressor(booster="dart", rate_drop=0.5, **_XGB),
}
FLOAT64: dict[str, Callable[[], Any]] = {
    "lightgbm": lambda: lightgbm.LGBMRegressor(**_LGBM),
    "lightgbm, classes": lambda: lightgbm.LGBMClassifier(**_LGBM),
    "histograms": lambda: ensemble.HistGradientBoostingClassifier(max_iter=20),
}


def fitted(make: Callable[[], Any], iris: Data, cancer: Data) -> tuple[Any, Array]:
    model = make()
    x, y = iris if "Regressor" in type(model).__name__ else cancer
    return model.fit(x, y), x


@pytest.mark.parametrize("make", EXACT.values(), ids=EXACT)
def test_a_model_that_computes_in_float32_is_right_on_every_hard_row(
    make: Callable[[], Any], convert_model: Convert, iris: Data, cancer: Data
) -> None:
    model, x = fitted(make, iris, cancer)
    artifact = convert_model(model, x, road=Road.FIL)
    assert (artifact.road, artifact.spec.backend) == (Road.FIL, "fil")
    assert artifact.parity.passed
    assert artifact.parity.kinds["threshold"] > 100
    assert artifact.spec.model_file in artifact.files
    assert artifact.parity.versions["treelite"] == treelite.__version__


@pytest.mark.parametrize("make", FLOAT64.values(), ids=FLOAT64)
def test_a_model_that_computes_in_float64_is_right_for_float32_callers_alone(
    make: Callable[[], Any], convert_model: Convert, iris: Data, cancer: Data
) -> None:
    model, x = fitted(make, iris, cancer)
    with pytest.raises(ParityError, match="rounded to float32") as refused:
        convert_model(model, x, road=Road.FIL)
    assert ".npy" in str(refused.value.hint)
    artifact = convert_model(model, x.astype(np.float32), road=Road.FIL)
    assert artifact.parity.kinds["threshold"] > 100
    assert "proven for float32 rows, as the sample holds; FIL takes no others" in artifact.notes


def test_fil_gives_probabilities_and_the_tool_says_of_which_classes(
    convert_model: Convert, iris: Data
) -> None:
    x, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    artifact = convert_model(ensemble.RandomForestClassifier(20).fit(x, names), x, road=Road.FIL)
    assert [(out.name, out.dims) for out in artifact.spec.outputs] == [("output__0", (3,))]
    assert artifact.notes == (
        "FIL gives no labels: output__0 holds the probabilities of setosa, versicolor, virginica",
    )


def test_the_configuration_is_fils_and_reads_back_the_same(
    convert_model: Convert, cancer: Data
) -> None:
    x, y = cancer
    spec = convert_model(xgboost.XGBClassifier(**_XGB).fit(x, y), x, road=Road.FIL).spec
    serving = ServingConfig(intra_op_thread_count=1, warmup_batch_sizes=())
    message = pbtxt.to_message(spec, serving, {})
    assert {key: value.string_value for key, value in message.parameters.items()} == {
        "model_type": "xgboost_json",
        "is_classifier": "true",
        "output_class": "true",
        "predict_proba": "true",
        "threshold": "0.5",
        "cpu_nthread": "1",
        "class_names": '["0", "1"]',
    }
    assert message.default_model_filename == "xgboost.json"
    assert (message.input[0].name, list(message.input[0].dims)) == ("input__0", [30])
    assert (message.output[0].name, list(message.output[0].dims)) == ("output__0", [2])
    assert pbtxt.from_message(message) == (spec, serving)
    with pytest.raises(ConfigError, match="max_batch_size above 0"):
        pbtxt.to_message(spec, ServingConfig(max_batch_size=0, warmup_batch_sizes=()), {})


def test_xgboost_is_written_as_the_treelite_of_every_container_reads_it(
    convert_model: Convert, cancer: Data
) -> None:
    x, y = cancer
    artifact = convert_model(xgboost.XGBClassifier(**_XGB).fit(x, y), x, road=Road.FIL)
    learner = json.loads(artifact.files["xgboost.json"].read_text())["learner"]
    assert float(learner["learner_model_param"]["base_score"]) > 0
    assert "cats" not in learner["gradient_booster"]["model"]


def test_only_the_trees_up_to_the_best_iteration_answer(convert_model: Convert, iris: Data) -> None:
    x, y = iris
    model = xgboost.XGBRegressor(n_estimators=50, learning_rate=0.9, early_stopping_rounds=2)
    model.fit(x[::2], y[::2], eval_set=[(x[1::2], y[1::2])], verbose=False)
    artifact = convert_model(model, x, road=Road.FIL)
    forest = treelite.frontend.load_xgboost_model(artifact.files["xgboost.json"])
    assert forest.num_tree == model.best_iteration + 1 < model.get_booster().num_boosted_rounds()


@pytest.mark.parametrize(
    "model",
    [xgboost.XGBRegressor(**_XGB), ensemble.RandomForestRegressor(5)],
    ids=lambda m: str(m)[:6],
)
def test_without_treelite_the_extra_is_named(
    model: Any, convert_model: Convert, iris: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("treelite", "treelite.sklearn"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError) as missing:
        convert_model(model.fit(*iris), iris[0], road=Road.FIL)
    assert missing.value.hint == "pip install 'triton-companion[fil]'"


@pytest.mark.parametrize("road", [None, Road.ONNX])
def test_fil_is_taken_only_when_asked_for(road: Road | None) -> None:
    for framework in ("sklearn", "xgboost", "lightgbm"):
        assert Road.FIL not in {entry.road for entry in table.ladder(framework, road)}
        assert [entry.extra for entry in table.ladder(framework, Road.FIL)] == ["fil"]


def test_thresholds_are_rounded_down_so_that_float32_rows_keep_their_side() -> None:
    rng = np.random.default_rng(0)
    thresholds = np.concatenate([rng.normal(size=500), [0.0, 1e-46, -1e-46, 16777217.0, -0.1]])
    rounded = rounded_down(thresholds)
    assert np.array_equal(rounded, rounded.astype(np.float32))
    for step in (-np.inf, 0.0, np.inf):
        near = thresholds.astype(np.float32)
        rows = np.nextafter(near, np.float32(step)) if step else near
        assert np.array_equal(rows <= thresholds, rows <= rounded)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "linear booster": (lambda: xgboost.XGBRegressor(booster="gblinear", **_XGB), "gblinear"),
    "missing": (lambda: xgboost.XGBRegressor(missing=0.0, **_XGB), "takes 0.0 for one"),
    "linear trees": (lambda: lightgbm.LGBMRegressor(linear_tree=True, **_LGBM), "linear_tree"),
    "one versus all": (
        lambda: lightgbm.LGBMClassifier(objective="multiclassova", **_LGBM),
        "multiclassova",
    ),
    "outliers": (lambda: ensemble.IsolationForest(n_estimators=5), "asked for scores"),
    "bagging": (ensemble.BaggingClassifier, "BaggingClassifier is none"),
}


@pytest.mark.parametrize(("make", "why"), REFUSED.values(), ids=REFUSED)
def test_what_fil_does_not_answer_alike_is_refused_by_name(
    make: Callable[[], Any], why: str, convert_model: Convert, iris: Data
) -> None:
    x, y = iris
    with pytest.raises(UnsupportedModelError, match=why):
        convert_model(make().fit(x, y), x, road=Road.FIL)


def test_another_loss_and_several_outputs_are_refused(
    convert_model: Convert, cancer: Data, tmp_path: Path
) -> None:
    x, y = cancer
    model = ensemble.GradientBoostingClassifier(n_estimators=5, loss="exponential").fit(x, y)
    with pytest.raises(UnsupportedModelError, match="its loss is exponential"):
        convert_model(model, x, road=Road.FIL)
    two = ensemble.RandomForestRegressor(5).fit(x, np.column_stack([y, -y]))
    with pytest.raises(UnsupportedModelError, match="no multi-output model"):
        convert_model(two, x, road=Road.FIL)
    forest = ensemble.RandomForestClassifier(5).fit(x, y)
    with pytest.raises(UnsupportedModelError, match="asked for label"):
        convert_model(forest, x, road=Road.FIL, outputs=("label", "probabilities"))
