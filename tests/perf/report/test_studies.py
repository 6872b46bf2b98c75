"""What a report makes of journals: medians, the front, the winner, what is compared."""

import math
from pathlib import Path
from typing import Any

import pytest

from perf import report
from perf.candidates import AS_SERVED, Candidate
from perf.comparing import Plan
from perf.journal import Header, Point
from perf.report import Study, sentence
from perf.report.variants import Variant
from perf.report.wording import notes
from perf.settings import differences, served
from tests.perf.report import journals
from tests.perf.report.journals import CONFIGURATION, failed, header, point
from toolkit.errors import ConfigError

TWO, THREE, FOUR = (Candidate(instance_count=count) for count in (2, 3, 4))


def study_of(folder: Path, points: list[Point], about: Header | None = None) -> Study:
    [study] = report.group([journals.write(folder / "one.jsonl", about or header(), points)])
    return study


def limited(command: str = "tune", **plan: Any) -> Header:
    return header(command=command, plan=plan)


def test_the_front_is_what_nothing_beats_in_both_figures(tmp_path: Path) -> None:
    points = [
        point(AS_SERVED, 100, 1.0),
        point(TWO, 100, 1.5),
        point(THREE, 200, 3.0),
        point(FOUR, 150, 3.0),
        point(Candidate(max_batch_size=8), 300, 9.0),
        point(Candidate(max_batch_size=9), 400, math.nan),
    ]
    front = [one for one in study_of(tmp_path, points).results if one.on_front]
    assert [one.measured.inferences_per_second for one in front] == [100, 200, 300]
    assert front[0].variant.as_served


def test_the_winner_serves_most_within_the_limit(tmp_path: Path) -> None:
    points = [point(AS_SERVED, 100, 1), point(TWO, 200, 4), point(THREE, 300, 4.1)]
    study = study_of(tmp_path, points, limited(max_p99_ms=4.0))
    assert study.winner is not None
    assert study.winner.variant.candidate == TWO
    assert sentence(study) == (
        "churn with 2 instances serves 200 inferences/s at p99 4.00 ms, 2.0 times the"
        " configuration as served."
    )


def test_the_objective_latency_is_won_by_the_lowest_p99(tmp_path: Path) -> None:
    points = [point(AS_SERVED, 100, 2), point(TWO, 90, 1), point(THREE, 300, 3)]
    study = study_of(tmp_path, points, limited(objective="latency", min_throughput=90))
    assert sentence(study) == (
        "churn with 2 instances serves 90.0 inferences/s at p99 1.00 ms, 50 % less than the"
        " configuration as served."
    )


def test_without_a_result_within_the_limit_nobody_wins(tmp_path: Path) -> None:
    study = study_of(tmp_path, [point(AS_SERVED, 100, 7)], limited(max_p99_ms=5))
    assert study.winner is None
    assert sentence(study) == (
        "No measured configuration of churn keeps to the limit of p99 5 ms; the lowest p99 is"
        " 7.00 ms at 100 inferences/s (as served)."
    )


def test_failed_requests_win_nothing(tmp_path: Path) -> None:
    study = study_of(tmp_path, [point(AS_SERVED, 100, 7), point(TWO, 900, 1, failures=3)])
    assert study.winner is not None
    assert study.winner.variant.as_served
    assert sentence(study).endswith(", and none of 1 other configurations is better.")


def test_a_default_beyond_the_limit_is_still_compared_and_that_is_said(tmp_path: Path) -> None:
    points = [point(AS_SERVED, 100, 9), point(TWO, 150, 4)]
    study = study_of(tmp_path, points, limited(max_p99_ms=5))
    assert "1.5 times" in sentence(study)
    assert "does not keep to the limit of p99 5 ms" in " ".join(notes(study))


def test_an_unstable_winner_is_said_to_be_one(tmp_path: Path) -> None:
    study = study_of(tmp_path, [point(AS_SERVED, 100, 9, stable=False)])
    assert list(notes(study)) == [
        "The winner: the measurement was not stable, so take its figures as rough."
    ]


def test_repeated_runs_count_by_their_median(tmp_path: Path) -> None:
    rates = (100, 900, 120)
    points = [point(TWO, rate, 5, batch_sizes={4: 10}, requests=7) for rate in rates]
    [result] = study_of(tmp_path, points).results
    assert result.runs == 3
    assert result.measured.inferences_per_second == 120
    assert result.measured.requests == 21
    assert result.measured.batch_sizes == {4: 30}


def test_of_a_tuning_only_what_was_measured_again_can_win(tmp_path: Path) -> None:
    points = [point(FOUR, 990, 5), *[point(one, 500, 5) for one in (AS_SERVED, THREE) * 3]]
    points += [point(THREE, 510, 5)] * 3
    for command, winner in (("tune", THREE), ("sweep", FOUR)):
        folder = tmp_path / command
        study = study_of(folder, points, limited(command))
        assert study.winner is not None
        assert study.winner.variant.candidate == winner


def test_the_default_is_the_first_where_nothing_was_measured_as_served(tmp_path: Path) -> None:
    study = study_of(tmp_path, [point(TWO, 100, 5), point(THREE, 300, 5)])
    assert study.default == Variant(TWO)
    assert sentence(study).endswith("3.0 times the first one measured.")
    assert "the first one measured is 2 instances" in " ".join(notes(study))


def compared(folder: Path, factor: float) -> Study:
    plan = Plan(rounds=10)
    points = [
        point(AS_SERVED, (1000 + turn) * (factor if side == "B" else 1), 5)
        for turn, side in enumerate(plan.order)
    ]
    about = limited(
        "compare",
        sides={"A": "churn:1", "B": "churn:2"},
        order=plan.order,
        looks=[10],
        metric="throughput",
        warm_up=1,
    )
    return study_of(folder, points, about)


def test_sides_of_a_comparison_are_told_apart_though_both_are_as_served(tmp_path: Path) -> None:
    study = compared(tmp_path, 1.5)
    assert {one.variant.short: one.runs for one in study.results} == {"churn:1": 10, "churn:2": 10}
    assert study.winner is not None
    assert study.winner.variant.side == "churn:2"
    assert sentence(study).startswith("churn:2 is faster than churn:1: throughput +")


def test_of_two_equal_sides_none_wins(tmp_path: Path) -> None:
    study = compared(tmp_path, 1.0)
    assert study.winner is None
    assert study.rival is not None
    assert sentence(study).startswith("no difference seen between churn:1 and churn:2")


def test_journals_of_the_same_are_put_together_and_others_are_not(tmp_path: Path) -> None:
    abouts = {
        "one": header(),
        "same": header(started="2026-11-22T00:00:00+00:00"),
        "machine": header(machine={"cores": 1}),
        "limit": limited("sweep", max_p99_ms=3),
        "version": limited("run", model_version="1"),
        "model": header("fraud"),
    }
    paths = [
        journals.write(tmp_path / name, about, [point(AS_SERVED, 100, 5)])
        for name, about in abouts.items()
    ]
    sources = [study.sources for study in report.group(paths)]
    assert sources == [("one", "same"), ("machine",), ("limit",), ("version",), ("model",)]


def test_a_journal_without_a_point_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing has been measured yet") as error:
        study_of(tmp_path, [])
    assert error.value.hint


@pytest.mark.parametrize("value", ["many", math.inf, math.nan, None, [1]])
def test_a_measurement_that_is_no_number_is_an_error_with_its_line(
    tmp_path: Path, value: Any
) -> None:
    with pytest.raises(ConfigError, match=r"one.jsonl, line 3"):
        study_of(tmp_path, [point(TWO, 1, 1), point(THREE, 1, 1, inferences_per_second=value)])


def test_points_that_failed_are_kept_with_their_reason(tmp_path: Path) -> None:
    study = study_of(tmp_path, [failed(TWO, "gone")])
    assert [point.failure for _, point in study.failed] == ["gone"]
    assert sentence(study) == "Nothing could be measured of churn: every point failed."


def test_settings_are_read_from_a_configuration_of_triton() -> None:
    assert served(CONFIGURATION) == {
        "max_batch_size": 64,
        "dynamic_batching": True,
        "max_queue_delay_microseconds": "500",
        "preferred_batch_size": None,
        "instance_count": 1,
        "intra_op_thread_count": "1",
        "response_cache": False,
    }


def test_a_setting_differs_only_where_its_value_does() -> None:
    candidate = Candidate(
        max_queue_delay_microseconds=500, intra_op_thread_count=1, response_cache=True
    )
    assert differences(CONFIGURATION, AS_SERVED, candidate) == [
        ("response_cache.enable", "off", "on")
    ]


def test_without_batching_there_is_no_delay() -> None:
    candidate = Candidate(dynamic_batching=False)
    assert differences(CONFIGURATION, AS_SERVED, candidate) == [
        ("dynamic_batching", "on", "off"),
        ("dynamic_batching.max_queue_delay_microseconds", "500", "not set"),
    ]


def test_a_candidate_that_changes_nothing_is_as_served(tmp_path: Path) -> None:
    same = Candidate(instance_count=1, max_batch_size=64, preferred_batch_size=())
    more = Candidate(instance_count=2, max_batch_size=64, dynamic_batching=True)
    study = study_of(tmp_path, [point(same, 100, 5), point(AS_SERVED, 120, 5), point(more, 220, 5)])
    assert [one.variant.short for one in study.results] == ["as served", "2 instances"]
    assert sentence(study).endswith("2.0 times the configuration as served.")


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (AS_SERVED, "as served"),
        (Candidate(instance_count=1, intra_op_thread_count=2), "1 instance · 2 threads"),
        (Candidate(preferred_batch_size=(4, 8)), "prefers 4, 8"),
        (Candidate(preferred_batch_size=()), "prefers none"),
        (Candidate(dynamic_batching=False, response_cache=True), "no batching · cache"),
        (Candidate(max_batch_size=8, max_queue_delay_microseconds=0), "batch ≤ 8 · delay 0 µs"),
    ],
)
def test_a_legend_names_a_candidate_in_few_words(candidate: Candidate, words: str) -> None:
    assert Variant(candidate).short == words
