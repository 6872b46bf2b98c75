"""The ladder: what is tried, in which order, and what ends a converter that hangs."""

import os
import signal
import threading
import time
from typing import Any

import psutil
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer

from converters import speed, table
from tests.converters.conftest import Convert, Data
from toolkit.errors import UnsupportedModelError
from toolkit.spec import Road


@pytest.fixture
def without_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the exact rung out, so that other people's converters run."""
    others = tuple(entry for entry in table.ENTRIES if entry.rung != "exact")
    monkeypatch.setattr(table, "ENTRIES", others)


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if any("converters.apart" in word for word in child.cmdline())
    ]


@pytest.mark.usefixtures("without_exact")
def test_a_converter_that_hangs_is_ended_and_counts_as_refused(
    convert_model: Convert, cancer: Data
) -> None:
    x, y = cancer
    model = make_pipeline(QuantileTransformer(n_quantiles=500), LogisticRegression()).fit(x, y)
    artifact = convert_model(model, x[:40], time_limit=0.5, generated_rows=20)
    assert artifact.road is Road.PYTHON
    assert artifact.refused == ("onnx (skl2onnx): skl2onnx did not end within 0.5 s",)
    assert children() == []


@pytest.mark.usefixtures("without_exact")
def test_a_converter_whose_process_is_killed_costs_a_rung_and_nothing_else(
    convert_model: Convert, cancer: Data
) -> None:
    x, y = cancer
    slow = make_pipeline(QuantileTransformer(n_quantiles=500), LogisticRegression()).fit(x, y)

    def kill() -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            for child in children():
                os.kill(child.pid, signal.SIGKILL)
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    artifact = convert_model(slow, x[:40], generated_rows=20)
    killer.join()
    assert artifact.refused == ("onnx (skl2onnx): skl2onnx ended its process (SIGKILL)",)
    quick = convert_model(GaussianNB().fit(x, y), x[:40], atol=1e-2, rtol=1e-2, generated_rows=0)
    assert quick.rung == "skl2onnx"


@pytest.mark.usefixtures("without_exact")
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_catboosts_own_export_is_proven_where_it_is_right(
    convert_model: Convert, iris: Data, kind: str
) -> None:
    import catboost

    cls = {"classifier": catboost.CatBoostClassifier, "regressor": catboost.CatBoostRegressor}
    model = cls[kind](iterations=5, verbose=0, allow_writing_files=False).fit(*iris)
    artifact = convert_model(model, iris[0])
    assert (artifact.rung, artifact.refused) == ("catboost", ())


def test_an_original_that_is_faster_is_told(
    convert_model: Convert, iris: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = LogisticRegression(max_iter=1000).fit(*iris)
    monkeypatch.setattr(speed, "advantage_of_original", lambda *_: 1.7)
    told = convert_model(model, iris[0], generated_rows=20)
    assert told.road is Road.ONNX
    assert "itself answers 256 rows 1.7 times as fast as this ONNX" in told.notes[0]
    assert convert_model(model, iris[0], generated_rows=20, road=Road.ONNX).notes == ()
    monkeypatch.setattr(speed, "advantage_of_original", lambda *_: 1.2)
    assert convert_model(model, iris[0], generated_rows=20).notes == ()


def test_a_release_too_old_for_exact_trees_takes_the_older_operator_with_its_proof(
    convert_model: Convert, iris: Data
) -> None:
    from sklearn.tree import DecisionTreeRegressor

    x, y = iris
    model = DecisionTreeRegressor(max_depth=2, random_state=0).fit(x, y)
    artifact = convert_model(model, x, release="24.10")
    assert "onnx (exact): DecisionTreeRegressor" in artifact.refused[0]
    assert "the older operator is tried next" in artifact.refused[0]


def test_a_writer_that_fails_is_told_as_a_fault_of_the_tool(
    convert_model: Convert, iris: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    from converters.estimators import registry

    def broken(*_: Any) -> Any:
        raise KeyError("coef_")

    monkeypatch.setattr(registry, "write", broken)
    model: Any = LogisticRegression(max_iter=1000).fit(*iris)
    artifact = convert_model(model, iris[0], generated_rows=20)
    assert "a fault of this tool (KeyError: 'coef_')" in artifact.refused[0]
    monkeypatch.setattr(table, "ENTRIES", table.ENTRIES[:1])
    with pytest.raises(UnsupportedModelError, match="a fault of this tool"):
        convert_model(model, iris[0], generated_rows=20)
