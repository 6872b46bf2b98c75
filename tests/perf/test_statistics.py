"""Triton's counters: read from either wire, subtracted, and what follows from them."""

import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perf.statistics import Snapshot, Tally, snapshot
from toolkit.client import Client
from toolkit.deploy.state import Server
from toolkit.errors import UnknownModelError

ECHO = Path(__file__).parents[1] / "client" / "models" / "echo"


def tally(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}


def version(
    name: str = "1", *, requests: int = 10, batches: Mapping[int, int] | None = None, ns: int = 1000
) -> dict[str, Any]:
    """Give the statistics of a version; each duration takes ``ns`` a count."""
    sizes = {1: requests} if batches is None else dict(batches)
    names = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    parts = names[2:]
    return {
        "name": "m",
        "version": name,
        "last_inference": 1_700_000_000_000,
        "inference_count": sum(rows * n for rows, n in sizes.items()),
        "execution_count": sum(sizes.values()),
        "inference_stats": {one: tally(requests, requests * ns) for one in names},
        "batch_stats": [
            {"batch_size": rows, **{part: tally(n, n * ns) for part in parts}}
            for rows, n in sizes.items()
        ],
    }


def at(seconds: float, *versions: Mapping[str, Any]) -> Snapshot:
    return Snapshot.from_json("m", versions, seconds)


def test_the_difference_is_what_was_counted_in_between() -> None:
    later = at(12.0, version(requests=30, batches={1: 20, 2: 5}))
    between = later.since(at(10.0, version(requests=10)))

    assert (between.requests, between.rows, between.executions) == (20, 20, 15)
    assert between.batch_sizes == {1: 10, 2: 5}
    assert between.seconds == 2.0
    assert between.requests_per_second == 10.0
    assert not between.reloaded


def test_a_model_that_was_loaded_anew_counts_from_there() -> None:
    between = at(12.0, version(requests=3)).since(at(10.0, version(requests=10)))

    assert between.reloaded
    assert between.requests == 3
    assert between.batch_sizes == {1: 3}


def test_one_counter_that_went_back_gives_a_new_load_away() -> None:
    """More requests than before, but none of the batches of 8 that were there."""
    earlier = at(10.0, version(requests=8, batches={8: 1}))
    between = at(12.0, version(requests=9, batches={1: 9})).since(earlier)

    assert between.reloaded
    assert between.batch_sizes == {1: 9}


def test_versions_are_summed_and_come_and_go() -> None:
    earlier = at(1.0, version("1", requests=10), version("2", requests=100))
    later = at(2.0, version("2", requests=101), version("3", requests=5))
    between = later.since(earlier)

    assert later.requests == 106
    assert between.requests == 6
    assert sorted(between.versions) == ["2", "3"]
    assert not between.reloaded


def test_a_version_that_was_loaded_anew_leaves_the_others_as_they_are() -> None:
    earlier = at(1.0, version("1", requests=10), version("2", requests=100))
    between = at(2.0, version("1", requests=4), version("2", requests=170)).since(earlier)

    assert between.reloaded
    assert between.requests == 74


def test_means_rates_and_shares_follow_from_the_counters() -> None:
    """4 executions of 8 rows in 2 s, each request waiting 1 ms in each of four parts."""
    later = at(2.0, version(requests=16, batches={8: 4}, ns=1_000_000))
    counted = later.since(at(0.0, version(requests=0)))

    assert counted.mean_queue_us == 1000.0
    assert counted.mean_request_us == 1000.0
    assert counted.mean_batch_size == 8.0
    assert counted.rows_per_request == 2.0
    assert counted.rows_per_second == 16.0
    assert counted.mean_execution_us == 3000.0
    assert counted.hand_over_share == pytest.approx(2 / 3)
    assert counted.mean_in_flight == pytest.approx(16 * 0.001 / 2)
    assert counted.busy_share(1) == pytest.approx(4 * 0.003 / 2)
    assert counted.busy_share(2) == pytest.approx(4 * 0.003 / 4)


def test_of_nothing_there_is_no_mean_and_of_a_moment_no_rate() -> None:
    nothing = at(1.0).since(at(0.0))

    assert nothing.requests == 0
    assert math.isnan(nothing.mean_queue_us)
    assert math.isnan(nothing.mean_batch_size)
    assert math.isnan(at(1.0, version()).requests_per_second)
    assert math.isnan(at(1.0, version()).busy_share(1))


def test_numbers_that_grpc_gives_as_text_are_numbers() -> None:
    said = {
        "version": "1",
        "inference_count": "7",
        "inference_stats": {"success": {"count": "7", "ns": "70"}, "fail": {}},
        "batch_stats": [{"batch_size": "7", "compute_infer": {"count": "1", "ns": "50"}}],
    }
    read = at(0.0, said)

    assert read.tally("success") == Tally(7, 70)
    assert (read.rows, read.failures, read.executions) == (7, 0, 0)
    assert read.batch_sizes == {7: 1}


@pytest.fixture(scope="module")
def server(serve: Callable[[Path], Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    repository = tmp_path_factory.mktemp("statistics") / "repository"
    shutil.copytree(ECHO, repository / "echo")
    running = serve(repository)
    with Client(running.http_url, token=running.token) as control:
        control.load("echo")
    return running


def once_counted(client: Client, earlier: Snapshot, requests: int) -> Snapshot:
    """Give the difference once Triton has counted so many; it answers first and counts then."""
    deadline = time.monotonic() + 5
    while True:
        counted = snapshot(client, "echo", 1).since(earlier)
        if counted.requests >= requests or time.monotonic() > deadline:
            return counted


ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_a_real_server_counts_what_it_was_asked(server: Server, wire: str) -> None:
    with Client(server.http_url if wire == "http" else server.grpc_url) as client:
        earlier = snapshot(client, "echo")
        for _ in range(5):
            client.predict("echo", ROWS)
        counted = once_counted(client, earlier, 5)

    assert (counted.requests, counted.failures, counted.rows) == (5, 0, 15)
    assert counted.batch_sizes == {3: 5}
    assert counted.rows_per_request == 3.0
    assert 0 < counted.mean_compute_infer_us < counted.mean_request_us
    assert 0 < counted.busy_share(1) < 1
    assert counted.last_inference_ms > 1_600_000_000_000


def test_a_real_server_begins_again_with_a_model_that_is_loaded_anew(server: Server) -> None:
    with Client(server.http_url, token=server.token) as client:
        client.predict("echo", ROWS)
        client.predict("echo", ROWS)
        client.predict("echo", ROWS)
        earlier = snapshot(client, "echo")
        client.unload("echo")
        client.load("echo")
        client.predict("echo", ROWS)
        counted = once_counted(client, earlier, 1)

    assert counted.reloaded
    assert counted.requests == 1


def test_a_model_that_is_not_served_has_no_statistics(server: Server) -> None:
    with Client(server.http_url) as client, pytest.raises(UnknownModelError, match="nobody"):
        snapshot(client, "nobody")
