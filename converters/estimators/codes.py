"""Characters as small numbers: each text becomes a row of codes of its folded characters."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from converters.estimators.categories import looked_up
from converters.estimators.characters import (
    FINAL_SIGMA,
    SIGMA,
    SURROGATES,
    Folds,
    Mask,
    character_class,
    folds,
    sigma_context,
)
from converters.onnx_writer import Array, Graph, Tensor

BREAK = 0
"""Of a character that no term holds, and of what stands behind the end of a text."""
OTHER = 1
"""Of a character of a token that is in no term."""
FOREIGN = 2
"""Of a character of a run that makes it no token."""
SPACE = 3
SPACES = tuple(sorted(c for c in map(chr, range(0x3001)) if c.isspace() and c != " "))
FIRST = SPACE + 1 + len(SPACES)
"""The first code of what is neither of the above."""

PAD = "\0P"
"""Behind the last character of a text; longer than one."""
_MOST_KEYS = 20_000
_CASED, _IGNORED = 1, 2


@dataclass(frozen=True, slots=True)
class Coding:
    """Which codes each character of a text becomes."""

    folds: Folds
    alphabet: dict[str, int]
    single: Array
    """By code point: the code of a character that is folded already."""

    def of(self, character: str) -> tuple[int, ...]:
        """Return the codes of a character as it is sent."""
        return tuple(int(self.single[ord(c)]) for c in self.folds.of(character))


def coding(model: Any, characters: Iterable[str], run: Mask | None, inside: Mask | None) -> Coding:
    """Number the characters of terms; ``run`` are those of tokens, ``None`` keeps spaces."""
    folded = folds(bool(model.lowercase), model.strip_accents)
    kept = sorted(set(characters))
    spaces = {" ": SPACE, **{c: SPACE + 1 + i for i, c in enumerate(SPACES)}}
    alphabet = {c: FIRST + i for i, c in enumerate(c for c in kept if c not in spaces)} | spaces
    single = np.full(len(folded.dropped), OTHER, dtype=np.int64)
    single[[ord(c) for c in alphabet]] = list(alphabet.values())
    if run is not None:
        single[~run] = BREAK
        if inside is not None:
            single[run & ~inside] = FOREIGN
    return Coding(folded, alphabet, single)


def odd_characters(of: Coding) -> Mask:
    """Return the characters that do not become exactly one, whatever stands beside them."""
    odd = of.folds.dropped.copy()
    odd[[ord(c) for c, string in of.folds.became.items() if len(string) > 1]] = True
    if _sigma_matters(of):
        odd[ord(SIGMA)] = True
    return odd


def _sigma_matters(of: Coding) -> bool:
    if of.folds.of(SIGMA) == SIGMA:  # Not made lower case.
        return False
    final = of.of(FINAL_SIGMA)
    return final != of.of(SIGMA)


def characters_of(texts: Tensor) -> Tensor:
    """Split texts ``(rows,)`` into characters ``(rows, longest)``."""
    return split(texts, PAD, separators=[""])


def split(texts: Tensor, behind: str, **how: Any) -> Tensor:
    """Split texts ``(rows,)`` into parts ``(rows, most)``, ``behind`` after the last."""
    return texts.graph.node(
        "Tokenizer",
        [texts],
        (None, None),
        domain="com.microsoft",
        mark=0,
        mincharnum=1,
        pad_value=behind,
        **how,
    )


def simple_codes(texts: Tensor, of: Coding) -> Tensor:
    """Return one code a character, ``BREAK`` behind the end, of texts without odd ones."""
    codes = of.single.copy()
    for character, string in of.folds.became.items():
        codes[ord(character)] = of.single[ord(string[0])]
    codes[odd_characters(of)] = OTHER
    keys = {chr(at): int(codes[at]) for at in np.flatnonzero(codes != OTHER)} | {PAD: BREAK}
    return looked_up(characters_of(texts), list(keys), list(keys.values()), OTHER)


def all_codes(graph: Graph, texts: Tensor, of: Coding) -> Tensor:
    """Return the codes of any texts, ``BREAK`` behind the end; slower than ``simple_codes``."""
    symbols = _Symbols(of)
    characters = characters_of(texts)
    symbol = looked_up(
        characters, list(symbols.keys), list(symbols.keys.values()), symbols.fallback
    )
    if symbols.by_class is not None:
        chosen = characters.apply(
            "RegexFullMatch", np.bool_, pattern=f"(?s)[{character_class(symbols.by_class)}]"
        )
        symbol = graph.where(chosen, graph.constant(np.array(symbols.other)), symbol)
    if _sigma_matters(of):
        final = is_final(graph, characters) & characters.eq(
            graph.constant(np.array(SIGMA, dtype=object))
        )
        symbol = graph.where(final, graph.constant(np.array(symbols.final_sigma)), symbol)
    return _expanded(graph, symbol, symbols.rows)


class _Symbols:
    """Characters that become the same codes, by number."""

    def __init__(self, of: Coding) -> None:
        numbers: dict[tuple[int, ...], int] = {(BREAK,): 0, (OTHER,): 1, (): 2}
        self.other = 1
        for code in np.unique(of.single).tolist():
            numbers.setdefault((code,), len(numbers))
        by_code = np.zeros(of.single.max() + 1, dtype=np.int64)
        for row, number in numbers.items():
            if row:
                by_code[row[0]] = number
        found = by_code[of.single]
        found[of.folds.dropped] = numbers[()]
        for character in of.folds.became:
            found[ord(character)] = numbers.setdefault(of.of(character), len(numbers))
        counts = np.bincount(found, minlength=3)
        self.fallback = int(counts.argmax())
        self.by_class: Mask | None = None
        keyed = found != self.fallback
        if counts[self.other] > _MOST_KEYS and self.fallback != self.other:
            self.by_class = found == self.other
            keyed &= ~self.by_class
        keyed[SURROGATES.start : SURROGATES.stop] = False
        self.keys = {chr(at): int(found[at]) for at in np.flatnonzero(keyed)} | {PAD: 0}
        self.final_sigma = int(found[ord(FINAL_SIGMA)])
        self.rows: Sequence[tuple[int, ...]] = list(numbers)


def _expanded(graph: Graph, symbol: Tensor, rows: Sequence[tuple[int, ...]]) -> Tensor:
    """Replace each symbol by its row of codes, of any length."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    flat = np.array([code for row in rows for code in row], dtype=np.int64)
    if (lengths == 1).all():
        return symbol.lookup(flat)
    ends = cumulated(symbol.lookup(lengths))
    # One column of padding more, for the cells behind the end of a row.
    symbol, starts = padded(symbol, 0, right=1), padded(ends, 0, left=1)
    longest = graph.concat([ends.reshape(-1), graph.constant(np.array([0]))], axis=0)
    width = longest.reduce("ReduceMax", 0) + np.array([1])
    marks = blank(graph, symbol, width)
    ones = ends * 0 + 1
    source = cumulated(added(marks, ends, ones))
    here = picked(symbol, source)
    slot = cumulated(blank(graph, symbol, width) + 1) - 1
    slot = slot - picked(starts, source)
    last = here.lookup(np.maximum(lengths - 1, 0))
    slot = graph.where(slot > last, last, slot)
    return (here.lookup(offsets) + slot).lookup(flat)


def is_final(graph: Graph, characters: Tensor) -> Tensor:
    """Say of each place whether a capital sigma there would end a word."""
    cased, ignored = sigma_context()
    kinds = dict.fromkeys(cased, _CASED) | dict.fromkeys(ignored, _IGNORED)
    kind = looked_up(characters, list(kinds), list(kinds.values()), 0)
    seen = (kind < _IGNORED).cast(np.int64)
    rank = cumulated(seen)
    width = graph.node("Shape", [characters], (1,), dtype=np.int64, start=1, end=2) + np.array([3])
    flags = added(blank(graph, characters, width), rank, kind.eq(_CASED).cast(np.int64))
    before, after = picked(flags, rank - 1), picked(flags, rank + 1)
    return before.eq(1) & after.eq(0) & kind.eq(_CASED)


def cumulated(numbers: Tensor) -> Tensor:
    """Return the running sum along a row."""
    return numbers._with("CumSum", np.array(1))  # noqa: SLF001 - an operator of two inputs


def padded(numbers: Tensor, value: int, *, left: int = 0, right: int = 0) -> Tensor:
    """Put columns of ``value`` before and behind."""
    pads = np.array([0, left, 0, right])
    return numbers.graph.node("Pad", [numbers, pads, np.array(value)], (None, None))


def blank(graph: Graph, like: Tensor, width: Tensor) -> Tensor:
    """Return int64 zeros of as many rows as ``like``, ``width`` (one number) wide."""
    rows = graph.node("Shape", [like], (1,), dtype=np.int64, start=0, end=1)
    shape = graph.concat([rows, width], axis=0)
    return graph.node("Expand", [np.array(0), shape], (None, None), dtype=np.int64)


def added(base: Tensor, columns: Tensor, numbers: Tensor) -> Tensor:
    """Add numbers to the columns named, in each row."""
    return base.graph.node("ScatterElements", [base, columns, numbers], axis=1, reduction="add")


def picked(numbers: Tensor, columns: Tensor) -> Tensor:
    """Return ``numbers[row, columns[row]]``; a column of -1 is the last."""
    return numbers.graph.node("GatherElements", [numbers, columns], columns.shape, axis=1)


def closed_up(graph: Graph, numbers: Tensor, kept: Tensor, filler: int) -> Tensor:
    """Move the kept numbers of each row to its left, as wide as the row with the most needs."""
    count = kept.cast(np.int64)
    rank = cumulated(count)
    # What is not kept goes to the column 0, which is cut off.
    target = rank * count
    most = graph.node(
        "Slice", [rank, np.array([-1]), np.array([np.iinfo(np.int64).max]), np.array([1])]
    )
    counts = graph.concat([most.reshape(-1), graph.constant(np.array([0]))], axis=0)
    width = counts.reduce("ReduceMax", 0) + np.array([1])
    base = blank(graph, numbers, width) + filler
    full = graph.node("ScatterElements", [base, target, numbers], axis=1)
    ends = np.array([np.iinfo(np.int64).max])
    return graph.node("Slice", [full, np.array([1]), ends, np.array([1])], (None, None))
