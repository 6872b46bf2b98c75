"""``--prefer speed``: of all rungs that prove the fastest is taken, and the others are told."""

import dataclasses
import itertools
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from converters import apart, speed, table
from converters.proof import Proof
from tests.converters.conftest import Convert, Data
from toolkit.artifact import Artifact
from toolkit.cli import toolkit
from toolkit.errors import MissingDependencyError, UnsupportedModelError
from toolkit.spec import Road

Preferring = Callable[..., Artifact]
TITLES = ("onnx (exact)", "onnx (skl2onnx)", "python (original)")


@pytest.fixture
def fitted(iris: Data) -> LogisticRegression:
    """Return a model that all three rungs of scikit-learn's ladder prove."""
    return LogisticRegression(max_iter=1000).fit(*iris)


@pytest.fixture
def preferring(convert_model: Convert, iris: Data, monkeypatch: pytest.MonkeyPatch) -> Preferring:
    """Convert with ``prefer="speed"`` where those that prove take these times."""

    def run(model: Any, times: Sequence[float], **options: Any) -> Artifact:
        def seconds(candidates: Sequence[Proof], _rows: int) -> Sequence[float]:
            assert len(candidates) == len(times)
            return times

        monkeypatch.setattr(speed, "seconds", seconds)
        return convert_model(model, iris[0], generated_rows=20, prefer="speed", **options)

    return run


def never(*_: Any) -> Any:
    pytest.fail("nothing was to be measured")


@pytest.mark.parametrize(
    ("times", "taken", "told"),
    [
        (
            (3.0, 2.0, 1.0),
            TITLES[2],
            {0: "it takes 3.00 times as long", 1: "it takes 2.00 times as long"},
        ),
        (
            (1.7, 1.0, 9.0),
            TITLES[1],
            {0: "it takes 1.70 times as long", 2: "it takes 9.00 times as long"},
        ),
        (
            (1.0, 0.95, 4.0),
            TITLES[0],
            {1: "not clearly faster: it takes 0.95 times as long", 2: "it takes 4.00 times"},
        ),
        (
            (2.0, 1.05, 1.0),
            TITLES[1],
            {0: "it takes 1.90 times", 2: "not clearly faster: it takes 0.95 times"},
        ),
    ],
)
def test_the_first_that_none_is_clearly_faster_than_is_taken_and_the_others_are_told(
    fitted: Any,
    preferring: Preferring,
    times: tuple[float, ...],
    taken: str,
    told: dict[int, str],
) -> None:
    artifact = preferring(fitted, times, batch_size=64)
    assert f"{artifact.road.value} ({artifact.rung})" == taken
    assert len(artifact.refused) == len(told)
    for reason, (place, words) in zip(artifact.refused, told.items(), strict=True):
        assert reason.startswith(f"{TITLES[place]}: right, but for 64 rows {words}")
        assert reason.endswith(f" as long as {taken}, which was taken")


def test_the_same_choice_is_the_same_proof_whatever_the_times(
    fitted: Any, preferring: Preferring
) -> None:
    proofs = []
    for times in ((3.0, 1.0, 2.0), (4.0, 1.1, 1.05)):
        artifact = preferring(fitted, times)
        assert artifact.rung == "skl2onnx"
        proofs.append(artifact.files["parity.json"].read_bytes())
    assert proofs[0] == proofs[1]
    assert b"right, but not the fastest" in proofs[0]


def test_a_rung_that_did_not_prove_is_not_measured_and_keeps_its_reason(
    iris: Data, preferring: Preferring
) -> None:
    model = make_pipeline(FunctionTransformer(np.log1p), LogisticRegression(max_iter=1000))
    artifact = preferring(model.fit(*iris), (1.0, 2.0))
    assert artifact.rung == "exact"
    stock, original = artifact.refused
    assert "onnx (skl2onnx): skl2onnx cannot convert it" in stock
    assert "python (original): right, but for 256 rows it takes 2.00 times" in original


def test_a_later_rung_whose_extra_is_missing_costs_nothing(
    fitted: Any, preferring: Preferring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> Any:
        raise MissingDependencyError("skl2onnx is not installed")

    monkeypatch.setattr(apart, "convert", missing)
    artifact = preferring(fitted, (1.0, 2.0))
    assert artifact.rung == "exact"
    assert artifact.refused[0] == "onnx (skl2onnx): skl2onnx is not installed"


def test_only_rungs_of_a_given_road_are_weighed(fitted: Any, preferring: Preferring) -> None:
    artifact = preferring(fitted, (2.0, 1.0), road=Road.ONNX)
    assert artifact.rung == "skl2onnx"
    assert [reason.partition(":")[0] for reason in artifact.refused] == ["onnx (exact)"]


def test_one_rung_alone_is_not_measured(
    fitted: Any, iris: Data, convert_model: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_timed", never)
    artifact = convert_model(fitted, iris[0], generated_rows=20, prefer="speed", road=Road.PYTHON)
    assert (artifact.rung, artifact.refused) == ("original", ())


def test_exactness_preferred_tries_no_rung_after_the_first_that_proves(
    fitted: Any, iris: Data, convert_model: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "seconds", never)
    monkeypatch.setattr(apart, "convert", never)
    artifact = convert_model(fitted, iris[0], generated_rows=20)
    assert (artifact.rung, artifact.refused) == ("exact", ())


def test_where_nothing_proves_every_reason_is_told(
    iris: Data, preferring: Preferring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "ENTRIES", table.ENTRIES[:2])
    model: Any = make_pipeline(FunctionTransformer(np.arcsinh), LogisticRegression(max_iter=1000))
    why = r"no road leads from this Pipeline to Triton: onnx \(exact\): .*; onnx \(skl2onnx\): "
    with pytest.raises(UnsupportedModelError, match=why):
        preferring(model.fit(*iris), ())


def test_what_is_measured_is_what_was_proven_on_the_rows_it_was_proven_on(
    iris: Data, convert_model: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = tuple(dataclasses.replace(entry, asked_only=False) for entry in table.ENTRIES)
    monkeypatch.setattr(table, "ENTRIES", entries)
    measured: list[dict[str, int]] = []

    def ran(run: Any) -> float:
        answer = run()
        measured.append({name: len(values) for name, values in answer.items()})
        return 1.0

    monkeypatch.setattr(speed, "_timed", ran)
    model = RandomForestClassifier(5, random_state=0).fit(*iris)
    convert_model(model, iris[0], generated_rows=50, prefer="speed", batch_size=33)
    whole = {"label": 33, "probabilities": 33}
    assert measured[0] == measured[1] == measured[2] == whole
    assert measured[3] == {"output__0": 33}  # FIL gives no labels.


def test_a_quantized_model_is_taken_when_it_is_the_only_one(
    cancer: Data, convert_model: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_timed", never)
    x, y = cancer
    model = make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=20, random_state=0))
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        model.fit(x, y)
    artifact = convert_model(
        model, x, generated_rows=0, prefer="speed", quantize="dynamic", atol=0.3, rtol=0.3
    )
    assert artifact.rung == "skl2onnx, quantized"
    assert len(artifact.refused) == 1
    assert "onnx (exact): --quantize dynamic finds nothing to make smaller" in artifact.refused[0]


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[float], list[int]]]:
    """Measure runs that take these times; return what is found, and who ran when."""

    def measure(*times: Iterator[float]) -> tuple[list[float], list[int]]:
        order: list[int] = []

        def timed(run: int) -> float:
            order.append(run)
            return next(times[run])

        opened = iter(range(len(times)))
        monkeypatch.setattr(speed, "_run", lambda *_: next(opened))
        monkeypatch.setattr(speed, "_timed", timed)
        proofs: Any = [Nothing()] * len(times)
        return speed.seconds(proofs, 8), order

    return measure


class Nothing:
    question = converted = None


def test_the_least_counts_and_they_take_turns(
    turns: Callable[..., tuple[list[float], list[int]]],
) -> None:
    slow_at_first = itertools.chain([0.4, 0.3, 0.01], itertools.repeat(0.02))
    least, order = turns(slow_at_first, itertools.repeat(0.03))
    assert least == [0.01, 0.03]
    assert order[:6] == [0, 1, 0, 1, 0, 1]


def test_one_far_behind_is_run_once_and_a_close_race_is_repeated(
    turns: Callable[..., tuple[list[float], list[int]]],
) -> None:
    least, order = turns(*(itertools.repeat(took) for took in (2.0, 30.0, 3.0)))
    assert least == [2.0, 30.0, 3.0]
    assert (order.count(0), order.count(1), order.count(2)) == (5, 1, 5)


def test_the_program_takes_a_proven_rung_and_explains_what_became_of_the_others(
    fitted: Any, iris: Data, tmp_path: Path
) -> None:
    joblib.dump(fitted, tmp_path / "model.joblib")
    np.save(tmp_path / "rows.npy", iris[0])
    words = f"convert {tmp_path}/model.joblib --trusted --sample {tmp_path}/rows.npy"
    words += f" --repository {tmp_path}/models --max-batch-size 64 --prefer speed --explain"
    result = CliRunner().invoke(toolkit, words.split())
    assert result.exit_code == 0, result.output
    shown = re.findall(r"^  \d (\S+) +(\S+) +(.*)$", result.output, flags=re.MULTILINE)
    states = {f"{road} ({rung})": state for road, rung, state in shown}
    assert tuple(states) == TITLES
    (taken,) = (title for title, state in states.items() if state == "taken")
    for title in set(TITLES) - {taken}:
        assert states[title].startswith("left: right, but for 64 rows ")
        assert states[title].endswith(f" times as long as {taken}, which was taken")
    road, rung = taken.removesuffix(")").split(" (")
    assert f"road        {road} (sklearn, {rung}, " in result.output
