"""Replay the proof rows through a running server and compare with the offline answers.

Three ways on each wire: one row a request; as many rows a request as the model takes;
and many single rows at once, so that Triton joins them into batches of its own. The
last one notices an answer that went to another caller.
"""

import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import proof
from toolkit.client import Client
from toolkit.errors import VerificationError
from toolkit.proof import ProofRows
from toolkit.spec import RepositoryEntry

_CALLERS = 16
# Answers inside a batch may differ from answers alone by the spread measured offline;
# other batch sizes than the one measured may round once more.
_SPREAD_FACTOR = 4.0


@dataclass(frozen=True, slots=True)
class Replay:
    """What one way of asking gave: rows asked, rows that differ, the worst difference.

    ``first`` describes the first row that differs; ``allowed`` is the absolute
    difference that was let pass, 0.0 for bit equality.
    """

    wire: str
    way: str
    rows: int
    different: int
    worst: float
    allowed: float
    first: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every row came back as it should."""
        return self.different == 0


def verify(
    entry: RepositoryEntry,
    urls: Sequence[str],
    *,
    atol: float = 0.0,
    rounds: int = 3,
    timeout: float = 30.0,
) -> tuple[Replay, ...]:
    """Replay the proof rows of the entry's newest version through each of ``urls``.

    ``atol`` is allowed on top of what is known offline, for a server on a machine with
    another processor; ``rounds`` repeats the concurrent way in another order. Raises
    ``VerificationError`` when the entry has no proof rows, ``RequestError`` when the
    server does not answer.
    """
    rows = _rows(entry.latest)
    spread = proof.batch_spread(entry.latest)
    inside_batch = atol + _SPREAD_FACTOR * spread
    replays: list[Replay] = []
    for url in urls:
        with Client(url, timeout=timeout) as client:
            asker = _Asker(client, entry, rows, url.partition("://")[0])
            replays.append(asker.one_by_one(atol))
            if asker.batched:
                replays.append(asker.in_batches(inside_batch))
            replays.append(asker.concurrently(inside_batch, rounds))
    return tuple(replays)


def canary(client: Client, entry: RepositoryEntry) -> int:
    """Ask for the first rows, one by one; return how many, 0 when there are none.

    Raises ``VerificationError`` when an answer is not the offline one.
    """
    rows = proof.read_rows(entry.latest)
    if rows is None:
        return 0
    few = ProofRows(_take(rows.inputs, slice(0, 4)), _take(rows.expected, slice(0, 4)))
    replay = _Asker(client, entry, few, "http").one_by_one(0.0)
    if not replay.passed:
        raise VerificationError(
            f"model {entry.name!r} answers, but not as it did offline: {replay.first}",
            hint=f"toolkit verify {entry.name}",
        )
    return len(few)


def _rows(version: Path) -> ProofRows:
    rows = proof.read_rows(version)
    if rows is None:
        raise VerificationError(
            f"{version} holds no proof rows to replay",
            hint="convert the model with this toolkit; an entry made by hand has none",
        )
    return rows


@dataclass(frozen=True, slots=True)
class _Asker:
    client: Client
    entry: RepositoryEntry
    rows: ProofRows
    wire: str

    @property
    def batched(self) -> bool:
        return self._rows_per_request > 1

    @property
    def _rows_per_request(self) -> int:
        config = self.client.config(self.entry.name, self._version)
        return min(int(config.get("max_batch_size", 0)), len(self.rows))

    def one_by_one(self, allowed: float) -> Replay:
        answers = [self._ask(slice(row, row + 1)) for row in range(len(self.rows))]
        return self._compare("one by one", [range(len(self.rows))], [_join(answers)], allowed)

    def in_batches(self, allowed: float) -> Replay:
        size = self._rows_per_request
        starts = range(0, len(self.rows), size)
        answers = [self._ask(slice(start, start + size)) for start in starts]
        return self._compare("batched", [range(len(self.rows))], [_join(answers)], allowed)

    def concurrently(self, allowed: float, rounds: int) -> Replay:
        orders = []
        answers = []
        with ThreadPoolExecutor(_CALLERS) as pool:
            for number in range(rounds):
                order = list(range(len(self.rows)))
                random.Random(number).shuffle(order)  # noqa: S311 - an order, not a secret
                orders.append(order)
                singles = pool.map(lambda row: self._ask(slice(row, row + 1)), order)
                answers.append(_join(list(singles)))
        return self._compare("concurrent", orders, answers, allowed)

    def _ask(self, rows: slice) -> Mapping[str, NDArray[Any]]:
        inputs = _take(self.rows.inputs, rows)
        if self._row_is_request:
            inputs = {name: array[0] for name, array in inputs.items()}
        answer = self.client.predict(
            self.entry.name, inputs, version=self._version, outputs=list(self.rows.expected)
        )
        if self._row_is_request:
            return {name: array[None] for name, array in answer.items()}
        return answer

    @property
    def _version(self) -> int:
        return self.entry.versions[-1]

    @property
    def _row_is_request(self) -> bool:
        """Whether the model has no batch axis, so that each row is a request of its own."""
        first = self.client.metadata(self.entry.name, self._version).inputs[0]
        return self.rows.inputs[first.name].ndim == len(first.shape) + 1

    def _compare(
        self,
        way: str,
        orders: Sequence[Sequence[int]],
        answers: Sequence[Mapping[str, NDArray[Any]]],
        allowed: float,
    ) -> Replay:
        different = 0
        worst = 0.0
        first = None
        for order, answer in zip(orders, answers, strict=True):
            wrong = np.zeros(len(order), dtype=bool)
            for name, expected in self.rows.expected.items():
                wanted = expected[np.asarray(order)]
                difference = row_differences(answer[name], wanted)
                worst = max(worst, float(np.max(difference, initial=0.0)))
                bad = difference > allowed
                if bad.any() and first is None:
                    at = int(np.argmax(bad))
                    first = f"row {order[at]}, {name}: {answer[name][at]} for {wanted[at]}"
                wrong |= bad
            different += int(wrong.sum())
        rows = sum(len(order) for order in orders)
        return Replay(self.wire, way, rows, different, worst, allowed, first)


def row_differences(given: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """Return the largest difference in each row; infinite where texts or shapes differ.

    NaN equals NaN. A type that is not the expected one counts as different. The shape
    within a row does not matter: Triton gives one value a row, such as a label, an axis
    of its own.
    """
    flat_given = given.reshape(len(given), -1)
    flat_expected = expected.reshape(len(expected), -1)
    text = given.dtype.kind == "O", expected.dtype.kind == "O"
    if flat_given.shape != flat_expected.shape or text[0] != text[1]:
        return np.full(len(expected), np.inf)
    if expected.dtype.kind == "O":
        return np.where((flat_given == flat_expected).all(axis=1), 0.0, np.inf)
    if given.dtype != expected.dtype:
        return np.full(len(expected), np.inf)
    wide_given = flat_given.astype(np.float64)
    wide_expected = flat_expected.astype(np.float64)
    same = (flat_given == flat_expected) | (np.isnan(wide_given) & np.isnan(wide_expected))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(wide_given - wide_expected))
        # Large integers may differ by less than a float64 can say.
        difference = np.where(same, 0.0, np.maximum(difference, np.finfo(np.float64).tiny))
    # A NaN or an infinity on one side only is as different as can be.
    return np.asarray(np.nan_to_num(difference, nan=np.inf, posinf=np.inf).max(axis=1, initial=0.0))


def _take(arrays: Mapping[str, NDArray[Any]], rows: slice) -> dict[str, NDArray[Any]]:
    return {name: array[rows] for name, array in arrays.items()}


def _join(answers: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
