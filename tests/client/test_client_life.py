"""What clients leave behind: no place, no count and no thread may get lost on the way."""

import asyncio
import io
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.client import AsyncClient, Client, ClientOptions, Prediction
from toolkit.client.addresses import parse_all
from toolkit.client.drive import Driver
from toolkit.client.drive_async import AsyncDriver
from toolkit.client.effects import Sleep
from toolkit.client.policy import Policy
from toolkit.client.records import RequestRecord
from toolkit.client.replicas import Replicas
from toolkit.client.transport import (
    Call,
    GetServerMetadata,
    InferRequest,
    InferResponse,
    IsServerReady,
)
from toolkit.client.workers import Workers
from toolkit.errors import (
    ConfigError,
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidInputError,
    RequestError,
    UnexpectedError,
)

QUICK = ClientOptions(backoff=0.001, max_backoff=0.002)
HEDGED = replace(QUICK, hedge_after=0.02, retries=0)
INFER = InferRequest("m", {})
SAID = InferResponse("m", "1", "", {})


class Wire:
    """A server of either style that says one thing, after some time if need be."""

    def __init__(self, says: Any, slow: float = 0.0) -> None:
        self.says, self.slow = says, slow
        self.closed = 0

    def _said(self, timeout: float) -> Any:
        if self.slow > timeout:
            raise DeadlineExceededError("no answer")
        if isinstance(self.says, BaseException):
            raise self.says
        return self.says

    def send(self, _call: Call[Any], timeout: float, _headers: Any = ()) -> Any:
        time.sleep(min(self.slow, timeout))
        return self._said(timeout)

    def close(self) -> None:
        self.closed += 1


class AwaitedWire(Wire):
    async def send(self, _call: Call[Any], timeout: float, _headers: Any = ()) -> Any:
        await asyncio.sleep(min(self.slow, timeout))
        return self._said(timeout)


def policy_of(
    wires: list[Any], options: ClientOptions, driver: Driver | AsyncDriver, *hooks: Any
) -> Policy:
    addresses = parse_all([f"http://server{place}:8000" for place in range(len(wires))])
    given = dict(zip(addresses, wires, strict=True))
    return Policy(Replicas(addresses, given.__getitem__, options), options, hooks, driver.leave)


def pending(policy: Policy) -> list[int]:
    return [replica.pending for replica in policy.replicas.all]


def soon(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + 5
    while not holds() and time.monotonic() < until:
        time.sleep(0.01)
    return holds()


def test_the_slower_of_two_hedged_requests_is_counted_until_it_ends() -> None:
    driver = Driver(None)
    policy = policy_of([Wire(SAID, 0.2), Wire(SAID, 0.2)], HEDGED, driver)
    driver.run(policy.ask(INFER, time.monotonic() + 5))
    assert soon(lambda: pending(policy) == [0, 0])


def test_a_hedged_request_that_fails_oddly_is_not_counted_for_ever() -> None:
    driver = Driver(None)
    policy = policy_of([Wire(ZeroDivisionError("odd"))], HEDGED, driver)
    with pytest.raises(UnexpectedError, match="odd"):
        driver.run(policy.ask(INFER, time.monotonic() + 5))
    assert pending(policy) == [0]


def test_a_hedged_request_that_was_cancelled_says_nothing_for_its_replica() -> None:
    async def main() -> None:
        driver = AsyncDriver(None)
        policy = policy_of([AwaitedWire(SAID, 60.0)], HEDGED, driver)
        (replica,) = policy.replicas.all
        for _ in range(3):
            replica.circuit.handle_exception(ConnectionFailedError("earlier"))
        task = asyncio.create_task(driver.run(policy.ask(INFER, time.monotonic() + 60)))
        await asyncio.sleep(0.1)
        assert pending(policy) == [2]
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0.01)
        assert pending(policy) == [0]
        assert replica.circuit.failure_count == 3

    asyncio.run(main())


def test_the_record_of_a_hedged_request_names_who_answered() -> None:
    heard: list[RequestRecord] = []
    driver = Driver(None)
    policy = policy_of([Wire(SAID, 0.5), Wire(SAID)], HEDGED, driver, heard.append)
    for _ in range(2):
        driver.run(policy.ask(INFER, time.monotonic() + 5))
    assert {record.url for record in heard} == {"http://server1:8000"}


def test_many_threads_that_hedge_do_not_wait_for_each_other() -> None:
    driver = Driver(None)
    policy = policy_of([Wire(SAID, 60.0)], HEDGED, driver)
    took: list[float] = []

    def ask() -> None:
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            driver.run(policy.ask(INFER, started + 2))
        took.append(time.monotonic() - started)

    threads = [threading.Thread(target=ask) for _ in range(80)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) == 80
    assert max(took) < 3.5  # one that waits for another has ended after 4


def test_workers_end_when_there_is_nothing_to_do() -> None:
    workers = Workers("to-be-gone", 2)
    running: list[int] = []
    most: list[int] = []

    def work() -> int:
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        running.pop()
        return 1

    assert sum(future.result() for future in [workers.submit(work) for _ in range(8)]) == 8
    assert max(most) == 2
    assert soon(lambda: not any(t.name == "to-be-gone" for t in threading.enumerate()))
    assert workers.submit(work).result(5) == 1


def test_a_place_in_flight_is_never_lost_to_cancellation() -> None:
    async def main() -> None:
        options = replace(QUICK, max_in_flight=2)
        driver = AsyncDriver(2)
        policy = policy_of([AwaitedWire(SAID, 0.001)], options, driver)
        chance = random.Random(4)

        async def ask() -> None:
            asking = driver.run(policy.ask(INFER, time.monotonic() + chance.random() * 0.02))
            with suppress(RequestError, TimeoutError):
                await asyncio.wait_for(asking, chance.random() * 0.02)

        await asyncio.gather(*(ask() for _ in range(1000)))
        assert pending(policy) == [0]
        for _ in range(2):
            await asyncio.wait_for(driver._places.acquire(), 1)
        assert driver._places.locked()

    asyncio.run(main())


def test_an_async_driver_goes_from_one_loop_to_the_next() -> None:
    driver = AsyncDriver(1)
    policy = policy_of([AwaitedWire(SAID, 0.01)], replace(QUICK, max_in_flight=1), driver)

    async def main() -> None:
        deadline = time.monotonic() + 5
        await asyncio.gather(*(driver.run(policy.ask(INFER, deadline)) for _ in range(3)))

    asyncio.run(main())
    asyncio.run(main())


def test_an_async_client_retries_in_a_second_loop(talk: Any) -> None:
    options = replace(QUICK, retries=2, breaker=False)
    url = f"http://{talk(lambda connection: connection.close())}"
    client = AsyncClient(url, options=options)

    async def main() -> None:
        with pytest.raises(ConnectionFailedError):
            await client.server_metadata(timeout=5)

    async def end() -> None:
        await main()
        await client.close()

    asyncio.run(main())
    asyncio.run(end())


def test_a_server_that_drops_late_requests_is_there() -> None:
    driver = Driver(None)
    late = DeadlineExceededError("timeout expired", status="UNAVAILABLE")
    policy = policy_of([Wire(late)], replace(QUICK, retries=0), driver)
    for _ in range(20):
        with pytest.raises(DeadlineExceededError):
            driver.run(policy.ask(INFER, time.monotonic() + 5))
    assert policy.replicas.all[0].closed


def test_one_hung_replica_does_not_make_all_unready() -> None:
    driver = Driver(None)
    policy = policy_of([Wire(True, 60.0), Wire(True, 0.05)], QUICK, driver)
    assert driver.run(policy.check(IsServerReady(), time.monotonic() + 0.4))


def test_a_server_set_aside_is_said_to_be_so_and_why() -> None:
    driver = Driver(None)
    options = replace(QUICK, breaker_threshold=1, breaker_reset=60.0)
    policy = policy_of([Wire(ConnectionFailedError("connection refused"))], options, driver)
    for expected in ("connection refused", r"set aside .* \(connection refused\)"):
        with pytest.raises(RequestError, match=expected):
            driver.run(policy.ask(GetServerMetadata(), time.monotonic() + 1))


def test_a_wait_that_took_all_the_time_does_not_hide_what_was_waited_for() -> None:
    driver = Driver(None)
    options = replace(QUICK, breaker_threshold=1, breaker_reset=0.1, retries=0)
    policy = policy_of([Wire(ConnectionFailedError("connection refused"))], options, driver)
    with pytest.raises(ConnectionFailedError):
        driver.run(policy.ask(GetServerMetadata(), time.monotonic() + 1))
    steps = policy.ask(GetServerMetadata(), time.monotonic() + 0.15)
    assert isinstance(next(steps), Sleep)
    time.sleep(0.2)
    with pytest.raises(RequestError, match="set aside"):
        steps.send(None)


CTRL_C = """
import signal, sys
from toolkit.client import Client
client = Client(sys.argv[1])
client.metadata("slow")
signal.signal(signal.SIGINT, signal.default_int_handler)
print("asking", flush=True)
list(client.predict_many("slow", [[30.0]] * 50, mode=sys.argv[2], max_in_flight=4))
"""


@pytest.mark.parametrize("mode", ["threads", "async", "sequential"])
def test_ctrl_c_ends_a_program_that_waits_for_a_slow_server(hung: str, mode: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", CTRL_C, hung, mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "asking\n"
    time.sleep(0.5)
    program.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, errors = program.communicate(timeout=25)
    assert time.monotonic() - started < 5
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors


@pytest.fixture
def hung(talk: Any) -> str:
    """Give the URL of a server that tells of a model, and never answers a request to it."""
    metadata = (
        '{"name":"slow","versions":["1"],"platform":"python",'
        '"inputs":[{"name":"x","datatype":"FP32","shape":[-1,1]}],'
        '"outputs":[{"name":"y","datatype":"FP32","shape":[-1,1]}]}'
    )
    config = '{"name":"slow","max_batch_size":8}'

    def answer(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            if b"/infer" in data:
                return
            body = config if b"/config" in data else metadata
            reply = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            connection.sendall(reply.encode())

    return f"http://{talk(answer)}"


def test_columns_of_several_lengths_are_refused_before_any_row_is_lost(client: Client) -> None:
    with pytest.raises(InvalidInputError, match="age has 3, city has 2"):
        client.predict_many("people", {"age": [1, 2, 3], "city": ["a", "b"]})


def test_what_is_not_rows_is_refused_before_anything_is_asked(client: Client) -> None:
    with pytest.raises(ConfigError, match="single text"):
        client.predict_many("text", "hello")
    with pytest.raises(ConfigError, match="some rows, got 5"):
        client.predict_many("echo", 5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"timeout": "5"}, {"request_id": 7}, {"priority": "high"}, {"model": 7}]
)
def test_arguments_of_a_wrong_type_are_not_called_a_fault_of_the_client(
    client: Client, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="got"):
        client.predict(**{"model": "echo", "rows": [[1.0] * 4], **wrong})


@pytest.mark.parametrize("url", [None, "http://two words"])
def test_what_is_no_url_is_refused(url: Any) -> None:
    with pytest.raises(ConfigError):
        Client(url)


def test_open_files_next_to_one_that_does_not_fit_are_not_lost(
    client: Client, tmp_path: Path
) -> None:
    files = [io.BytesIO(b"good one"), io.BytesIO(b"\xff\xfe"), io.BytesIO(b"good two")]
    first, second, third = client.predict_many("text", files, batch_size=3)
    assert isinstance(first, Prediction)
    assert isinstance(second, InvalidInputError)
    assert isinstance(third, Prediction)
    expected = client.predict("text", ["good one", "good two"])
    for place, answer in enumerate((first, third)):
        for name, values in answer.items():
            np.testing.assert_array_equal(values, expected[name][place])


def test_abandoned_answers_leave_no_thread(client: Client) -> None:
    answers = iter(client.predict_many("echo", ([float(n)] * 4 for n in range(10_000))))
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert soon(lambda: not any(t.name == "predict-many" for t in threading.enumerate()))
    assert soon(lambda: pending(client._policy) == [0])
