"""Ask with tritonclient as its own examples do: build the input, infer, take the output."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float32]


class NotInstalledError(Exception):
    """A part of tritonclient that its extra ``http`` installs is not there."""


@contextmanager
def sync(url: str, model: str) -> Iterator[Callable[[Row], Any]]:
    """Give a function that asks ``model`` for the double of one row."""
    library = _library(url, "")
    client = library.InferenceServerClient(url.partition("://")[2])

    def ask(row: Row) -> Any:
        return client.infer(model, [_input(library, row)]).as_numpy("y")

    try:
        yield ask
    finally:
        client.close()


@asynccontextmanager
async def on_loop(url: str, model: str) -> AsyncIterator[Callable[[Row], Awaitable[Any]]]:
    """Give the same as a coroutine function, of tritonclient's ``aio``."""
    library = _library(url, ".aio")
    client = library.InferenceServerClient(url.partition("://")[2])

    async def ask(row: Row) -> Any:
        return (await client.infer(model, [_input(library, row)])).as_numpy("y")

    try:
        yield ask
    finally:
        await client.close()


def _input(library: ModuleType, row: Row) -> Any:
    tensor = library.InferInput("x", list(row.shape), "FP32")
    tensor.set_data_from_numpy(row)
    return tensor


def _library(url: str, variant: str) -> ModuleType:
    wire = "http" if url.startswith("http") else "grpc"
    try:
        return import_module(f"tritonclient.{wire}{variant}")
    except (ImportError, RuntimeError) as error:
        # tritonclient raises RuntimeError in place of the ImportError.
        raise NotInstalledError(
            f"not measured: pip install 'tritonclient[{wire}]' for the other side"
        ) from error
