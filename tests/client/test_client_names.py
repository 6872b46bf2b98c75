"""URLs that are names: what becomes of a client when its addresses change or are not told."""

import asyncio
import socket
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from toolkit.client import AsyncClient, Client, ClientOptions
from toolkit.client.addresses import Address, parse_all
from toolkit.client.drive import Driver
from toolkit.client.policy import Policy
from toolkit.client.replicas import Replicas
from toolkit.client.transport import InferRequest, InferResponse
from toolkit.errors import RequestError

QUICK = ClientOptions(backoff=0.001, max_backoff=0.002)
INFER = InferRequest("m", {})


class Wire:
    """A server that answers; to close it takes a moment."""

    def __init__(self) -> None:
        self.closed = 0

    def send(self, *_: object) -> InferResponse:
        return InferResponse("m", "1", "", {})

    def close(self) -> None:
        time.sleep(0.02)
        self.closed += 1


def test_an_address_of_two_names_stays_until_both_have_lost_it() -> None:
    def connect(_: Address) -> Any:
        return Wire()

    urls = ["dns:///first:80", "dns:///second:80", "grpc://10.0.0.9:80"]
    *names, _ = parse_all(urls)
    replicas = Replicas(parse_all(urls), connect, QUICK)
    for name in names:
        assert not replicas.found(name, ["10.0.0.1", "10.0.0.9"])
    assert not replicas.found(names[0], ["10.0.0.2"])
    assert [one.url for one in replicas.found(names[1], ["10.0.0.2"])] == ["grpc://10.0.0.1:80"]
    assert {one.url for one in replicas.all} == {"grpc://10.0.0.2:80", "grpc://10.0.0.9:80"}


def test_replicas_that_are_none_any_more_are_closed_once() -> None:
    wires: list[Wire] = []

    def connect(_: Address) -> Any:
        wires.append(Wire())
        return wires[-1]

    addresses = parse_all("dns:///name:80")
    options = replace(QUICK, resolve_every=60.0)
    replicas = Replicas(addresses, connect, options)
    driver = Driver(None)
    policy = Policy(replicas, options, (), driver.leave)
    policy.retired += replicas.found(addresses[0], [f"10.0.0.{n}" for n in range(1, 9)])
    policy.retired += replicas.found(addresses[0], ["127.0.0.1"])
    failed: list[BaseException] = []

    def ask() -> None:
        replicas.ask_names_again()
        try:
            driver.run(policy.ask(INFER, time.monotonic() + 5))
        except RequestError as error:
            failed.append(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", ("127.0.0.1", 80))])
        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed
    assert [wire.closed for wire in wires] == [1] * 8 + [0]


@pytest.mark.parametrize("style", ["threads", "asyncio"])
def test_a_resolver_that_hangs_does_not_keep_a_call(
    style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def hang(*_: object, **__: object) -> None:
        release.wait(20)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.monotonic()
    took: list[float] = []

    async def main() -> None:
        async with AsyncClient("dns:///name:80") as client:
            with pytest.raises(RequestError, match="resolved"):
                await client.server_metadata(timeout=0.3)
        took.append(time.monotonic() - started)
        release.set()

    if style == "asyncio":
        asyncio.run(main())
    else:
        with Client("dns:///name:80") as client, pytest.raises(RequestError, match="resolved"):
            client.server_metadata(timeout=0.3)
        took.append(time.monotonic() - started)
        release.set()
    assert took[0] < 2


def test_a_name_that_cannot_be_resolved_anew_leaves_its_addresses() -> None:
    asked: list[float] = []

    def fail(*_: object, **__: object) -> None:
        asked.append(time.monotonic())
        raise OSError

    addresses = parse_all("dns:///name:80")
    replicas = Replicas(addresses, lambda _: Wire(), QUICK)
    replicas.found(addresses[0], ["10.0.0.1"])
    driver = Driver(None)
    policy = Policy(replicas, QUICK, (), driver.leave)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", fail)
        for _ in range(5):
            driver.run(policy.ask(INFER, time.monotonic() + 5))
    assert len(asked) == 1
