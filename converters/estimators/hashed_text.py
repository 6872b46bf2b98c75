"""HashingVectorizer: tokens and n-grams stay texts, for their hash is taken of their bytes."""

from typing import Any

import numpy as np

from converters.estimators import codes, tokens
from converters.estimators.categories import looked_up
from converters.estimators.characters import (
    FINAL_SIGMA,
    SIGMA,
    TokenRule,
    character_class,
    folds,
    token_rule,
)
from converters.estimators.hashing import murmur, placed, refuse_wide, scattered
from converters.estimators.registry import Answers, writes
from converters.estimators.table import Table
from converters.estimators.text import normed, only_text, refuse_own_functions
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError

_SPLIT = "İ"
"""The one character whose lower case is a letter and a mark that ends a word."""


@writes("sklearn:HashingVectorizer")
def write_hashing_vectorizer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the signed counts of the hashes of words and their n-grams."""
    refuse_own_functions(model)
    refuse_wide(model)
    _refuse_others(model)
    texts = only_text(x, model)
    lowered, rows = texts, None
    if model.lowercase:
        hard = np.zeros_like(folds(True, None).dropped)
        hard[[ord(c) for c in folds(True, None).became if not c.isascii()]] = True
        is_hard, rows = tokens.holding(texts, hard)
        lowered = tokens.emptied(tokens.ascii_lower(texts), is_hard)
    places = _features(graph, tokens.cut(lowered, token_rule(model)), model)
    if rows is not None:
        places = tokens.replaced(
            places,
            texts,
            rows,
            lambda body, few: _features(body, _assembled(few, token_rule(model)), model),
            0,
        )
    return {"transform": _rows(graph, places, model)}


def _refuse_others(model: Any) -> None:
    name = type(model).__name__
    rule = token_rule(model)
    if model.analyzer != "word":
        msg = f"{name}: analyzer={model.analyzer!r} is not written as exact ONNX"
        raise UnsupportedModelError(msg)
    if model.strip_accents is not None:
        msg = f"{name}: strip_accents={model.strip_accents!r} is not written as exact ONNX"
        raise UnsupportedModelError(msg)
    plain = rule.inside is None and rule.longest is None and not rule.run[ord("\u0307")]
    if not plain or rule.run[ord(_SPLIT)] != rule.run[ord("i")] or not rule.run[ord("i")]:
        msg = f"{name}: token_pattern={model.token_pattern!r} is not written as exact ONNX"
        raise UnsupportedModelError(msg)
    if np.dtype(model.dtype) != np.float64:
        msg = f"{name}: dtype={np.dtype(model.dtype)} is not written as exact ONNX"
        raise UnsupportedModelError(msg)


def _features(graph: Graph, words: Tensor, model: Any) -> Tensor:
    """Return a number an n-gram: its column plus one, with its sign; 0 is none."""
    stops = sorted({*(model.get_stop_words() or ()), "", token_rule(model).behind})
    stop = looked_up(words, stops, [1] * len(stops), 0).eq(1)
    count = words.graph.node("Shape", [words], (1,), dtype=np.int64, start=1, end=2)
    place = codes.cumulated(stop.cast(np.int64) * 0 + 1) - 1
    order = codes.closed_up(graph, place, ~stop, -1)
    # An empty text behind the last: what no word stands at is there.
    empty = graph.constant(np.array("", dtype=object))
    width = graph.concat([_row_count(words), graph.constant(np.array([1]))], axis=0)
    column = graph.node("Expand", [empty, width], (None, 1), dtype=object)
    words = graph.node("Concat", [words, column], (None, None), axis=1)
    picked = codes.picked(words, graph.where(order >= 0, order, count))
    low, high = model.ngram_range
    gram, found, there = picked, [], order >= 0
    for length in range(1, high + 1):
        if length > 1:
            gram, there = _longer(gram, there, picked, order >= 0, length - 1)
        if length >= low:
            columns, sign = placed(murmur(gram), model)
            signed = (columns + 1) * sign.cast(np.int64)
            found.append(graph.where(there, signed, graph.constant(np.array(0))))
    return graph.node("Concat", list(found), (None, None), axis=1)


def _row_count(tensor: Tensor) -> Tensor:
    return tensor.graph.node("Shape", [tensor], (1,), dtype=np.int64, start=0, end=1)


def _longer(
    gram: Tensor, there: Tensor, words: Tensor, present: Tensor, shift: int
) -> tuple[Tensor, Tensor]:
    """Append the word ``shift`` places on to each n-gram, where both are there."""
    graph = gram.graph
    flags = present.cast(np.int64)
    place = codes.cumulated(flags * 0 + 1) - 1 + shift
    last = graph.node("Shape", [flags], (1,), dtype=np.int64, start=1, end=2) - 1
    within = place <= last
    at = graph.where(within, place, last)
    follows = codes.picked(flags, at).eq(1) & within & there
    space = graph.constant(np.array(" ", dtype=object))
    longer = graph.node("StringConcat", [gram, space], (None, None))
    return graph.node("StringConcat", [longer, codes.picked(words, at)], (None, None)), follows


def _rows(graph: Graph, places: Tensor, model: Any) -> Tensor:
    there = ~places.eq(0)
    column = graph.where(there, places.apply("Abs") - 1, graph.constant(np.array(0)))
    values = places.apply("Sign").cast(np.float64)
    if model.binary:
        # A column in which features cancel out is there all the same.
        touched = scattered(column, values.apply("Abs"), model.n_features)
        counts = (touched > 0.0).cast(np.float64)
    else:
        counts = scattered(column, values, model.n_features)
    return normed(counts, model.norm)


def _assembled(texts: Tensor, rule: TokenRule) -> Tensor:
    """Return each word of any texts where it begins, in lower case; else the empty text."""
    graph = texts.graph
    lower = folds(True, None).became
    run = rule.run.copy()
    run[[ord(c) for c in lower]] = [rule.run[ord(low[0])] for low in lower.values()]
    characters = codes.characters_of(texts)
    inside = characters.apply("RegexFullMatch", np.bool_, pattern=f"(?s)[{character_class(run)}]")
    ends = (~inside).cast(np.int64)
    split = characters.eq(_text(graph, _SPLIT)).cast(np.int64)
    number = codes.cumulated(ends) + codes.cumulated(split) - split
    count = graph.node("Shape", [characters], (1,), dtype=np.int64, start=1, end=2)
    empty = codes.blank(graph, characters, count * 2 + 1)
    length = codes.picked(codes.added(empty, number, inside.cast(np.int64)), number)
    before = codes.padded(graph.where(inside, number, _whole(graph, -1)), -1, left=1)
    cut_off = [np.array([0]), np.array([-1]), np.array([1])]
    before = graph.node("Slice", [before, *cut_off], (None, None))
    begins = inside & ~before.eq(number) & (length >= rule.shortest)
    letters = graph.where(inside, _lowered(graph, characters, lower), _text(graph, ""))
    number = graph.where(inside, number, _whole(graph, -1))
    return graph.where(begins, _joined(graph, letters, number, length), _text(graph, ""))


def _lowered(graph: Graph, characters: Tensor, lower: dict[str, str]) -> Tensor:
    became = {c: low[0] for c, low in lower.items()}
    mapped = characters.apply(
        "LabelEncoder",
        domain="ai.onnx.ml",
        keys_strings=[c.encode() for c in became],
        values_strings=[low.encode() for low in became.values()],
        default_string=codes.PAD,
    )
    mapped = graph.where(mapped.eq(_text(graph, codes.PAD)), characters, mapped)
    final = codes.is_final(graph, characters) & characters.eq(_text(graph, SIGMA))
    return graph.where(final, _text(graph, FINAL_SIGMA), mapped)


def _joined(graph: Graph, letters: Tensor, number: Tensor, length: Tensor) -> Tensor:
    """Append to each letter the rest of its word, twice as much of it each turn."""
    longest = graph.node("ReduceMax", [length, np.array([0, 1])], (), keepdims=0)

    def step(body: Graph, *states: Tensor) -> tuple[Tensor, list[Tensor]]:
        parts, number, shift, longest = states
        place = codes.cumulated(number * 0 + 1) - 1 + shift
        last = body.node("Shape", [number], (1,), dtype=np.int64, start=1, end=2) - 1
        within = place <= last
        at = body.where(within, place, last)
        same = codes.picked(number, at).eq(number) & within & (number >= 0)
        more = body.where(same, codes.picked(parts, at), _text(body, ""))
        longer = body.node("StringConcat", [parts, more], (None, None))
        twice = shift * 2
        return twice < longest, [longer, number, twice, longest]

    return graph.loop(64, [letters, number, graph.constant(np.array(1)), longest], step)[0]


def _text(graph: Graph, text: str) -> Tensor:
    return graph.constant(np.array(text, dtype=object))


def _whole(graph: Graph, number: int) -> Tensor:
    return graph.constant(np.array(number))
