"""Shared memory through the clients: written once, asked often, gone afterwards."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from toolkit.client import AsyncClient, Client
from toolkit.deploy.state import Server
from toolkit.errors import ConfigError, PermissionDeniedError

OUTPUTS = {"y": ((8, 4), "FP32"), "rows": ((8, 1), "INT64")}


def regions() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("triton-client-*")}  # noqa: S108


def test_new_values_are_seen_and_nothing_is_left(control: Client) -> None:
    before = regions()
    x = np.arange(32, dtype=np.float32).reshape(8, 4)
    with control.shared_memory({"x": x}, OUTPUTS) as shared:
        np.testing.assert_array_equal(shared.predict("echo")["y"], 2 * x)
        shared.inputs["x"][...] = 7
        answer = shared.predict("echo", request_id="mine")
        assert answer["y"].tolist() == [[14.0] * 4] * 8
        assert answer.request_id == "mine"
        assert len(regions()) == len(before) + 1
    assert regions() == before


def test_the_same_from_asyncio(url: str, server: Server) -> None:
    x = np.ones((8, 4), np.float32)

    async def main() -> None:
        async with (
            AsyncClient(url, token=server.token) as client,
            client.shared_memory({"x": x}, OUTPUTS) as shared,
        ):
            assert (await shared.predict("echo"))["y"].tolist() == [[2.0] * 4] * 8

    before = regions()
    asyncio.run(main())
    assert regions() == before


def test_an_error_inside_leaves_nothing(control: Client) -> None:
    before = regions()
    with (
        pytest.raises(ZeroDivisionError),
        control.shared_memory({"x": np.ones((8, 4), np.float32)}, OUTPUTS),
    ):
        raise ZeroDivisionError
    assert regions() == before


def test_it_needs_the_token(client: Client) -> None:
    before = regions()
    with (
        pytest.raises(PermissionDeniedError),
        client.shared_memory({"x": np.ones((8, 4), np.float32)}, OUTPUTS),
    ):
        pass
    assert regions() == before


def test_it_is_between_two(url: str, server: Server) -> None:
    with (
        Client([url, "http://localhost:1" if "http" in url else "grpc://localhost:1"]) as client,
        pytest.raises(ConfigError, match="one server"),
        client.shared_memory({"x": np.ones((8, 4), np.float32)}, OUTPUTS),
    ):
        pass
