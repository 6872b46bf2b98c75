"""Texts as rows of numbers: one a token, or one a character.

Most texts take the short way: lower case of ASCII by ONNX Runtime, tokens by a pattern,
numbers by a look-up of the token. Texts with a character that is folded in another way (an
accented capital, a ligature, a final sigma) take the long way: characters become codes, and
all else is arithmetic on these. Both give the same numbers; each text takes one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from converters.estimators import codes
from converters.estimators.categories import looked_up
from converters.estimators.characters import Mask, TokenRule, character_class
from converters.estimators.codes import BREAK, FOREIGN, SPACE, SPACES, Coding, split
from converters.onnx_writer import Array, Graph, Tensor
from toolkit.errors import UnsupportedModelError

UNKNOWN = -1
"""Of a token that is in no term."""
NOTHING = -2
"""Behind the last token; of what is no token."""
STOP = -3
"""Of a stop word, and of a run that is no token."""

_EXACT = 1 << 53
_FEWEST = 1 << 24
_TRIES = 8
_USUAL = 32


@dataclass(frozen=True, slots=True)
class Words:
    """The words that tokens are looked up among: those of terms, and stop words."""

    rule: TokenRule
    coding: Coding
    terms: Sequence[str]
    stops: set[str]

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each word."""
        return {word: i for i, word in enumerate(self.terms)} | dict.fromkeys(self.stops, STOP)


def word_numbers(graph: Graph, texts: Tensor, words: Words) -> Tensor:
    """Return a number a token, its place in ``terms``, without stop words; ``(rows, most)``."""
    folds = words.coding.folds
    lowered = texts
    if folds.became.get("A") == "a":
        lowered = ascii_lower(texts)
    hard = folds.dropped.copy()
    hard[[ord(c) for c in folds.became if not c.isascii()]] = True
    if not hard.any():
        return _tokens(graph, lowered, words)
    is_hard, rows = holding(texts, hard)
    easy = _tokens(graph, emptied(lowered, is_hard), words)
    return replaced(easy, texts, rows, lambda body, few: _runs(body, few, words), NOTHING)


def ascii_lower(texts: Tensor) -> Tensor:
    """Make ASCII letters small.

    Of the locales, C alone is everywhere, and it leaves all else as it is.
    """
    return texts.apply(
        "StringNormalizer", case_change_action="LOWER", is_case_sensitive=0, locale="C"
    )


def cut(texts: Tensor, rule: TokenRule) -> Tensor:
    """Cut folded texts into runs of the shortest length or more, ``rule.behind`` after them."""
    expression = f"[{character_class(rule.run)}]{{{rule.shortest},}}"
    return split(texts, rule.behind, tokenexp=expression)


def holding(texts: Tensor, characters: Mask) -> tuple[Tensor, Tensor]:
    """Say which texts hold one of these characters, and which rows they are."""
    pattern = f"(?s)[^{character_class(characters)}]*"
    hard = ~texts.apply("RegexFullMatch", np.bool_, pattern=pattern)
    rows = texts.graph.node("NonZero", [hard], (1, None), dtype=np.int64).reshape(-1)
    return hard, rows


def emptied(texts: Tensor, chosen: Tensor) -> Tensor:
    """Put the empty text in the place of the chosen ones."""
    graph = texts.graph
    return graph.where(chosen, graph.constant(np.array("", dtype=object)), texts)


def replaced(
    easy: Tensor,
    texts: Tensor,
    rows: Tensor,
    hard: Callable[[Graph, Tensor], Tensor],
    filler: int,
) -> Tensor:
    """Put what ``hard`` gives for the texts of some rows in their place; it is run for these."""
    graph = easy.graph
    chosen = graph.node("Gather", [texts, rows], (None,), axis=0)
    count = graph.node("Shape", [rows], (1,), dtype=np.int64)
    # A loop of one turn or none: the long way costs nothing where no text needs it.
    once = graph.node("Min", [count, np.array([1])]).reshape()

    def step(body: Graph, easy: Tensor, few: Tensor, at: Tensor) -> tuple[Tensor, list[Tensor]]:
        merged = _merged(body, easy, hard(body, few), at, filler)
        return body.constant(np.array(True)), [merged, few, at]

    return graph.loop(once, [easy, chosen, rows], step)[0]


def _tokens(graph: Graph, texts: Tensor, words: Words) -> Tensor:
    """Number the tokens of texts that are folded."""
    rule, numbers = words.rule, words.numbers
    tokens = cut(texts, rule)
    keys = numbers | {rule.behind: NOTHING}
    found = looked_up(tokens, list(keys), list(keys.values()), UNKNOWN)
    removed = STOP in numbers.values()
    limits = _token_limits(rule)
    if limits is not None:
        counts = tokens.apply("RegexFullMatch", np.bool_, pattern=limits)
        found = graph.where(counts | found.eq(NOTHING), found, graph.constant(np.array(STOP)))
        removed = True
    return codes.closed_up(graph, found, found > STOP, NOTHING) if removed else found


def _token_limits(rule: TokenRule) -> str | None:
    """Return the pattern of what a run must be to be a token, if not every one is."""
    if rule.inside is None and rule.longest is None:
        return None
    inside = rule.run if rule.inside is None else rule.inside
    longest = "" if rule.longest is None else rule.longest
    return f"(?s)[{character_class(inside)}]{{{rule.shortest},{longest}}}"


def _runs(graph: Graph, texts: Tensor, words: Words) -> Tensor:
    """Number the tokens of any texts, by the codes of their characters."""
    rule, of = words.rule, words.coding
    code = codes.padded(codes.all_codes(graph, texts, of), BREAK, right=1)
    inside = (code > BREAK).cast(np.int64)
    run = codes.cumulated(code.eq(BREAK).cast(np.int64))
    width = graph.node("Shape", [code], (1,), dtype=np.int64, start=1, end=2) + np.array([1])
    empty = codes.blank(graph, code, width)
    lengths = codes.added(empty, run, inside)
    starts = codes.cumulated(lengths) - lengths
    characters = codes.closed_up(graph, code, code > BREAK, BREAK)
    counts = lengths >= rule.shortest
    if rule.longest is not None:
        counts = counts & (lengths <= rule.longest)
    if rule.inside is not None:
        foreign = codes.added(empty, run, code.eq(FOREIGN).cast(np.int64))
        counts = counts & foreign.eq(0)
    found = lengths * 0 + UNKNOWN
    for table in _tables(words):
        fits = counts & (lengths > table.over) & (lengths <= table.longest)
        places = graph.node("NonZero", [fits], (2, None), dtype=np.int64).transpose(1, 0)
        some = _numbered(characters, _at(starts, places), _at(lengths, places), places, table)
        found = graph.node("ScatterND", [found, places, some])
    found = graph.where(counts, found, graph.constant(np.array(STOP)))
    return codes.closed_up(graph, found, found > STOP, NOTHING)


class _WordTable:
    """Words by two sums of their codes, each code weighted by its place.

    The sums stay below 2**53: ONNX Runtime 1.31 adds int64 up in float64.
    """

    def __init__(self, numbers: dict[str, int], alphabet: dict[str, int], over: int) -> None:
        self.over = over
        self.longest = max(len(word) for word in numbers)
        table = np.zeros((len(numbers), self.longest), dtype=np.int64)
        for row, word in zip(table, numbers, strict=True):
            row[: len(word)] = [alphabet[c] for c in word]
        highest = _EXACT // (self.longest * (max(alphabet.values()) + 1))
        self.weights, sums = _separating(table, highest)
        self.keys: list[int] = sums[0].tolist()
        self.checks = np.append(sums[1], -1)
        self.answers = np.append(np.array(list(numbers.values()), dtype=np.int64), UNKNOWN)


def _tables(words: Words) -> list[_WordTable]:
    """Return the usual words and the long ones apart: a row of codes is as long as the longest."""
    usual = {w: n for w, n in words.numbers.items() if 0 < len(w) <= _USUAL}
    longer = {w: n for w, n in words.numbers.items() if len(w) > _USUAL}
    alphabet = words.coding.alphabet
    pairs = ((usual, 0), (longer, _USUAL))
    return [_WordTable(numbers, alphabet, over) for numbers, over in pairs if numbers]


def _separating(table: Array, highest: int) -> tuple[Array, Array]:
    """Return weights whose sums tell the rows of a table apart, and the sums."""
    for seed in range(_TRIES):
        rng = np.random.default_rng(seed)
        weights = rng.integers(1, max(highest, 2), (2, table.shape[1]), dtype=np.int64)
        sums = weights @ table.T
        if highest >= _FEWEST and len(np.unique(sums[0])) == sums.shape[1]:
            return weights, sums
    msg = "the words of the vocabulary are too long to be told apart by 53-bit sums"
    raise UnsupportedModelError(msg)


def _numbered(
    characters: Tensor, start: Tensor, length: Tensor, places: Tensor, table: _WordTable
) -> Tensor:
    """Look words up by where their codes start and how many they are; both sums must agree."""
    graph = characters.graph
    zero = graph.constant(np.array(0))
    step = graph.constant(np.arange(table.longest).reshape(1, -1))
    within = step < length
    column = graph.where(within, start + step, zero)
    row = places.take([0]) + column * 0
    cells = graph.concat([_last_axis(row), _last_axis(column)], axis=2)
    code = graph.node("GatherND", [characters, cells], (None, table.longest))
    code = graph.where(within, code, zero)
    first, second = ((code * row).sum(keepdims=False) for row in table.weights)
    nth = looked_up(first, table.keys, list(range(len(table.keys))), len(table.keys))
    agree = nth.lookup(table.checks).eq(second)
    return graph.where(agree, nth.lookup(table.answers), graph.constant(np.array(UNKNOWN)))


def _at(numbers: Tensor, places: Tensor) -> Tensor:
    return numbers.graph.node("GatherND", [numbers, places], (None,)).reshape(-1, 1)


def _last_axis(tensor: Tensor) -> Tensor:
    return tensor.graph.node("Unsqueeze", [tensor, np.array([2])], (*tensor.shape, 1))


def _merged(graph: Graph, easy: Tensor, hard: Tensor, rows: Tensor, filler: int) -> Tensor:
    """Put the numbers of some rows in the place of what the others' way gave for them."""
    widths = [
        graph.node("Shape", [tensor], (1,), dtype=np.int64, start=1, end=2)
        for tensor in (easy, hard)
    ]
    most = graph.node("Max", widths)
    easy, hard = (
        graph.node("Pad", [tensor, _to_width(graph, most - width), np.array(filler)], (None, None))
        for tensor, width in zip((easy, hard), widths, strict=True)
    )
    return graph.node("ScatterND", [easy, rows.reshape(-1, 1), hard])


def _to_width(graph: Graph, more: Tensor) -> Tensor:
    return graph.concat([graph.constant(np.array([0, 0, 0])), more], axis=0)


def character_numbers(graph: Graph, texts: Tensor, of: Coding, *, by_word: bool) -> Tensor:
    """Return a number a character, of each white space one; with spaces around words."""
    odd = codes.odd_characters(of)
    if odd.any():
        is_odd, rows = holding(texts, odd)
        easy = codes.simple_codes(emptied(texts, is_odd), of)
        code = replaced(easy, texts, rows, lambda body, few: codes.all_codes(body, few, of), BREAK)
    else:
        code = codes.simple_codes(texts, of)
    space = (code >= SPACE) & (code <= SPACE + len(SPACES))
    return _between_spaces(graph, code, space) if by_word else _spaced(graph, code, space)


def _beside(flags: Tensor, *, before: bool, edge: bool) -> Tensor:
    """Return the flag of the neighbour of each cell; ``edge`` is that of the row's ends."""
    graph = flags.graph
    whole = codes.padded(flags.cast(np.int64), int(edge), left=int(before), right=int(not before))
    ends = np.array([-1]) if before else np.array([np.iinfo(np.int64).max])
    starts = np.array([0]) if before else np.array([1])
    return graph.node("Slice", [whole, starts, ends, np.array([1])], (None, None)).eq(1)


def _spaced(graph: Graph, code: Tensor, space: Tensor) -> Tensor:
    """Make one space of two or more white-space characters in a row; a single one stays."""
    first = space & ~_beside(space, before=True, edge=False)
    several = first & _beside(space, before=False, edge=False)
    code = graph.where(several, graph.constant(np.array(SPACE)), code)
    kept = (first | ~space) & (code > BREAK)
    return codes.closed_up(graph, code, kept, BREAK)


def _between_spaces(graph: Graph, code: Tensor, space: Tensor) -> Tensor:
    """Put one space before and one behind each word.

    No n-gram holds two spaces in a row, and so none goes from one word to the next.
    """
    code = codes.padded(code, BREAK, right=1)
    inside = (code > BREAK) & ~codes.padded(space.cast(np.int64), 0, right=1).eq(1)
    follows = _beside(inside, before=True, edge=False)
    nothing, one = graph.constant(np.array(NOTHING)), graph.constant(np.array(SPACE))
    slots = [
        graph.where(inside & ~follows, one, nothing),
        graph.where(inside, code, graph.where(follows, one, nothing)),
    ]
    cells = graph.concat([_last_axis(slot) for slot in slots], axis=2)
    # 0 keeps the number of rows, of a batch of none too.
    cells = graph.node("Reshape", [cells, np.array([0, -1])], (None, None))
    return codes.closed_up(graph, cells, ~cells.eq(NOTHING), BREAK)
