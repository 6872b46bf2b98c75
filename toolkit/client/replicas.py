"""The servers behind one client: the least busy is asked, a broken one is set aside.

The circuit of each replica is purgatory's: closed while it answers, opened after some
failures in a row, half-opened after a while, when one question finds out.
"""

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any

from purgatory.domain.model import CLOSED, OPENED, Context, OpenedState

from toolkit.client.addresses import Address
from toolkit.client.options import ClientOptions
from toolkit.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    RequestError,
    UnavailableError,
)

_GATEWAY_STATUSES = {502, 503, 504}
_LOOK_AGAIN = 0.02


class Replica:
    """One server: its wire, the requests under way there and its circuit."""

    __slots__ = (
        "circuit", "closed", "failure", "pending", "probed", "protocol", "transport", "url",
    )  # fmt: skip

    def __init__(self, address: Address, transport: Any, options: ClientOptions) -> None:
        self.url = address.url
        self.protocol = address.protocol
        self.transport = transport
        self.pending = 0
        self.probed = False
        self.failure: tuple[str, str | None] = ("", None)
        self.circuit = Context(self.url, options.breaker_threshold, options.breaker_reset)
        self.closed = True
        """Whether nothing is known against asking it: the state of its circuit."""

    def opens_in(self) -> float:
        """Return the seconds until it may be asked whether it is back."""
        if self.closed:
            return 0.0
        if self.probed:
            return _LOOK_AGAIN
        if self.circuit.state != OPENED or self.circuit.opened_at is None:
            return 0.0
        return max(0.0, self.circuit.opened_at + self.circuit.ttl - time.time())


class Replicas:
    """All servers of one client; threads may share it."""

    def __init__(
        self,
        addresses: Sequence[Address],
        connect: Callable[[Address], Any],
        options: ClientOptions,
    ) -> None:
        self._connect = connect
        self._options = options
        self._lock = Lock()
        self._turn = 0
        self._named = [address for address in addresses if address.resolved]
        self._asked_at: dict[Address, float] = {}
        self._members: dict[Address, set[Address]] = {}
        self._fixed = {address for address in addresses if not address.resolved}
        self._all: dict[Address, Replica] = {
            address: self._new(address) for address in addresses if not address.resolved
        }

    @property
    def all(self) -> tuple[Replica, ...]:
        """Every replica, also those set aside."""
        return tuple(self._all.values())

    def choose(self, avoid: Collection[Replica] = ()) -> Replica | None:
        """Return the replica to ask, its request counted as under way; None if all are set aside.

        The least busy one, in turn among equals; one of ``avoid`` only if there is no other.
        One that is not ``closed`` has to be asked first whether it is back.
        """
        with self._lock:
            if len(self._all) == 1:  # as most clients have
                (chosen,) = self._all.values()
                if chosen.closed:
                    chosen.pending += 1
                    return chosen
            free = [r for r in self._all.values() if r.closed or not r.opens_in()]
            if not free:
                return None
            self._turn += 1
            start = self._turn % len(free)
            chosen = min(
                free[start:] + free[:start],
                key=lambda replica: (replica in avoid, replica.pending),
            )
            chosen.pending += 1
            if not chosen.closed:
                chosen.probed = True
                with suppress(OpenedState):
                    chosen.circuit.handle_new_request()
            return chosen

    def has_other(self, avoid: Collection[Replica]) -> bool:
        """Say whether there is one to ask that is not among ``avoid``."""
        return any(replica.closed and replica not in avoid for replica in self.all)

    def opens_in(self) -> float:
        """Return the seconds to wait until one of those set aside may be asked again."""
        soonest = min((replica.opens_in() for replica in self.all), default=0.0)
        return max(soonest, _LOOK_AGAIN)

    def ended(self, replica: Replica, error: RequestError | None) -> None:
        """Count what came of a request: any answer, a refusal included, closes the circuit."""
        with self._lock:
            replica.pending -= 1
            replica.probed = False
            circuit = replica.circuit
            if not self._options.breaker:
                return
            if error is not None and _is_failure(error):
                replica.failure = error.message, error.hint
                circuit.handle_exception(error)
            elif circuit.failure_count or not replica.closed:
                circuit.handle_end_request()
            else:
                return
            circuit.messages.clear()
            replica.closed = circuit.state == CLOSED

    def left(self, replica: Replica) -> None:
        """Count a request as over that told nothing: it was cancelled."""
        with self._lock:
            replica.pending -= 1
            replica.probed = False

    def due(self) -> Address | None:
        """Return a name whose addresses are to be asked for; the caller does, others go on."""
        if not self._named:
            return None
        now = time.monotonic()
        with self._lock:
            for address in self._named:
                known = self._asked_at.get(address)
                if known is None or now - known >= self._options.resolve_every:
                    self._asked_at[address] = now
                    return address
        return None

    def ask_names_again(self) -> None:
        """Ask for the addresses of all names at the next occasion: a connection broke."""
        with self._lock:
            self._asked_at.clear()

    def found(self, name: Address, hosts: Sequence[str]) -> list[Replica]:
        """Take the addresses that a name has now; return the replicas that are none any more."""
        wanted = {Address(name.scheme, host, name.port, name.path) for host in hosts}
        with self._lock:
            before = self._members.get(name, set())
            self._members[name] = wanted
            kept = self._fixed.union(*self._members.values())
            gone = [self._all.pop(address) for address in before - kept]
            for address in wanted - self._all.keys():
                self._all[address] = self._new(address)
        return gone

    def _new(self, address: Address) -> Replica:
        return Replica(address, self._connect(address), self._options)


def _is_failure(error: RequestError) -> bool:
    """Say whether an error speaks against the replica and not against the request."""
    if isinstance(error, UnavailableError):
        return error.status in _GATEWAY_STATUSES
    # Triton's own "timeout expired" has a status: it is busy, and there.
    late = isinstance(error, DeadlineExceededError) and error.status is None
    return late or isinstance(error, ConnectionFailedError)
