"""The generator against real sockets that behave and misbehave."""

import asyncio
import itertools
import socket
import time

import pytest

from perf.loadtest.connection import Connection
from perf.loadtest.pool import Pool
from perf.loadtest.request import build_requests, parse_url
from perf.loadtest.results import Result, behind
from tests.perf.loadtest.conftest import Load
from tests.perf.loadtest.server import ANSWER, CHUNKED, UNAVAILABLE, Exchange, Server, ok, serving


def accounted(result: Result) -> int:
    """Everything that came due and is accounted for."""
    total = result.total
    failed = sum(total.failures.values())
    return total.succeeded + failed + total.not_sent + total.unfinished


def test_every_request_is_answered_and_counted_once(load: Load) -> None:
    with serving(ok) as server:
        result = load(server, rate=800)
    assert result.total.due == result.total.succeeded == len(server.requests) == 200
    assert result.total.statuses == {200: 200}
    assert (result.success_percent, result.total.failures) == (100.0, {})
    assert sum(row.answered for row in result.series) == 200
    assert result.from_schedule is not None
    assert result.from_send is not None
    assert result.from_schedule.mean_ms >= result.from_send.mean_ms


def test_a_stall_of_the_server_shows_in_the_open_loop_and_hides_in_the_closed_one(
    load: Load,
) -> None:
    def stalls_at(number: int) -> tuple[Server, Result]:
        lock = asyncio.Lock()

        async def answer(exchange: Exchange) -> None:
            async with lock:  # One request at a time, as a server does that stands still.
                if exchange.number == number:
                    await asyncio.sleep(1.0)
            await exchange.send(ANSWER)

        with serving(answer) as server:
            if number == 100:
                return server, load(server, rate=200, seconds=2.0)
            return server, load(server, concurrency=1, seconds=1.8)

    _, opened = stalls_at(100)
    _, closed = stalls_at(101)
    assert opened.from_schedule is not None
    assert closed.from_schedule is not None
    # Half of all requests came due while the server stood still, and waited 0 to 1 s.
    assert opened.from_schedule.percentiles_ms["p90"] > 500
    assert opened.from_schedule.percentiles_ms["p99"] > 900
    assert opened.total.succeeded == opened.total.due == 400
    # The lone caller of a closed loop waited once, and asked nothing meanwhile.
    assert closed.from_schedule.max_ms > 900
    assert closed.from_schedule.percentiles_ms["p99"] < 500


def test_waiting_for_a_connection_counts_from_the_schedule_and_not_from_the_send(
    load: Load,
) -> None:
    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.05)
        await exchange.send(ANSWER)

    with serving(slow) as server:
        result = load(server, rate=60, seconds=0.5, connections_max=1)
    assert result.from_schedule is not None
    assert result.from_send is not None
    assert server.most_connections == 1
    assert result.total.succeeded == result.total.due == 30
    assert result.from_schedule.max_ms > 500  # 30 requests of 50 ms each, in half a second
    assert result.from_send.percentiles_ms["p50"] < 150
    assert result.reached_per_second < 25


def test_what_finds_the_line_full_counts_as_not_sent(load: Load) -> None:
    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.2)
        await exchange.send(ANSWER)

    with serving(slow) as server:
        result = load(server, rate=400, connections_max=2, waiting_max=3)
    assert result.total.not_sent > 50
    assert accounted(result) == result.total.due == 100
    assert result.success_percent == pytest.approx(100 - result.total.not_sent)


def test_what_still_waits_long_after_the_end_counts_as_not_sent(load: Load) -> None:
    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.15)
        await exchange.send(ANSWER)

    with serving(slow) as server:
        result = load(server, rate=200, connections_max=1, timeout_seconds=0.3)
    assert result.total.not_sent > 30
    assert accounted(result) == result.total.due == 50


@pytest.mark.parametrize("size", [1, 4])
def test_a_closed_loop_keeps_its_callers_and_no_more_busy(load: Load, size: int) -> None:
    under_way, most = 0, 0

    async def answer(exchange: Exchange) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        await exchange.send(ANSWER)

    with serving(answer) as server:
        result = load(server, concurrency=size, seconds=0.4)
    assert most == server.connections == size
    assert result.total.succeeded == result.total.due == len(server.requests)
    assert result.reached_per_second <= size / 0.01


def test_a_warm_up_is_sent_and_not_counted(load: Load) -> None:
    with serving(ok) as server:
        result = load(server, rate=200, warmup_seconds=0.15)
    assert len(server.requests) == 80
    assert result.total.due == result.total.succeeded == 50


def test_chunked_answers_are_read_to_their_end(load: Load) -> None:
    async def chunked(exchange: Exchange) -> None:
        await exchange.send(*CHUNKED)

    with serving(chunked) as server:
        result = load(server, rate=200, connections_max=1)
    assert result.total.succeeded == 50
    assert server.connections == 1


def test_an_interim_answer_is_not_the_answer(load: Load) -> None:
    async def patient(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n", ANSWER)

    with serving(patient) as server:
        result = load(server, rate=200)
    assert result.total.statuses == {200: 50}


CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
NO_LENGTH = b"HTTP/1.0 200 OK\r\n\r\nall until the end"


@pytest.mark.parametrize("answer", [CLOSING, NO_LENGTH], ids=["told", "no length"])
@pytest.mark.parametrize("load_as", [{"rate": 100}, {"concurrency": 2}], ids=["open", "closed"])
def test_a_server_that_closes_after_each_answer_gets_new_connections(
    load: Load, answer: bytes, load_as: dict[str, int]
) -> None:
    async def close(exchange: Exchange) -> None:
        await exchange.send(answer)
        exchange.writer.close()

    with serving(close) as server:
        result = load(server, seconds=0.3, **load_as)
    assert result.total.failures == {}
    assert result.total.succeeded == result.total.due == server.connections


def test_a_server_that_closes_idle_connections_unsaid_is_asked_again(load: Load) -> None:
    async def close(exchange: Exchange) -> None:
        await exchange.send(ANSWER)
        exchange.writer.close()

    with serving(close) as server:
        result = load(server, concurrency=1, seconds=0.3)
    assert result.total.failures == {}
    assert result.total.sent_again > 0
    assert result.total.succeeded == result.total.due == len(server.requests)


def test_an_unexpected_status_is_a_failure_with_what_the_server_said(load: Load) -> None:
    async def sometimes(exchange: Exchange) -> None:
        await exchange.send(UNAVAILABLE if exchange.number % 5 == 0 else ANSWER)

    with serving(sometimes) as server:
        result = load(server, rate=200)
    assert result.total.statuses == {200: 40, 503: 10}
    assert result.total.failures == {"status 503": 10}
    assert result.total.examples == {"status 503": "full"}
    assert result.success_percent == pytest.approx(80.0)
    assert result.from_send is not None


def test_a_status_that_is_expected_is_none(load: Load) -> None:
    async def unavailable(exchange: Exchange) -> None:
        await exchange.send(UNAVAILABLE)

    with serving(unavailable) as server:
        result = load(server, rate=100, expected=frozenset({503}))
    assert (result.total.succeeded, result.total.failures) == (25, {})


async def reset(exchange: Exchange) -> None:
    exchange.reset()


async def garbage(exchange: Exchange) -> None:
    await exchange.send(b"\0\xff nonsense\r\n\r\n")


async def half(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    exchange.writer.close()


async def half_until_close(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nhalf")
    exchange.writer.close()


async def nothing(exchange: Exchange) -> None:
    exchange.writer.close()


async def another_protocol(exchange: Exchange) -> None:
    await exchange.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nxx"
    )


@pytest.mark.parametrize(
    ("misbehave", "kinds"),
    [
        (reset, {"reset", "closed"}),
        (garbage, {"invalid answer"}),
        (half, {"closed"}),
        (half_until_close, {"closed"}),
        (nothing, {"closed"}),
        (another_protocol, {"invalid answer"}),
    ],
)
@pytest.mark.parametrize("load_as", [{"rate": 60}, {"concurrency": 2}], ids=["open", "closed"])
def test_a_broken_answer_is_a_failure_of_its_kind(
    load: Load, misbehave: object, kinds: set[str], load_as: dict[str, int]
) -> None:
    async def now_and_then(exchange: Exchange) -> None:
        if exchange.number % 3 == 0:
            await misbehave(exchange)  # type: ignore[operator]
        else:
            await asyncio.sleep(0.002)
            await exchange.send(ANSWER)

    with serving(now_and_then) as server:
        result = load(server, seconds=0.3, **load_as)
    total = result.total
    assert set(total.failures) <= kinds
    # A request that met a connection which broke at once went a second time, and is told.
    assert sum(total.failures.values()) + total.sent_again > 0
    assert set(total.examples) == set(total.failures)
    assert accounted(result) == total.due
    assert len(server.requests) == total.due + total.sent_again


def test_a_request_that_breaks_a_second_time_has_failed(load: Load) -> None:
    answers = itertools.count()

    async def once(exchange: Exchange) -> None:
        if next(answers):
            exchange.reset()
        else:
            await exchange.send(ANSWER)

    with serving(once) as server:
        result = load(server, rate=20, seconds=0.3, connections_max=1)
    assert (result.total.succeeded, sum(result.total.failures.values())) == (1, 5)
    assert result.total.sent_again == 1


def test_a_request_without_an_answer_times_out_and_its_connection_is_closed(load: Load) -> None:
    async def silent(exchange: Exchange) -> None:
        if exchange.number == 5:
            await exchange.writer.wait_closed()
        await exchange.send(ANSWER)

    with serving(silent) as server:
        result = load(server, rate=20, seconds=1.2, timeout_seconds=0.2, connections_max=2)
    assert result.total.failures == {"timeout": 1}
    assert (result.total.succeeded, result.total.due) == (23, 24)
    assert result.from_schedule is not None
    # The time until it was given up counts: leaving it out would flatter the server.
    assert 200 <= result.from_schedule.max_ms < 900


def test_a_connection_that_is_never_accepted_times_out(load: Load) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        server = Server(full.getsockname()[1])
        with socket.create_connection(full.getsockname()):
            result = load(server, rate=20, seconds=0.2, timeout_seconds=0.3)
    assert result.total.failures == {"timeout": 4}


def test_a_server_that_is_gone_fails_every_request_and_hangs_nothing(load: Load) -> None:
    with serving(ok) as server:
        pass
    result = load(server, rate=100)
    assert result.total.failures == {"connect": 25}
    assert result.from_schedule is None
    result = load(server, concurrency=2, seconds=0.3)
    assert 2 <= result.total.failures["connect"] <= 8


def test_several_bodies_go_round_in_turn(load: Load) -> None:
    bodies = [b"1", b"22", b"333"]
    with serving(ok) as server:
        requests = build_requests(parse_url(server.url), "POST", (), bodies)
        load(server, rate=120, requests=requests, connections_max=1)
    assert [one.body for one in server.requests] == bodies * 10


def test_a_generator_that_is_held_up_says_so(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    send = Pool.send

    def slow(pool: Pool, connection: Connection, due: float, now: float) -> None:
        time.sleep(0.01)
        send(pool, connection, due, now)

    monkeypatch.setattr(Pool, "send", slow)
    with serving(ok) as server:
        result = load(server, rate=200, connections_max=8)
    assert result.late is not None
    assert result.late.percentiles_ms["p99"] > 20
    assert "after they were due" in (behind(result) or "")


def test_what_a_generator_never_came_to_counts_as_not_sent(load: Load) -> None:
    with serving(ok) as server:
        result = load(server, rate=1e7, seconds=0.2, timeout_seconds=0.2, waiting_max=100)
    assert result.total.due == pytest.approx(2_000_000, rel=1e-3)
    assert accounted(result) == result.total.due
    assert result.total.not_sent > 1_000_000
    assert behind(result) is not None


def test_when_something_happened_shows_in_the_series(load: Load) -> None:
    async def fails_in_the_second_second(exchange: Exchange) -> None:
        await exchange.send(UNAVAILABLE if exchange.number >= 50 else ANSWER)

    with serving(fails_in_the_second_second) as server:
        result = load(server, rate=50, seconds=1.4)
    assert [row.begin_seconds for row in result.series] == [0, 1]
    assert [row.due for row in result.series] == pytest.approx([50, 20], abs=2)
    assert [row.failed for row in result.series] == pytest.approx([0, 20], abs=2)
