"""Make the rows on which conversions go wrong, from the fitted model and the sample.

Each kind is kept as far as the original answers it: what it refuses is nobody's question.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from converters import anatomy, jumps, thresholds
from converters.rows import Array, Form, Rows
from converters.source import LoadedModel

_UNSEEN = (
    "never seen before",
    " ",
    "ÄÖÜ ß naïve",
    "日本語 テキスト",
    "UPPER lower",
    "42",
    "a\tb\nc",
)
_MOST_ROWS_APART = 30
_REFUSALS_ENOUGH = 6
_SECONDS_FOR_JUMPS = 60.0
# Above so many splits each of the many questions takes long; the splits themselves are asked.
_MOST_SPLITS = 100_000

Accepts = Callable[[Rows], bool]
Tensors = dict[str, Array]


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes blocks of hard rows out of ``rows``, of which ``count`` are wanted in all."""

    rows: Rows
    count: int
    rng: np.random.Generator

    def share(self, part: float) -> int:
        return max(1, round(self.count * part))

    def block(self, kind: str, tensors: Tensors) -> Rows:
        count = len(next(iter(tensors.values())))
        return Rows(self.rows.form, self.rows.columns, tensors, 0, ((kind, count),))

    def drawn(self, count: int) -> Tensors:
        """Return rows of the sample."""
        picks = self.rng.integers(0, self.rows.count, count)
        return {name: array[picks] for name, array in self.rows.tensors.items()}

    def mixed(self, count: int) -> Tensors:
        """Return rows whose every column comes from another row."""

        def draw(array: Array) -> Array:
            if array.ndim != 2:  # noqa: PLR2004
                return array[self.rng.integers(0, len(array), count)]
            picks = self.rng.integers(0, len(array), (count, array.shape[1]))
            return array[picks, np.arange(array.shape[1])]

        return {name: draw(array) for name, array in self.rows.tensors.items()}

    def moved(self, count: int) -> Tensors:
        """Return rows of the sample, moved by a tenth of each column's spread."""
        tensors = self.drawn(count)
        for name, array in tensors.items():
            if _is_float(array):
                with np.errstate(all="ignore"):
                    spread = np.nan_to_num(_spread(self.rows.tensors[name]))
                noise = self.rng.normal(size=array.shape) * 0.1 * spread
                tensors[name] = (array + noise).astype(array.dtype)
        return tensors

    def scaled(self, count: int, low: float, high: float) -> Tensors:
        """Return rows times 10**low to 10**high, of either sign."""
        tensors = self.drawn(count)
        factors = 10.0 ** self.rng.uniform(low, high, count) * self.rng.choice([-1.0, 1.0], count)
        for name, array in tensors.items():
            if _is_float(array):
                by_row = factors.reshape(-1, *(1,) * (array.ndim - 1))
                tensors[name] = (array * by_row).astype(array.dtype)
        return tensors

    def changed(self, tensors: Tensors, share: float, make: Callable[[Array, int], Any]) -> Tensors:
        """Replace a share of the cells where ``make`` gives something for their column."""
        for array in tensors.values():
            chosen = self.rng.random(array.shape) < share
            values = make(array, int(chosen.sum()))
            if values is not None:
                array[chosen] = values
        return tensors


def generate(source: LoadedModel, rows: Rows, count: int, seed: int, accepts: Accepts) -> Rows:
    """Return ``rows`` and up to about ``count`` hard ones after them."""
    maker = _Maker(rows, count, np.random.default_rng(seed))
    blocks = [replace(rows, kinds=(("sample", rows.count),))]
    for block in _blocks(source, maker) if count else ():
        blocks += _accepted(block, accepts)
    return _joined(blocks)


def _blocks(source: LoadedModel, maker: _Maker) -> Iterator[Rows]:
    form = maker.rows.form
    yield maker.block("moved", maker.moved(maker.share(0.25)))
    if form is Form.TEXTS:
        yield maker.block("texts", {n: _texts(a, maker) for n, a in maker.rows.tensors.items()})
        return
    yield maker.block("scaled", maker.scaled(maker.share(0.02), -1.0, 1.0))
    yield maker.block("zeros", _zeros(maker))
    if form is Form.TENSORS:
        return
    yield maker.block("mixed", maker.mixed(maker.share(0.2)))
    yield maker.block("scaled", maker.scaled(maker.share(0.1), 2.0, 6.0))
    yield maker.block("float32", _through_float32(maker.moved(maker.share(0.05))))
    splits = thresholds.of(source.model)
    yield from _on_thresholds(splits, maker)
    yield from _on_jumps(source, splits, maker)
    missing = maker.changed(maker.mixed(maker.share(0.1)), 0.2, _missing)
    yield maker.block("missing", missing)
    infinite = maker.changed(maker.mixed(maker.share(0.02)), 0.1, _infinite)
    yield maker.block("infinite", infinite)
    if form is Form.COLUMNS:
        unseen = maker.changed(maker.mixed(maker.share(0.05)), 0.5, _unseen)
        yield maker.block("unseen", unseen)
        empty = maker.changed(maker.mixed(maker.share(0.03)), 0.5, _empty)
        yield maker.block("empty text", empty)


def _accepted(block: Rows, accepts: Accepts) -> Iterator[Rows]:
    """Give the block if the original answers it, else those of its rows that it answers.

    A kind that is refused in one column may be right in the next. When several rows in
    turn are refused, so is the kind.
    """
    if accepts(block):
        yield block
        return
    if block.form is Form.TENSORS or block.count == 1:
        return
    refused = 0
    for row in range(min(block.count, _MOST_ROWS_APART)):
        one = block.pick(np.array([row]))
        if accepts(one):
            yield one
            refused = 0
        elif (refused := refused + 1) > _REFUSALS_ENOUGH:
            return


def _joined(blocks: list[Rows]) -> Rows:
    first = blocks[0]
    tensors = {
        name: np.concatenate([block.tensors[name] for block in blocks]) for name in first.tensors
    }
    kinds = tuple(run for block in blocks for run in block.kinds)
    return Rows(first.form, first.columns, tensors, first.sample_rows, kinds)


def _is_float(array: Array) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))


def _spread(array: Array) -> Array:
    """Return the standard deviation over rows, missing values left out."""
    missing = np.isnan(array)
    known = np.where(missing, 0.0, array)
    counts = np.maximum((~missing).sum(axis=0), 1)
    mean = known.sum(axis=0) / counts
    squares = np.where(missing, 0.0, (known - mean) ** 2)
    spread: Array = np.sqrt(squares.sum(axis=0) / counts)
    return np.where(spread > 0, spread, np.abs(mean) * 0.1 + 1e-3)


def _zeros(maker: _Maker) -> Tensors:
    tensors = maker.drawn(maker.share(0.005))
    return {n: np.zeros_like(a) if _is_float(a) else a for n, a in tensors.items()}


def _through_float32(tensors: Tensors) -> Tensors:
    """Return what a caller who holds float32 numbers sends."""
    with np.errstate(over="ignore"):
        return {
            name: array.astype(np.float32).astype(array.dtype) if _is_float(array) else array
            for name, array in tensors.items()
        }


def _on_thresholds(found: list[thresholds.Split], maker: _Maker) -> Iterator[Rows]:
    """Give rows with one cell exactly on a split of the model, or one float64 step off."""
    cells = jumps.cells(maker.rows)
    splits = [
        (cell, number)
        for column, number in found
        if column < len(cells) and (cell := cells[column]) is not None
    ]
    if not splits:
        return
    tensors = maker.drawn(maker.share(0.15))
    for row in range(maker.share(0.15)):
        cell, number = splits[maker.rng.integers(len(splits))]
        with np.errstate(over="ignore"):
            near = (
                number,
                np.nextafter(number, np.inf),
                np.nextafter(number, -np.inf),
                float(np.float32(number)),
            )
        jumps.put(tensors, cell, row, near[row % len(near)])
    yield maker.block("threshold", tensors)


def _on_jumps(source: LoadedModel, splits: list[thresholds.Split], maker: _Maker) -> Iterator[Rows]:
    """Give rows on both sides of a jump of the answer, which lies behind some preprocessing."""
    if anatomy.first(source.model) is source.model:
        return  # The splits themselves are known.
    if not 0 < len(splits) < _MOST_SPLITS:
        return
    pairs = maker.share(0.04)
    low = maker.block("jump", maker.drawn(pairs))
    other = maker.drawn(pairs)
    until = time.monotonic() + _SECONDS_FOR_JUMPS
    yield from jumps.found(source, low, other, maker.rng, until)


def _missing(array: Array, _count: int) -> Any:
    return np.nan if _is_float(array) else None


def _infinite(array: Array, count: int) -> Any:
    return np.resize(np.array([np.inf, -np.inf]), count) if _is_float(array) else None


def _unseen(array: Array, count: int) -> Any:
    if array.dtype.kind == "i":
        return array.max() + 1 + np.arange(count) % 3
    return np.resize(np.array(_UNSEEN, dtype=object), count) if array.dtype == object else None


def _empty(array: Array, count: int) -> Any:
    return np.full(count, "", dtype=object) if array.dtype == object else None


def _texts(array: Array, maker: _Maker) -> Array:
    """Return texts made of the sample's words in other order, case and company."""
    rng = maker.rng
    words = sorted({word for text in array.ravel().tolist() for word in str(text).split()})
    made = ["", " ", *_UNSEEN, *(unseen * 40 for unseen in _UNSEEN[:2])]
    for number in range(maker.share(0.5) if words else 0):
        chosen = [words[i] for i in rng.integers(0, len(words), rng.integers(1, 12))]
        chosen += [_UNSEEN[i] for i in rng.integers(0, len(_UNSEEN), rng.integers(0, 3))]
        joined = (" ", ", ", ".\n", "/", "-")[number % 5].join(chosen)
        made.append((joined, joined.upper(), joined.title(), joined.swapcase())[number % 4])
    return np.array(made, dtype=object).reshape(-1, *array.shape[1:])
