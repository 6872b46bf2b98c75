"""Vectorizers of texts: counts of n-grams and their weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.estimators import codes, tokens
from converters.estimators.characters import token_rule
from converters.estimators.registry import Answers, writes
from converters.estimators.table import Table
from converters.onnx_writer import Array, Graph, Tensor
from toolkit.errors import UnsupportedModelError

_IMPOSSIBLE = -9
"""Numbers no token and no character."""


@writes("sklearn:CountVectorizer")
def write_count_vectorizer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write how often each term of the vocabulary occurs in a text."""
    return {"transform": counts_of(graph, model, x)}


@writes("sklearn:TfidfVectorizer")
def write_tfidf_vectorizer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write counts of terms, weighted and normed."""
    return {"transform": weighted(graph, model._tfidf, counts_of(graph, model, x), model.dtype)}  # noqa: SLF001 - nothing public holds it


@writes("sklearn:TfidfTransformer")
def write_tfidf_transformer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write counts weighted and normed."""
    return {"transform": weighted(graph, model, x.matrix(), np.float64)}


def counts_of(graph: Graph, model: Any, x: Table) -> Tensor:
    """Return the counts of terms, float64 ``(rows, terms)``; 0 and 1 if ``binary``."""
    refuse_own_functions(model)
    texts = only_text(x, model)
    terms = _in_order(model.vocabulary_)
    if model.analyzer == "word":
        counts = _word_counts(graph, model, texts, terms)
    else:
        counts = _character_counts(graph, model, texts, terms)
    if model.binary:
        counts = counts > 0.0
    return counts.cast(np.float64)


def refuse_own_functions(model: Any) -> None:
    """Refuse what ONNX cannot run: the user's functions, files, and other encodings."""
    name = type(model).__name__
    for part in ("analyzer", "tokenizer", "preprocessor", "strip_accents"):
        if callable(getattr(model, part)):
            msg = f"{name}: {part} is a function, and ONNX has none for it"
            raise UnsupportedModelError(msg)
    if model.input != "content":
        msg = f"{name}: input={model.input!r} reads files"
        raise UnsupportedModelError(msg)


def only_text(x: Table, model: Any) -> Tensor:
    """Return the only column, of texts."""
    if x.width != 1 or not x.has_text:
        msg = f"{type(model).__name__}: it takes one column of texts"
        raise UnsupportedModelError(msg)
    return x.texts()


def _in_order(vocabulary: dict[str, int]) -> list[str]:
    return sorted(vocabulary, key=lambda term: int(vocabulary[term]))


def _word_counts(graph: Graph, model: Any, texts: Tensor, terms: Sequence[str]) -> Tensor:
    rule = token_rule(model)
    low, high = model.ngram_range
    if high > 1 and rule.run[ord(" ")]:
        msg = f"{type(model).__name__}: its tokens hold spaces, which part the words of n-grams"
        raise UnsupportedModelError(msg)
    grams = [tuple(term.split(" ")) if high > 1 else (term,) for term in terms]
    grams = [gram if low <= len(gram) <= high and all(gram) else () for gram in grams]
    stops = set(model.get_stop_words() or ())
    words = sorted({word for gram in grams for word in gram} - stops)
    characters = {c for word in {*words, *stops} for c in word}
    coding = codes.coding(model, characters, rule.run, rule.inside)
    numbered = tokens.Words(rule, coding, words, stops)
    found = tokens.word_numbers(graph, texts, numbered)
    place = {word: i for i, word in enumerate(words)}
    pool = [tuple(place.get(word, _IMPOSSIBLE) for word in gram) for gram in grams]
    return counted(graph, found, pool)


def _character_counts(graph: Graph, model: Any, texts: Tensor, terms: Sequence[str]) -> Tensor:
    coding = codes.coding(model, {c for term in terms for c in term}, None, None)
    by_word = model.analyzer == "char_wb"
    found = tokens.character_numbers(graph, texts, coding, by_word=by_word)
    pool = [
        tuple(coding.alphabet[c] for c in term) if _occurs(term, model) else () for term in terms
    ]
    return counted(graph, found, pool)


def _occurs(term: str, model: Any) -> bool:
    """Say whether the analyzer can give a term of this length."""
    low, high = model.ngram_range
    if model.analyzer == "char_wb" and "  " in term:
        return False
    if low <= len(term) <= high:
        return True
    # A word shorter than every n-gram counts as a whole, with the spaces around it.
    whole = len(term) > 2 and term[0] == term[-1] == " " and " " not in term[1:-1]  # noqa: PLR2004
    return model.analyzer == "char_wb" and len(term) < low and whole


def counted(graph: Graph, numbers: Tensor, pool: Sequence[tuple[int, ...]]) -> Tensor:
    """Return how often each n-gram of numbers occurs in a row, float32; ``()`` never does."""
    pool = [gram or (_IMPOSSIBLE - i,) for i, gram in enumerate(pool)]
    longest = max(len(gram) for gram in pool)
    order = sorted(range(len(pool)), key=lambda i: len(pool[i]))
    starts: list[int] = []
    flat: list[int] = []
    for length in range(1, longest + 1):
        starts.append(len(flat))
        flat += [number for i in order if len(pool[i]) == length for number in pool[i]]
    return graph.node(
        "TfIdfVectorizer",
        [numbers],
        (None, len(pool)),
        dtype=np.float32,
        mode="TF",
        min_gram_length=1,
        max_gram_length=longest,
        max_skip_count=0,
        ngram_counts=starts,
        ngram_indexes=order,
        pool_int64s=flat,
    )


def weighted(graph: Graph, model: Any, counts: Tensor, dtype: Any) -> Tensor:
    """Return counts as a TfidfTransformer weighs and norms them, rounded to ``dtype``."""
    narrow = np.dtype(dtype) == np.float32
    values = counts
    if model.sublinear_tf:
        logs = values.apply("Log") + 1.0
        values = graph.where(values.eq(0.0), graph.constant(np.array(0.0)), _to(logs, narrow))
    if hasattr(model, "idf_"):
        idf: Array = np.asarray(model.idf_, dtype=np.float64).reshape(1, -1)
        scaled = values * idf
        if not np.isfinite(idf).all():
            scaled = graph.where(values.eq(0.0), graph.constant(np.array(0.0)), scaled)
        values = _to(scaled, narrow)
    return _to(normed(values, model.norm), narrow)


def normed(values: Tensor, norm: str | None) -> Tensor:
    """Divide each row by its norm, a row of zeros by nothing."""
    if norm is None:
        return values
    graph = values.graph
    if norm == "l1":
        length = values.apply("Abs").sum()
    else:
        length = values.reduce("ReduceSumSquare").apply("Sqrt")
    return values / graph.where(length.eq(0.0), graph.constant(np.array(1.0)), length)


def _to(values: Tensor, narrow: bool) -> Tensor:
    return values.cast(np.float32).cast(np.float64) if narrow else values
