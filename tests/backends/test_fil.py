"""The Python-based FIL backend serves what was proven, and takes and refuses what FIL does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pytest
import treelite.sklearn
import xgboost
from sklearn import datasets, ensemble

from converters import ConversionOptions, convert
from tests.backends.conftest import ONE_INSTANCE, Triton, at_once, floats, parsed, rules
from toolkit import repository
from toolkit.spec import FIL_FILES, Road, ServingConfig
from toolkit.verify import verify

X, Y = datasets.load_breast_cancer(return_X_y=True)
TENSORS = (
    'backend: "fil" max_batch_size: 64 '
    'input [ { name: "input__0" data_type: TYPE_FP32 dims: [ 30 ] } ] '
    'output [ { name: "output__0" data_type: TYPE_FP32 dims: [ WIDTH ] } ] '
)


def parameters(**values: str) -> str:
    return "".join(
        f'parameters [ {{ key: "{key}" value: {{ string_value: "{value}" }} }} ] '
        for key, value in values.items()
    )


def checkpoint(folder: Path) -> bytes:
    model = ensemble.RandomForestClassifier(20, max_depth=3, random_state=0).fit(X, Y)
    path = folder / "checkpoint.tl"
    treelite.sklearn.import_model(model).serialize(path)
    return path.read_bytes()


def booster(folder: Path) -> bytes:
    model = xgboost.XGBClassifier(n_estimators=10, n_jobs=1).fit(X, Y)
    path = folder / "model.ubj"
    model.save_model(path)
    return path.read_bytes()


PROVEN: dict[str, Callable[[], Any]] = {
    "fil_forest": lambda: ensemble.RandomForestClassifier(30, random_state=0),
    "fil_regressor": lambda: ensemble.GradientBoostingRegressor(random_state=0),
    "fil_xgboost": lambda: xgboost.XGBClassifier(n_estimators=20, n_jobs=1),
    "fil_lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=20, n_jobs=1, verbose=-1),
}


@pytest.mark.parametrize("name", PROVEN)
def test_a_proven_entry_is_served_bit_for_bit(name: str, triton: Triton, tmp_path: Path) -> None:
    joblib.dump(PROVEN[name]().fit(X, Y), tmp_path / "model.joblib")
    options = ConversionOptions(
        name=name, sample=X[:60].astype(np.float32), trusted=True, road=Road.FIL, generated_rows=60
    )
    artifact = convert(tmp_path / "model.joblib", options, tmp_path / "work")
    serving = ServingConfig(intra_op_thread_count=1)
    entry = repository.write(triton.repository, artifact, serving).entry
    assert triton.load(name) == ""
    replays = verify(entry, (triton.server.http_url, triton.server.grpc_url), rounds=1)
    assert [replay.first for replay in replays if not replay.passed] == []
    assert {replay.allowed for replay in replays} == {0.0}
    triton.unload(name)


FILES: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "treelite_checkpoint": ("checkpoint.tl", checkpoint),
    "xgboost_ubj": ("xgboost.ubj", booster),
}


@pytest.mark.parametrize("kind", FILES)
def test_an_entry_by_hand_gives_classes_or_probabilities(
    kind: str, triton: Triton, tmp_path: Path
) -> None:
    name = f"fil_{kind}"
    file, make = FILES[kind]
    model = make(tmp_path)
    told = parameters(model_type=kind, is_classifier="true", cpu_nthread="1")
    proba = parameters(predict_proba="true")
    triton.add(name, file, model, TENSORS.replace("WIDTH", "1") + told + ONE_INSTANCE)
    triton.add(
        f"{name}_p", file, model, TENSORS.replace("WIDTH", "2") + told + proba + ONE_INSTANCE
    )
    assert triton.load_all([name, f"{name}_p"]) == {name: "", f"{name}_p": ""}
    rows = floats(X[:40])
    classes = triton.infer(name, {"input__0": rows})["output__0"]
    probabilities = triton.infer(f"{name}_p", {"input__0": rows})["output__0"]
    assert classes.shape == (40, 1)
    assert probabilities.shape == (40, 2)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert np.array_equal(classes[:, 0], probabilities.argmax(axis=1))
    assert (classes[:, 0] == Y[:40]).mean() > 0.9
    triton.unload(name)
    triton.unload(f"{name}_p")


def test_the_files_are_called_the_same_on_both_sides() -> None:
    assert rules("fil").FILES == FIL_FILES


def test_requests_that_arrive_together_share_an_execution(triton: Triton, tmp_path: Path) -> None:
    told = parameters(model_type="treelite_checkpoint", output_class="true", predict_proba="true")
    waiting = "dynamic_batching { max_queue_delay_microseconds: 300000 preferred_batch_size: 8 } "
    config = TENSORS.replace("WIDTH", "2") + told + waiting + ONE_INSTANCE
    triton.add("fil_joined", "checkpoint.tl", checkpoint(tmp_path), config)
    assert triton.load("fil_joined") == ""
    alone = triton.infer("fil_joined", {"input__0": floats(X[:8])})["output__0"]
    calls = [
        lambda row=row: triton.infer("fil_joined", {"input__0": floats(X[row : row + 1])})
        for row in range(8)
    ]
    answers = np.concatenate([answer["output__0"] for answer in at_once(calls)])
    assert np.array_equal(answers, alone)
    assert triton.executions("fil_joined", 16) < 9
    triton.unload("fil_joined")


WRONG = {
    "fil_width": (
        parameters(model_type="treelite_checkpoint", is_classifier="true", predict_proba="true"),
        "of this model it is [2]",
    ),
    "fil_bytes": (parameters(model_type="lightgbm", is_classifier="true"), "treelite cannot load"),
}


def test_a_wrong_entry_is_refused_and_told_how_to_write_it(triton: Triton, tmp_path: Path) -> None:
    model = checkpoint(tmp_path)
    for name, (told, _) in WRONG.items():
        config = TENSORS.replace("WIDTH", "3") + told + ONE_INSTANCE
        config += 'default_model_filename: "checkpoint.tl" '
        triton.add(name, "checkpoint.tl", model, config)
    refusals = triton.load_all(list(WRONG))
    for name, (_, why) in WRONG.items():
        assert why in refusals[name]


class _Forest:
    """A binary classifier of four columns, as the rules see it."""

    class shape:  # noqa: N801
        features, targets, classes = 4, 1, 1

    def widths(self) -> tuple[int, ...]:
        return (2, 1)


GOOD = (
    'max_batch_size: 8 input [ { name: "input__0" data_type: TYPE_FP32 dims: [ 4 ] } ] '
    'output [ { name: "output__0" data_type: TYPE_FP32 dims: [ 2 ] } ] '
)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("max_batch_size: 8", ""), "max_batch_size is 0"),
        (("input__0", "x"), "called input__0"),
        (("output__0", "y"), "called output__0"),
        (("TYPE_FP32", "TYPE_FP64"), "FIL knows TYPE_FP32 only"),
        (("[ 4 ]", "[ 5 ]"), "of this model it is [4]"),
        (("dims: [ 2 ]", "dims: [ 1 ] reshape { shape: [ ] }"), "no optional"),
    ],
)
def test_tensors_that_fil_would_not_take_are_named(change: tuple[str, str], why: str) -> None:
    fil = rules("fil")
    fil.check(parsed(GOOD), _Forest())
    with pytest.raises(fil.RefusedError) as refused:
        fil.check(parsed(GOOD.replace(*change)), _Forest())
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("predict_proba", "yes"),
        ("threshold", "half"),
        ("chunk_size", "big"),
        ("storage_type", "HUGE"),
        ("output_class", "false"),
        ("model_type", "catboost"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(key: str, value: str) -> None:
    fil = rules("fil")
    good = parsed(GOOD + parameters(model_type="lightgbm", is_classifier="true"))
    assert fil.settings(good).threshold == 0.5
    told = {"model_type": "lightgbm", "is_classifier": "true", key: value}
    with pytest.raises(fil.RefusedError, match=key):
        fil.settings(parsed(GOOD + parameters(**told)))
    with pytest.raises(fil.RefusedError, match="is_classifier is missing"):
        fil.settings(parsed(GOOD + parameters(model_type="lightgbm")))
