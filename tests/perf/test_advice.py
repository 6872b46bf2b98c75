"""Each rule of advice speaks where its numbers say so, and is silent on the other side."""

import inspect
import itertools
import json
import random
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import click
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from perf.advice import Advice, Machine, Setting, advise, observed, sentence
from perf.advice.deciding import OPPOSITES
from perf.advice.setting import QUEUE_LIMITS
from perf.statistics import Counters, Snapshot, Tally
from toolkit.options import serving_flags
from toolkit.spec import ServingConfig

PARTS = ("compute_input", "compute_infer", "compute_output")


def traffic(
    sizes: Mapping[int, int] | None = None,
    *,
    busy: float = 0.5,
    queue_us: float = 20.0,
    rows_per_request: int = 1,
    fixed_us: float = 300.0,
    row_us: float = 10.0,
    handing: float = 0.1,
    failures: int = 0,
    hits: int = 0,
    misses: int = 0,
) -> Snapshot:
    """Give what Triton counts of executions of ``sizes`` that fill ``busy`` of an instance.

    An execution takes ``fixed_us`` and ``row_us`` a row, the part ``handing`` of it before
    and after the model; a request waits ``queue_us`` and then takes all of its execution.
    """
    sizes = {1: 1000} if sizes is None else sizes
    executions, computed, computing_ns = {}, 0, 0.0
    total_ns = dict.fromkeys(PARTS, 0.0)
    for rows, count in sizes.items():
        ns = (fixed_us + row_us * rows) * 1_000
        part_ns = dict(
            zip(PARTS, (ns * handing / 2, ns * (1 - handing), ns * handing / 2), strict=True)
        )
        joined = max(rows // rows_per_request, 1)
        computed += count * joined
        computing_ns += count * ns
        for part, one in part_ns.items():
            executions[rows, part] = Tally(count, round(count * one))
            total_ns[part] += count * joined * one
    queue_ns = computed * queue_us * 1_000
    requests = {
        "success": Tally(computed + hits, round(queue_ns + sum(total_ns.values()))),
        "queue": Tally(computed + hits, round(queue_ns)),
        "fail": Tally(failures, failures * 1_000),
        "cache_hit": Tally(hits, hits * 3_000),
        "cache_miss": Tally(misses, misses * 30_000),
        **{part: Tally(computed, round(ns)) for part, ns in total_ns.items()},
    }
    rows = sum(size * count for size, count in sizes.items())
    counters = Counters(rows, sum(sizes.values()), requests, executions)
    seconds = computing_ns / 1e9 / busy if sizes else 10.0
    return Snapshot(model="m", versions={"1": counters}, clock_seconds=0.0, seconds=seconds)


def served(**changes: Any) -> Setting:
    """Give a model as ``toolkit convert`` serves it, but for the ``changes``."""
    usual = {
        "backend": "onnxruntime", "python_based": True, "max_batch_size": 256,
        "dynamic_batching": True, "threads": 1,
    }  # fmt: skip
    return Setting(model="m", **{**usual, **changes})


ROOM = Machine(cores=8, idle_cores=6.0)
FULL = Machine(cores=2, idle_cores=0.05)
MANY = {1: 200, 2: 100, 4: 100, 8: 100, 16: 100}
ALONE = {"sizes": {1: 1000}}

# What speaks, the case in which it does, and what makes it silent.
Case = tuple[str, dict[str, Any], dict[str, Any], Machine, list[dict[str, Any]]]
CASES: list[Case] = [
    ("no_traffic", {"sizes": {}}, {}, ROOM, [{"sizes": {1: 40}}]),
    ("too_little_traffic", {"sizes": {1: 29}}, {}, ROOM, [{"sizes": {1: 30}}]),
    ("failures", {"failures": 1}, {}, ROOM, [{"failures": 0}]),
    (
        "queue_is_full",
        {"busy": 0.5, "queue_us": 6_000},
        {"max_queue_size": 10},
        ROOM,
        [{"queue_us": 2_000}, {"max_queue_size": 0}, {"max_queue_size": 32}],
    ),
    (
        "batcher_sleeps",
        {"busy": 0.1, "queue_us": 30_000},
        {"queue_limits": ("allow_timeout_override",)},
        ROOM,
        [
            {"queue_limits": ()},
            {"busy": 0.6},
            {"dynamic_batching": False},
            {"queue_us": 900, "fixed_us": 10},
            {"fixed_us": 12_000},
            {"queue_delay_us": 16_000},
            {"instance_count": 2, "machine": FULL},
        ],
    ),
    (
        "batcher_sleeps",
        {"busy": 0.2, "queue_us": 30_000},
        {"queue_limits": ("priority_levels",), "queue_delay_us": 500, "instance_count": 2},
        ROOM,
        [{"queue_limits": ()}, {"busy": 1.2}],
    ),
    (
        "delay_too_long",
        {"busy": 0.1, "queue_us": 5_200},
        {"queue_delay_us": 5_000},
        ROOM,
        [
            {"queue_us": 2_000},
            {"busy": 0.75},
            {"queue_us": 9_000},
            {"queue_delay_us": 0, "queue_us": 200},
            {"queue_delay_us": 20, "queue_us": 300},
        ],
    ),
    (
        "batch_never_fills",
        {"sizes": {4: 500}, "busy": 0.1, "queue_us": 5_200},
        {"queue_delay_us": 5_000},
        ROOM,
        [{"queue_us": 2_000}, {"busy": 0.75}, {"sizes": {1: 500}}],
    ),
    (
        "preferred_sizes_never_come",
        {"sizes": {4: 500}, "busy": 0.1, "queue_us": 5_200},
        {"queue_delay_us": 5_000, "preferred_batch_size": (32,)},
        ROOM,
        [{"preferred_batch_size": ()}, {"preferred_batch_size": (4,)}, {"queue_us": 200}],
    ),
    (
        "no_dynamic_batching",
        {"busy": 0.95, "queue_us": 8_000},
        {"dynamic_batching": False},
        ROOM,
        [{"dynamic_batching": True}, {"queue_us": 100}, {"busy": 0.4}, {"sequence_batching": True}],
    ),
    (
        "no_batch_axis",
        {"busy": 0.95, "queue_us": 8_000},
        {"dynamic_batching": False, "max_batch_size": 0},
        ROOM,
        [{"queue_us": 100}, {"max_batch_size": 8}],
    ),
    (
        "delay_too_short",
        {"sizes": MANY, "busy": 0.9, "queue_us": 3_000},
        {},
        FULL,
        [{"busy": 0.6}, {"queue_delay_us": 500}, {"fixed_us": 1}, {"sizes": {4: 600}}],
    ),
    (
        "preferred_sizes_too_small",
        {"sizes": {1: 100, 8: 500}, "busy": 0.9, "queue_us": 3_000},
        {"preferred_batch_size": (8,)},
        FULL,
        [{"preferred_batch_size": ()}, {"busy": 0.6}, {"queue_us": 9}, {"sizes": {1: 500, 8: 9}}],
    ),
    (
        "batches_are_full",
        {"sizes": {1: 100, 4: 500}, "busy": 0.95, "queue_us": 5_000},
        {"max_batch_size": 4},
        FULL,
        [{"max_batch_size": 8}, {"busy": 0.5}, {"queue_us": 10}, {"fixed_us": 1, "row_us": 90}],
    ),
    (
        "instances_full",
        {"busy": 0.95, "queue_us": 3_000},
        {},
        ROOM,
        [{"busy": 0.7}, {"queue_us": 50}, {"machine": FULL}, {"one_instance_group": False}],
    ),
    (
        "threads_fight",
        {"busy": 2.5},
        {"instance_count": 4, "threads": 4},
        ROOM,
        [{"threads": 2}, {"busy": 0.1}, {"instance_count": 2}, {"machine": Machine()}],
    ),
    (
        "cores_are_taken",
        {"busy": 0.2, "queue_us": 5_000},
        {},
        FULL,
        [{"machine": ROOM}, {"busy": 0.6}, {"queue_us": 500}, {"machine": Machine(cores=2)}],
    ),
    (
        "machine_is_full",
        {"busy": 0.9, "queue_us": 2_000},
        {},
        FULL,
        [{"machine": ROOM}, {"busy": 0.4}, {"queue_us": 50}],
    ),
    (
        "cache_never_hits",
        {"misses": 1000},
        {"response_cache": True},
        ROOM,
        [{"response_cache": False}, {"hits": 20}, {"misses": 99}],
    ),
    (
        "larger_requests",
        {"sizes": {1: 1000, 16: 30}, "queue_us": 10},
        {},
        ROOM,
        [{"fixed_us": 5}, {"sizes": {1: 1000, 16: 10}}, {"max_batch_size": 1}],
    ),
    (
        "larger_requests",
        {"handing": 0.6},
        {},
        ROOM,
        [{"handing": 0.4}, {"max_batch_size": 0, "dynamic_batching": False}],
    ),
    (
        "smaller_batches",
        {"sizes": {8: 50, 64: 500}, "fixed_us": -700, "row_us": 100, "rows_per_request": 1},
        {},
        ROOM,
        [{"fixed_us": 300}, {"sizes": {8: 5, 64: 500}}, {"rows_per_request": 32}],
    ),
    (
        "no_concurrency",
        {"busy": 0.6, "queue_us": 20},
        {},
        ROOM,
        [{"busy": 0.1}, {"sizes": {2: 500}}, {"queue_us": 900}],
    ),
    (
        "ensemble",
        {"busy": 0.6},
        {"ensemble": ("one", "two")},
        ROOM,
        [{"ensemble": ()}],
    ),
]  # fmt: skip
SILENT = [
    (kind, counted, setting, machine, change)
    for kind, counted, setting, machine, changes in CASES
    for change in changes
]
TRAFFIC = frozenset(inspect.signature(traffic).parameters)


def given(
    counted: dict[str, Any], setting: dict[str, Any], machine: Machine, change: dict[str, Any]
) -> list[Advice]:
    """Give the advice for a case, with ``change`` made to its traffic, setting or machine."""
    seen = {**counted, **{name: one for name, one in change.items() if name in TRAFFIC}}
    set_up = {
        **setting,
        **{name: one for name, one in change.items() if name not in {*TRAFFIC, "machine"}},
    }
    return advise(traffic(**seen), served(**set_up), change.get("machine", machine))


@pytest.mark.parametrize(("kind", "counted", "setting", "machine", "_"), CASES)
def test_a_rule_speaks(
    kind: str, counted: dict[str, Any], setting: dict[str, Any], machine: Machine, _: object
) -> None:
    assert kind in [one.kind for one in given(counted, setting, machine, {})]


@pytest.mark.parametrize(("kind", "counted", "setting", "machine", "change"), SILENT)
def test_a_rule_is_silent_on_the_other_side(
    kind: str,
    counted: dict[str, Any],
    setting: dict[str, Any],
    machine: Machine,
    change: dict[str, Any],
) -> None:
    assert kind not in [one.kind for one in given(counted, setting, machine, change)]


def anything(chance: random.Random) -> tuple[Snapshot, Setting, Machine]:
    """Give traffic, a setting and a machine at random, sensible or not."""
    sizes = chance.sample((1, 2, 3, 4, 8, 16, 32, 64, 256), chance.randint(1, 5))
    most = max(*sizes, chance.choice((1, 8, 64, 256)))
    batched = chance.random() < 0.9
    counted = traffic(
        {rows: chance.choice((5, 50, 500)) for rows in sizes} if batched else {1: 500},
        busy=chance.choice((0.05, 0.4, 0.6, 0.75, 0.85, 0.95, 3.0)),
        queue_us=chance.choice((5, 300, 1_000, 5_000, 40_000)),
        rows_per_request=chance.choice((1, 1, 4)),
        fixed_us=chance.choice((1, 300, 3_000)),
        row_us=chance.choice((0.5, 20, 500)),
        handing=chance.choice((0.1, 0.7)),
        failures=chance.choice((0, 0, 50)),
        hits=chance.choice((0, 0, 500)),
        misses=chance.choice((0, 500)),
    )
    cores = chance.choice((None, 1, 2, 8, 64))
    idle = None if cores is None or chance.random() < 0.3 else cores * chance.choice((0, 0.5, 0.9))
    setting = served(
        max_batch_size=most if batched else 0,
        dynamic_batching=batched and chance.random() < 0.7,
        queue_delay_us=chance.choice((0, 1, 100, 5_000)),
        preferred_batch_size=chance.choice(((), (), (4,), (most,))),
        instance_count=chance.choice((1, 1, 2, 4, 16)),
        threads=chance.choice((None, 0, 1, 4)),
        response_cache=chance.random() < 0.5,
        on_gpu=chance.random() < 0.1,
        max_queue_size=chance.choice((0, 2)),
        queue_limits=chance.choice(((), ("max_queue_size",), tuple(QUEUE_LIMITS))),
    )
    return counted, setting, Machine(cores=cores, idle_cores=idle)


NAMES = {
    "max_queue_delay_microseconds": "queue_delay_us",
    "intra_op_thread_count": "threads",
}


@pytest.mark.parametrize("seed", range(5))
def test_no_two_pieces_of_advice_are_opposite(seed: int) -> None:
    chance = random.Random(seed)
    spoken = 0
    for _ in range(60):
        counted, setting, machine = anything(chance)
        advice = advise(counted, setting, machine)
        spoken += len(advice)
        for one, other in itertools.combinations(advice, 2):
            assert one.kind != other.kind
            assert frozenset({one.kind, other.kind}) not in OPPOSITES
            mine, theirs = one.candidate.changes(), other.candidate.changes()
            assert all(mine[name] == theirs[name] for name in mine.keys() & theirs.keys())
        ranks = [one.rank for one in advice if not one.urgent]
        assert ranks == sorted(ranks, reverse=True)
        json.dumps([one.to_json() for one in advice], allow_nan=False)
        json.dumps(observed(counted, setting, machine), allow_nan=False)
    assert spoken > 50


@pytest.mark.parametrize("seed", range(5))
def test_what_is_advised_is_a_change_and_has_its_numbers(seed: int) -> None:
    chance = random.Random(1_000 + seed)
    for _ in range(60):
        counted, setting, machine = anything(chance)
        for one in advise(counted, setting, machine):
            assert any(sign.isdigit() for sign in one.why), one
            assert "nan" not in one.why, one
            assert one.change, one
            for name, value in one.candidate.changes().items():
                assert getattr(setting, NAMES.get(name, name)) != value


PROMISES = [(kind, counted, setting, machine) for kind, counted, setting, machine, _ in CASES]


@pytest.mark.parametrize(("kind", "counted", "setting", "machine"), PROMISES)
def test_the_lines_of_a_change_are_lines_of_a_configuration(
    kind: str, counted: dict[str, Any], setting: dict[str, Any], machine: Machine
) -> None:
    """Triton's own definitions read them, and find in them what is advised."""
    advice = next(one for one in given(counted, setting, machine, {}) if one.kind == kind)
    wanted = advice.candidate
    if not wanted.changes():
        assert kind == "queue_is_full" or not advice.change[0].startswith("in config.pbtxt")
        return
    text = advice.change[0].removeprefix("in config.pbtxt: ")
    lines = [line for line in text.split("; ") if not line.startswith("no ")]
    config = text_format.Parse("\n".join(lines), model_config_pb2.ModelConfig())
    batcher = config.dynamic_batching

    assert wanted.dynamic_batching in {None, config.HasField("dynamic_batching")}
    assert config.max_batch_size == (wanted.max_batch_size or 0)
    assert batcher.max_queue_delay_microseconds == (wanted.max_queue_delay_microseconds or 0)
    assert [group.count for group in config.instance_group] == (
        [wanted.instance_count] if wanted.instance_count else []
    )
    threads = wanted.intra_op_thread_count
    assert {key: one.string_value for key, one in config.parameters.items()} == (
        {"intra_op_thread_count": str(threads)} if threads else {}
    )
    assert ("no preferred_batch_size" in text) is (wanted.preferred_batch_size == ())


def test_what_gains_most_comes_first_and_failures_before_all() -> None:
    seen = traffic(busy=0.95, queue_us=8_000, failures=7)
    advice = advise(seen, served(dynamic_batching=False), ROOM)

    assert [one.kind for one in advice] == ["failures", "no_dynamic_batching", "instances_full"]
    assert advice[0].why.startswith("7 of 1,007 requests failed (0.7 %)")


@pytest.mark.parametrize(("timeout_us", "named"), [(5_000, True), (1_800_000_000, False)])
def test_a_short_time_limit_is_named_where_requests_fail(timeout_us: int, named: bool) -> None:
    advice = advise(traffic(failures=3), served(timeout_us=timeout_us), ROOM)[0]

    assert ("may wait 5.0 ms" in advice.why) is named
    assert any("default_timeout_microseconds" in line for line in advice.change) is named


def test_of_batches_that_nobody_saw_no_gain_is_promised() -> None:
    """One row an execution tells nothing of many; two sizes do."""
    plain = served(dynamic_batching=False)
    busy: dict[str, Any] = {"busy": 0.95, "queue_us": 8_000}
    unseen = advise(traffic({1: 1000}, **busy), plain, FULL)[0]
    seen = advise(traffic({1: 1000, 4: 50}, **busy), plain, FULL)[0]

    assert (unseen.kind, unseen.gain) == ("no_dynamic_batching", None)
    assert seen.kind == "no_dynamic_batching"
    assert 5 < (seen.gain or 0) < 20  # 300 µs a run and 10 µs a row: 31 times at the very most


def test_limits_are_taken_out_with_the_flags_of_convert() -> None:
    """Each flag that is named is one, and with it convert writes no such limit."""
    seen = traffic(busy=0.1, queue_us=30_000)
    advice = advise(seen, served(queue_limits=tuple(QUEUE_LIMITS)), ROOM)[0]
    said = next(line for line in advice.change if line.startswith("or convert again with: "))
    limited = ServingConfig(
        max_queue_size=8,
        default_timeout_microseconds=9,
        allow_timeout_override=True,
        priority_levels=3,
        default_priority_level=2,
    )
    convert = click.command()(serving_flags(lambda **_: None))
    flags = convert.make_context("convert", shlex.split(said.partition(": ")[2])).params
    given = {name: value for name, value in flags.items() if value is not None}

    assert set(QUEUE_LIMITS) <= set(given)
    assert replace(limited, **given) == ServingConfig()


def test_a_full_queue_is_told_of_though_hardly_a_request_was_answered() -> None:
    """Triton counts no refused request, so what is left looks like no traffic."""
    seen = traffic({1: 20}, busy=0.02, queue_us=150_000)
    kinds = [one.kind for one in advise(seen, served(max_queue_size=2), FULL)]

    assert kinds == ["queue_is_full"]


@pytest.mark.parametrize(
    ("changes", "machine", "said"),
    [
        ({}, ROOM, "batcher_sleeps"),
        ({}, FULL, "batcher_sleeps"),
        ({"instance_count": 2}, ROOM, "batcher_sleeps"),
        ({"instance_count": 2}, FULL, "cores_are_taken"),
        ({"max_queue_size": 10}, ROOM, "queue_is_full"),
    ],
)
def test_of_a_long_wait_one_reason_is_given(
    changes: dict[str, Any], machine: Machine, said: str
) -> None:
    setting = served(queue_limits=("max_queue_size",), **changes)
    advice = advise(traffic(busy=0.2, queue_us=30_000), setting, machine)

    assert [one.kind for one in advice] == [said]


@pytest.mark.parametrize("busy", [0.02, 0.1, 0.4])
def test_what_sleeping_costs_is_no_more_than_instances_can_do(busy: float) -> None:
    seen = traffic(busy=busy, queue_us=300_000)
    sleeps = advise(seen, served(queue_limits=("max_queue_size",)), ROOM)[0]

    assert sleeps.kind == "batcher_sleeps"
    assert sleeps.gain == pytest.approx(1 / busy)


def test_where_all_is_well_it_says_so_with_the_numbers() -> None:
    seen, setting = traffic({1: 500, 2: 100}, busy=0.3, queue_us=40), served()

    assert advise(seen, setting, ROOM) == []
    said = sentence(seen, setting, ROOM)
    assert said.startswith("nothing to change: of the 35")
    assert "40 µs are spent in the queue" in said
    assert "30 % of the time" in said


def test_up_to_a_moment_nothing_is_said_of_how_busy_it_was() -> None:
    """The same counters without a beginning: the delay shows, the full instance does not."""
    seen = traffic(busy=0.95, queue_us=5_200)
    moment = Snapshot(model="m", versions=seen.versions, clock_seconds=0.0)
    kinds = [one.kind for one in advise(moment, served(queue_delay_us=5_000), ROOM)]

    assert kinds == ["delay_too_long"]
    assert observed(moment, served(), ROOM)["busy_share"] is None


def test_instances_follow_the_cores_that_are_idle() -> None:
    seen = traffic(busy=0.95, queue_us=8_000)
    wanted = {
        machine: next(
            (
                one.candidate
                for one in advise(seen, served(), machine)
                if one.kind == "instances_full"
            ),
            None,
        )
        for machine in (ROOM, Machine(cores=8, idle_cores=2.5), Machine())
    }

    counts = [one.instance_count if one else None for one in wanted.values()]
    assert counts == [7, 3, 2]


def test_instances_that_take_all_cores_are_told_to_share_them() -> None:
    seen = traffic(busy=0.95, queue_us=8_000)
    advice = advise(seen, served(threads=0), ROOM)
    candidate = next(one.candidate for one in advice if one.kind == "instances_full")

    assert (candidate.instance_count, candidate.intra_op_thread_count) == (7, 1)


TRITONS: Mapping[str, Callable[[int], object]] = {"http": int, "grpc": str}


@pytest.mark.parametrize("wire", TRITONS)
def test_a_configuration_is_read_from_either_wire(wire: str) -> None:
    """Over gRPC numbers of 64 bits are text."""
    long = TRITONS[wire]
    config = {
        "backend": "onnxruntime",
        "runtime": "model.py",
        "max_batch_size": 64,
        "dynamic_batching": {
            "preferred_batch_size": [64],
            "max_queue_delay_microseconds": long(500),
            "default_queue_policy": {
                "default_timeout_microseconds": long(7),
                "timeout_action": "DELAY",
                "max_queue_size": 3,
            },
            "priority_levels": long(2),
        },
        "instance_group": [{"count": 2, "kind": "KIND_CPU"}],
        "parameters": {"intra_op_thread_count": {"string_value": "4"}},
        "response_cache": {"enable": True},
    }

    assert Setting.from_config("m", config) == Setting(
        model="m",
        backend="onnxruntime",
        python_based=True,
        max_batch_size=64,
        dynamic_batching=True,
        queue_delay_us=500,
        preferred_batch_size=(),
        queue_limits=("default_timeout_microseconds", "max_queue_size", "priority_levels"),
        max_queue_size=3,
        timeout_us=7,
        instance_count=2,
        threads=4,
        response_cache=True,
    )


@pytest.mark.parametrize(
    "policy", [{}, {"timeout_action": "DELAY"}, {"default_timeout_microseconds": "0"}]
)
def test_a_policy_that_limits_nothing_is_no_limit(policy: dict[str, object]) -> None:
    """Measured with 2.51: with an empty policy, or an action alone, the batcher sleeps never."""
    batcher = {"default_queue_policy": policy, "priority_levels": "0"}

    assert Setting.from_config("m", {"dynamic_batching": batcher}).queue_limits == ()


def test_a_configuration_that_says_little_is_read_too() -> None:
    assert Setting.from_config("m", {"backend": "python"}) == Setting(
        model="m", backend="python", python_based=True
    )
    steps = {"step": [{"model_name": "a"}, {"model_name": "b"}, {"model_name": "a"}]}
    assert Setting.from_config("m", {"ensemble_scheduling": steps}).ensemble == ("a", "b")
