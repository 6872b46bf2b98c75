"""Turns are taken, errors end the comparison, and the sentence says what was found."""

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from perf import baseline, comparing, comparison_journal, journal, sides, verdict
from perf.baseline import Baseline
from perf.candidates import AS_SERVED, Candidate
from perf.comparing import Comparison, ComparisonError, Metric, Plan, Side, Turn
from perf.journal import Header
from perf.measurement import Load, Measurement
from perf.sides import Asked
from perf.verdict import Outcome
from toolkit.errors import ConfigError, ServerDiedError, ToolkitError
from toolkit.spec import RepositoryEntry


def measurement(rate: float, *, failures: int = 0, p99: float = 900.0) -> Measurement:
    return Measurement(
        load=Load(concurrency=4),
        requests=1000,
        failures=failures,
        inferences_per_second=rate,
        mean_us=4e6 / rate,
        p50_us=500.0,
        p90_us=700.0,
        p95_us=800.0,
        p99_us=p99,
    )


def side(name: str, rate: float, *, noise: float = 0.02, seed: int = 0) -> Side:
    dice = random.Random(f"{name}{seed}")
    return Side(name, lambda: measurement(rate * (1 + dice.gauss(0, noise))))


def compare(a: Side, b: Side, plan: Plan | None = None) -> tuple[Comparison, list[Turn]]:
    turns: list[Turn] = []
    return comparing.compare(a, b, plan or Plan(), turns.append), turns


@pytest.mark.parametrize(
    ("rate", "outcome"),
    [(1100, Outcome.FASTER), (900, Outcome.SLOWER), (1000, Outcome.NO_DIFFERENCE)],
)
def test_the_verdict_is_about_the_second_side(rate: float, outcome: Outcome) -> None:
    found, _ = compare(side("old", 1000), side("new", rate))
    assert found.outcome is outcome
    assert found.ratio.low <= rate / 1000 <= found.ratio.high
    assert found.medians[1].low <= rate <= found.medians[1].high


def test_of_a_latency_less_is_better() -> None:
    plan = Plan(metric=Metric.MEAN)
    found, _ = compare(side("old", 1000), side("new", 1100), plan)
    assert found.outcome is Outcome.FASTER
    assert found.ratio.value < 1
    assert "new is faster than old: mean -" in found.sentence


def test_the_sentence_says_how_large_a_difference_could_have_been_missed() -> None:
    found, _ = compare(side("old", 1000), side("new", 1000))
    missed = found.ratio.unseen_percent
    assert f"a difference of up to {missed:.1f} % could have been missed" in found.sentence
    assert "99 % interval" in found.sentence
    assert 0 < missed < 5


def test_the_most_that_it_may_be_slower_is_the_bad_end_of_the_interval() -> None:
    found, _ = compare(side("old", 1000), side("new", 1000))
    assert found.unseen_slowdown_percent == pytest.approx(100 * (1 - found.ratio.low))
    slower, _ = compare(side("old", 1000), side("new", 900), Plan(metric=Metric.MEAN))
    assert slower.unseen_slowdown_percent == pytest.approx(100 * (slower.ratio.high - 1))
    faster, _ = compare(side("old", 1000), side("new", 1100))
    assert faster.unseen_slowdown_percent == 0


def test_the_sides_take_turns_as_the_coin_says_and_the_warm_up_does_not_count() -> None:
    plan = Plan(rounds=8, seed=11)
    found, turns = compare(side("old", 1000), side("new", 1000), plan)
    assert [turn.round for turn in turns[:2]] == [0, 0]
    assert "".join(turn.side for turn in turns[2:]) == found.order == plan.order
    assert len(found.first) == len(found.second) == 8
    assert len(turns) == 18


def test_what_a_side_did_in_a_round_is_paired_with_the_other_side_of_that_round() -> None:
    """A machine that slows down by half on the way is no difference between the sides."""
    speeds = itertools.chain.from_iterable([1000 * 0.93**i] * 2 for i in itertools.count())
    shared = Side("same", lambda: measurement(next(speeds)))
    found, _ = compare(shared, shared, Plan(warm_up=0, seed=5))
    assert found.ratio.low == found.ratio.value == found.ratio.high == 1


def test_undecided_it_goes_on_to_the_most_rounds_and_decided_it_stops() -> None:
    undecided, _ = compare(side("old", 1000), side("new", 1000), Plan(rounds=8, most=20))
    assert len(undecided.first) == 20
    decided, turns = compare(side("old", 1000), side("new", 1300), Plan(rounds=10, most=40))
    assert len(decided.first) == 10
    assert turns[-1].share_done == 1
    # Three looks share the error rate.
    assert decided.ratio.confidence >= 1 - verdict.ERROR_RATE / 3


def test_the_time_left_shrinks_to_nothing() -> None:
    _, turns = compare(side("old", 1000), side("new", 1000), Plan(rounds=7))
    assert turns[-1].seconds_left == 0
    assert [turn.share_done for turn in turns] == pytest.approx([i / 16 for i in range(1, 17)])


def breaks_after(count: int, then: Callable[[], Measurement]) -> Side:
    calls = itertools.count()
    return Side("new", lambda: then() if next(calls) >= count else measurement(1000))


def test_a_server_that_dies_ends_it_with_the_side_and_the_round() -> None:
    def die() -> Measurement:
        raise ServerDiedError("Triton ended by itself", hint="toolkit logs")

    turns: list[Turn] = []
    with pytest.raises(ComparisonError) as ended:
        comparing.compare(side("old", 1000), breaks_after(3, die), Plan(), turns.append)
    assert ended.value.message == "new, in round 3: Triton ended by itself"
    assert ended.value.hint == "toolkit logs"
    assert (turns[-1].side, turns[-1].failure) == ("B", "Triton ended by itself")


def test_requests_that_failed_are_never_averaged() -> None:
    failing = breaks_after(0, lambda: measurement(5000, failures=12))
    with pytest.raises(ComparisonError, match=r"new, in the warm-up: 12 of 1,012 requests failed"):
        compare(side("old", 1000), failing)


def test_a_percentile_that_was_not_reported_is_said() -> None:
    silent = breaks_after(0, lambda: measurement(1000, p99=float("nan")))
    with pytest.raises(ComparisonError, match="has no p99"):
        compare(side("old", 1000), silent, Plan(metric=Metric.P99))


def test_too_few_rounds_are_refused() -> None:
    with pytest.raises(ConfigError, match="6 rounds cannot tell"):
        Plan(rounds=6)


def test_recorded_figures_are_compared_with_new_ones() -> None:
    recorded = comparing.sample(side("then", 1000), Plan(), lambda _: None)
    found = comparing.against(recorded, side("now", 900), Plan(), lambda _: None)
    assert len(recorded) == len(found.second) == 10
    assert found.outcome is Outcome.SLOWER
    assert found.slower_by_more_than(4)
    assert not found.slower_by_more_than(12)


def test_all_of_it_is_in_the_json() -> None:
    found, _ = compare(side("old", 1000), side("new", 1200))
    record = found.to_json()
    assert record["verdict"] == "faster"
    assert record["ratio"]["low"] < 1.2 < record["ratio"]["high"]
    assert [one["name"] for one in record["sides"]] == ["old", "new"]
    assert len(record["sides"][0]["measurements"]) == 10


CONFIG = 'backend: "python"\nmax_batch_size: 8\ndynamic_batching { }\n'


def test_a_side_is_a_model_a_version_of_it_or_a_model_served_as_a_file_says(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.pbtxt").write_text(CONFIG)
    (tmp_path / "one@config.json").write_text('{"name": "forest", "max_batch_size": 4}')
    (tmp_path / "changes.json").write_text('{"max_batch_size": 4}')
    assert sides.parse("forest") == Asked(name="forest", model="forest")
    assert sides.parse("forest@served").configuration is None
    assert sides.parse("forest:3").version == "3"
    text = sides.parse(f"forest:2@{tmp_path / 'config.pbtxt'}")
    assert (text.model, text.version, text.candidate) == ("forest", "2", AS_SERVED)
    assert text.configuration == {"backend": "python", "max_batch_size": 8, "dynamic_batching": {}}
    whole = sides.parse(f"forest@{tmp_path / 'one@config.json'}")
    assert whole.configuration == {"name": "forest", "max_batch_size": 4}
    changes = sides.parse(f"forest@{tmp_path / 'changes.json'}")
    assert changes.configuration == changes.candidate == Candidate(max_batch_size=4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("forest:new", "a version is a number"),
        ("forest:0", "a version is a number"),
        ("../forest", "../forest"),
        ("@config.pbtxt", "cannot name a model"),
        ("forest@", "cannot be read"),
        ("forest@FILE", "is no JSON"),
        ("forest@EMPTY", "neither a configuration nor changes"),
        ("forest@TEXT", "does not parse"),
        ("forest@BYTES", "is no text"),
        ("forest@/nowhere", "cannot be read"),
    ],
)
def test_what_is_no_side_is_refused(tmp_path: Path, text: str, said: str) -> None:
    contents = {"FILE": b"{,}", "EMPTY": b"{}", "TEXT": b"max_batch: [", "BYTES": b"\xff\xfe"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        text = text.replace(f"@{name}", f"@{tmp_path / name}")
    with pytest.raises(ToolkitError) as refused:
        sides.parse(text)
    assert said in refused.value.message


def written(path: Path, plan: Plan, a: Side, b: Side) -> Comparison:
    """Compare ``a`` and ``b``, and write the journal as the command does."""
    asked = {"A": sides.parse("old"), "B": Asked(name="new@x.json", model="old")}
    about = Header(
        command="compare", model="old", configuration={}, machine={}, server={},
        plan={
            "sides": {letter: side.name for letter, side in asked.items()},
            "order": plan.order, "looks": list(plan.looks), "metric": plan.metric.value,
        },
    )  # fmt: skip
    with comparison_journal.written(path, about, asked, Load(concurrency=4)) as write:
        return comparing.compare(a, b, plan, write)


def test_the_journal_of_a_comparison_gives_the_same_verdict_again(tmp_path: Path) -> None:
    plan = Plan(rounds=8, most=20, seed=4, metric=Metric.MEAN)
    found = written(tmp_path / "j", plan, side("old", 1000), side("new@x.json", 1000))
    again = comparison_journal.comparison(*journal.read(tmp_path / "j"))
    assert again == found


def test_a_journal_that_was_broken_off_tells_of_the_rounds_that_both_sides_have(
    tmp_path: Path,
) -> None:
    def die() -> Measurement:
        raise ServerDiedError("Triton ended by itself")

    for rounds in (3, 8):
        path = tmp_path / str(rounds)
        with pytest.raises(ComparisonError):
            written(path, Plan(seed=1), side("old", 1000), breaks_after(rounds + 1, die))
        header, points = journal.read(path)
        assert points[-1].failure == "Triton ended by itself"
        found = comparison_journal.comparison(header, points)
        assert (len(found.second) if found else None) == (8 if rounds == 8 else None)


def recorded(**values: object) -> Baseline:
    given = {
        "model": "forest", "version": "1", "metric": Metric.P99, "configuration": {},
        "measurements": (measurement(1000),) * 6, "settings": {}, "machine": {}, "server": {},
    }  # fmt: skip
    return Baseline(**{**given, **values})  # type: ignore[arg-type]


def test_a_baseline_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "baseline.json"
    made = recorded(input_data=("rows.json", "ab12"), files="cd34")
    baseline.write(path, made)
    assert baseline.read(path) == made
    assert [one.name for one in path.parent.iterdir()] == ["baseline.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 9}', "\0"])
def test_a_file_that_is_no_baseline_is_refused_with_the_way_to_make_one(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        baseline.read(path)
    assert "perf gate MODEL --save" in str(refused.value.hint)


def test_a_baseline_without_measurements_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    baseline.write(path, recorded())
    path.write_text(json.dumps({**json.loads(path.read_text()), "measurements": []}))
    with pytest.raises(ConfigError, match="is no baseline"):
        baseline.read(path)


def test_only_the_files_of_the_recorded_version_can_be_served_again(tmp_path: Path) -> None:
    version = tmp_path / "forest" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text("one")
    entry = RepositoryEntry("forest", tmp_path / "forest", (1,))
    made = recorded(files=baseline.entry_hash(entry, "1"))
    (version / "__pycache__").mkdir()
    (version / "__pycache__" / "model.pyc").write_bytes(b"compiled")
    assert baseline.why_not_again(made, entry) is None
    (version / "model.py").write_text("two")
    assert "are others now" in str(baseline.why_not_again(made, entry))
    newer = RepositoryEntry("forest", tmp_path / "forest", (2,))
    assert "not in the repository any more" in str(baseline.why_not_again(made, newer))
    assert "not in a repository here" in str(baseline.why_not_again(made, None))


def test_an_older_version_is_served_again_though_a_newer_one_is_there() -> None:
    made = recorded(configuration={"version_policy": {"latest": {"num_versions": 1}}})
    assert made.again("1") == made.configuration
    assert made.again("2") == {"version_policy": {"specific": {"versions": [1]}}}


def test_machines_differ_in_what_matters_to_a_measurement() -> None:
    here = {"processor": "a", "cores": 2, "memory_gib": 8.0, "system": "x"}
    assert baseline.other_machine({**here, "system": "y", "memory_gib": 7.9}, here) is None
    assert "cores 4, here 2" in str(baseline.other_machine({**here, "cores": 4}, here))
    assert "4.0 GiB" in str(baseline.other_machine({**here, "memory_gib": 4.0}, here))
    assert baseline.other_machine({}, here)
