"""What a candidate changes in a configuration, and which candidates a model has room for."""

from typing import Any

import pytest

from perf import configuration, space
from perf.candidates import AS_SERVED, Candidate
from perf.space import Space
from toolkit.errors import ConfigError

SERVED: dict[str, Any] = {
    "name": "m",
    "backend": "onnxruntime",
    "max_batch_size": 64,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}],
    "dynamic_batching": {"preferred_batch_size": [64], "max_queue_delay_microseconds": "0"},
    "instance_group": [{"name": "m_0", "kind": "KIND_CPU", "count": 1}],
    "parameters": {"intra_op_thread_count": {"string_value": "1"}},
    "model_warmup": [
        {"name": "one", "batch_size": 1, "inputs": {"x": {"dims": [4], "zero_data": True}}},
        {"name": "many", "batch_size": 64, "inputs": {"x": {"dims": [4], "zero_data": True}}},
    ],
    "of_a_newer_server": True,
}
UNBATCHED = {name: SERVED[name] for name in ("name", "backend", "input", "instance_group")}


def changed(**settings: Any) -> dict[str, Any]:
    return configuration.changed(SERVED, Candidate(**settings))


def test_no_change_says_the_same() -> None:
    assert configuration.same(changed(), SERVED)


def test_each_setting_is_written_where_triton_looks_for_it() -> None:
    assert changed(instance_count=3)["instance_group"][0]["count"] == 3
    threads = changed(intra_op_thread_count=2)["parameters"]["intra_op_thread_count"]
    assert threads == {"string_value": "2"}
    delayed = changed(max_queue_delay_microseconds=500, preferred_batch_size=(8, 16))
    assert delayed["dynamic_batching"]["max_queue_delay_microseconds"] == "500"
    assert delayed["dynamic_batching"]["preferred_batch_size"] == [8, 16]
    assert changed(response_cache=True)["response_cache"] == {"enable": True}
    assert "dynamic_batching" not in changed(dynamic_batching=False)


def test_smaller_batches_take_what_is_too_large_for_them_along() -> None:
    smaller = changed(max_batch_size=16)

    assert smaller["max_batch_size"] == 16
    assert "preferred_batch_size" not in smaller["dynamic_batching"]
    assert [one["name"] for one in smaller["model_warmup"]] == ["one"]


def test_a_batcher_comes_where_there_is_none() -> None:
    without = configuration.changed(SERVED, Candidate(dynamic_batching=False))

    assert "dynamic_batching" in configuration.changed(without, Candidate(dynamic_batching=True))


@pytest.mark.parametrize(
    ("config", "candidate"),
    [
        (UNBATCHED, Candidate(max_batch_size=8)),
        (UNBATCHED, Candidate(dynamic_batching=True)),
        (SERVED, Candidate(max_batch_size=8, preferred_batch_size=(16,))),
        (SERVED, Candidate(dynamic_batching=False, max_queue_delay_microseconds=5)),
        ({**SERVED, "backend": "python"}, Candidate(intra_op_thread_count=2)),
        (
            {**SERVED, "instance_group": [{"count": 1}, {"count": 2}]},
            Candidate(instance_count=2),
        ),
    ],
)
def test_a_change_without_room_is_refused(config: dict[str, Any], candidate: Candidate) -> None:
    with pytest.raises(ConfigError, match="model 'm'"):
        configuration.changed(config, candidate)


def test_the_same_but_for_what_is_tuned() -> None:
    tuned = changed(instance_count=2, max_batch_size=16, intra_op_thread_count=4)

    assert configuration.same_but_for_candidates(SERVED, tuned)
    assert not configuration.same_but_for_candidates(SERVED, {**SERVED, "backend": "python"})


def test_a_grid_holds_every_candidate_that_means_something_once() -> None:
    wanted = Space(
        dynamic_batching=(True, False),
        max_batch_size=(8, 64),
        max_queue_delay_microseconds=(0, 500),
        preferred_batch_size=((), (16,)),
        instance_count=(1, 2),
    )

    found = space.grid(wanted, SERVED)

    # Batching: 2 delays x (2 sizes without and 1 with preferred rows); none: one; 2 instances.
    assert len(found) == len(set(found)) == (2 * 3 + 1) * 2
    # Of what is served already nothing is said.
    assert found[:2] == (
        Candidate(max_batch_size=8), Candidate(max_batch_size=8, instance_count=2),
    )  # fmt: skip
    assert AS_SERVED in found
    for candidate in found:
        configuration.changed(SERVED, candidate)


def test_a_setting_that_the_model_has_no_room_for_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(ConfigError, match="no thread count"):
        space.grid(Space(intra_op_thread_count=(1, 2)), {**SERVED, "backend": "python"})


@pytest.mark.parametrize("cores", [1, 2, 8])
def test_the_usual_space_fits_the_model(cores: int) -> None:
    batched = space.usual(SERVED, cores=cores, concurrency=[32])
    assert len(space.grid(batched, SERVED)) >= 100 * (1 if cores > 1 else 0.7)
    assert max(batched.instance_count) == max(2, 2 * cores)

    plain = space.usual(UNBATCHED, cores=cores, concurrency=[32])
    assert set(plain.choices()) == {"instance_count", "intra_op_thread_count"}
    python = space.usual({**SERVED, "backend": "python"}, cores=cores, concurrency=[1])
    assert not python.intra_op_thread_count
    assert python.preferred_batch_size == ((),)


def test_neighbours_change_one_thing_at_a_time_and_delay_and_sizes_together() -> None:
    choices = {"instance_count": (1, 2, 4), "max_queue_delay_microseconds": (0, 100)}

    found = list(
        space.neighbours({"instance_count": 2, "max_queue_delay_microseconds": 0}, choices)
    )

    assert [list(one.values()) for one in found] == [[4, 0], [1, 0], [2, 100]]


def test_candidates_go_to_json_and_back() -> None:
    candidate = Candidate(preferred_batch_size=(8,), dynamic_batching=True, instance_count=2)

    assert Candidate.from_json(candidate.to_json()) == candidate
    assert str(candidate) == "dynamic_batching=true preferred_batch_size=8 instance_count=2"
    assert str(AS_SERVED) == "as served"
    with pytest.raises(ConfigError, match="colour"):
        Candidate.from_json({"colour": "red"})
