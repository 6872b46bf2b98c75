"""Run the steps of a policy in the calling thread."""

import socket
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from threading import BoundedSemaphore, Event
from typing import Any

from toolkit.client.effects import (
    Close,
    Effect,
    Enter,
    Race,
    Resolve,
    Result,
    Send,
    Sleep,
    Steps,
)
from toolkit.client.workers import Workers


class Driver:
    """What the threads of one client share: places in flight, and threads for what may hang."""

    def __init__(self, max_in_flight: int | None) -> None:
        self._places = BoundedSemaphore(max_in_flight or 1)
        self._closed = Event()
        self._workers = Workers("triton-client")

    def run(self, steps: Steps[Result]) -> Result:
        """Do what the steps ask for and return what they come to."""
        try:
            effect = next(steps)
            while True:
                try:
                    if type(effect) is Send:
                        replica = effect.replica
                        result = replica.transport.send(effect.call, effect.timeout, effect.headers)
                    else:
                        result = self._done(effect)
                except BaseException as error:  # noqa: BLE001  Ctrl-C too: counted, then raised on
                    effect = steps.throw(error)
                else:
                    effect = steps.send(result)
        except StopIteration as end:
            returned: Result = end.value
            return returned

    def leave(self) -> None:
        """Give back a place in flight."""
        self._places.release()

    def close(self) -> None:
        """End all pauses."""
        self._closed.set()

    def _done(self, effect: Effect) -> Any:
        match effect:
            case Sleep():
                self._closed.wait(effect.seconds)
            case Enter():
                return self._places.acquire(timeout=effect.timeout)
            case Resolve():
                # In a thread: a resolver knows no time-out.
                ask = partial(socket.getaddrinfo, effect.host, None, type=socket.SOCK_STREAM)
                return addresses(self._workers.submit(ask).result(effect.timeout))
            case Close():
                effect.replica.transport.close()
            case Race():
                return self._raced(effect)
            case _:
                raise TypeError(effect)
        return None

    def _raced(self, race: Race) -> Any:
        first = self._workers.submit(partial(_sent, race.first, race.ended))
        running = {first}
        wait(running, race.delay)
        if not first.done() and (second := race.second()) is not None:
            running.add(self._workers.submit(partial(_sent, second, race.ended)))
        return _first_answer(first, running)


def addresses(found: list[Any]) -> tuple[str, ...]:
    """Return the hosts of what getaddrinfo found, each once."""
    return tuple(dict.fromkeys(entry[4][0] for entry in found))


def _sent(send: Send, ended: Callable[[Send, BaseException | None], None]) -> Any:
    try:
        answer = send.replica.transport.send(send.call, send.timeout, send.headers)
    except BaseException as error:
        ended(send, error)
        raise
    ended(send, None)
    return answer


def _first_answer(first: "Future[Any]", running: "set[Future[Any]]") -> Any:
    """Return the first answer, or raise the error of the first request if all fail."""
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            if future.exception() is None:
                return future.result()
    return first.result()
