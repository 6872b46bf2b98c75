"""Text vectorizers count what the original counts, in any script, without a locale."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import (
    CountVectorizer,
    HashingVectorizer,
    TfidfTransformer,
    TfidfVectorizer,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from converters import releases
from converters.estimators import registry
from converters.estimators.characters import every_character, folds
from converters.estimators.table import Table
from converters.onnx_writer import Graph
from toolkit.errors import UnsupportedModelError

Written = Any
# fmt: off
PIECES = (
    "the", "Cat", "CAFÉ", "café", "Straße", "STRASSE", "ΟΔΟΣ", "οδος", "ΣΑΣ", "Σ", "ς", "\u03c3",
    "İstanbul", "\u0131", "ﬃ", "½", "日本語", "한국어", "naïve", "Ünï", "x_1", "a", "b2", "٣٤",
    "don't", "Àb", "ǅ", "\U0001d49cb", "🙂", "ﷺ", "\u212a", "\u212b", "·", "A.Σ.B", "0", "ПРИВЕТ",
    "мир", "e\u0301", "\u200d", "\u0345", " ", "  ", "\n", "\t", "\u00a0", "\u2003", "\0", "",
)
# fmt: on


def texts(count: int, seed: int) -> list[str]:
    """Return texts of awkward pieces, some of them of any characters at all."""
    rng = np.random.default_rng(seed)
    every = every_character()
    made = []
    for i in range(count):
        pieces = rng.choice(np.array(PIECES, dtype=object), rng.integers(0, 25)).tolist()
        made.append(("" if i % 3 else " ").join(pieces))
        if i % 4 == 0:
            made[-1] += "".join(every[at] for at in rng.integers(0, 0x3000, 20))
        if i % 10 == 0:
            made[-1] += "".join(every[at] for at in rng.integers(0, len(every), 20))
    return [*made, "", "   ", "\n\n", "ab" * 2000, "É" * 300, "the cat"]


LEARNED, ASKED = texts(150, 1), texts(200, 2)
WORDS = [
    {},
    {"ngram_range": (1, 3)},
    {"ngram_range": (2, 2), "strip_accents": "ascii"},
    {"stop_words": ["the", "cat", "οδος", "café"], "ngram_range": (1, 2)},
    {"stop_words": "english", "max_features": 20},
    {"strip_accents": "unicode"},
    {"lowercase": False},
    {"token_pattern": r"\S+"},
    {"token_pattern": r"(?u)\b\w+\b", "binary": True},
    {"token_pattern": r"\b[a-zé]+\b"},
    {"token_pattern": r"\b\w{2,4}\b"},
    {"vocabulary": ["cat", "the cat", "zzz", "", "İ", "a  b", "i", "Σ", "οδος"]},
]
CHARACTERS = [
    {"analyzer": "char", "ngram_range": (1, 3), "max_features": 800},
    {"analyzer": "char", "ngram_range": (2, 2), "strip_accents": "unicode"},
    {"analyzer": "char_wb", "ngram_range": (1, 3)},
    {"analyzer": "char_wb", "ngram_range": (5, 6), "lowercase": False},
    {"analyzer": "char_wb", "vocabulary": [" a", "a ", " a ", "  ", " ", "\n", "cat"]},
]


def column(rows: list[str]) -> dict[str, Any]:
    return {"text": np.array(rows, dtype=object)}


@pytest.mark.parametrize("options", [*WORDS, *CHARACTERS], ids=str)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_counts_are_those_of_the_original(written: Written, options: dict[str, Any]) -> None:
    model = CountVectorizer(**options).fit(LEARNED)
    (got,) = written(model, column(ASKED), "transform")
    np.testing.assert_array_equal(got, model.transform(ASKED).toarray())


@pytest.mark.parametrize("options", [WORDS[0], CHARACTERS[2]], ids=str)
def test_texts_answer_alike_alone_and_in_company(written: Written, options: Any) -> None:
    model = CountVectorizer(**options).fit(LEARNED)
    for rows in (["the cat"], ["É İa ΑΣ"], [""], ["É", "e", "Σ"], ["a b"] * 3):
        (got,) = written(model, column(rows), "transform")
        np.testing.assert_array_equal(got, model.transform(rows).toarray())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "l1", "sublinear_tf": True},
        {"norm": None, "use_idf": False},
        {"smooth_idf": False, "binary": True},
        {"dtype": np.float32, "ngram_range": (1, 2)},
    ],
    ids=str,
)
def test_weights_are_those_of_the_original(written: Written, options: dict[str, Any]) -> None:
    model = TfidfVectorizer(**options).fit(LEARNED)
    (got,) = written(model, column(ASKED), "transform")
    tolerance = 1e-7 if "dtype" in options else 1e-15
    np.testing.assert_allclose(got, model.transform(ASKED).toarray(), rtol=1e-14, atol=tolerance)
    assert np.isfinite(got).all()


def test_weights_of_a_matrix_of_counts(written: Written) -> None:
    counts = np.random.default_rng(0).poisson(0.5, (60, 9)).astype(np.float64)
    counts[3] = 0
    model = TfidfTransformer(sublinear_tf=True).fit(counts)
    (got,) = written(model, counts, "transform")
    np.testing.assert_allclose(got, model.transform(counts).toarray(), rtol=1e-14)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ngram_range": (1, 3), "norm": None},
        {"ngram_range": (2, 2), "stop_words": ["the", "cat"], "alternate_sign": False},
        {"binary": True, "norm": "l1", "token_pattern": r"(?u)\b\w+\b"},
        {"lowercase": False, "n_features": 2**12},
    ],
    ids=str,
)
def test_hashed_words_are_where_the_original_puts_them(written: Written, options: Any) -> None:
    model = HashingVectorizer(**{"n_features": 64, **options})
    for rows in (ASKED, ["the cat"], ["É İa ΑΣ"], [""]):
        (got,) = written(model, column(rows), "transform")
        np.testing.assert_allclose(got, model.transform(rows).toarray(), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    "options", [{}, {"analyzer": "char"}, {"strip_accents": "ascii"}, {"token_pattern": r"\S+"}]
)
def test_hashing_that_is_not_written_is_refused(written: Written, options: Any) -> None:
    width = {"n_features": 16} if options else {}
    with pytest.raises(UnsupportedModelError, match="HashingVectorizer: "):
        written(HashingVectorizer(**options, **width), column(["aa"]), "transform")


def test_a_token_that_looks_like_padding_is_a_token(written: Written) -> None:
    model = CountVectorizer(token_pattern=r"\S+", ngram_range=(1, 2)).fit(["a b", "\0p c"])
    rows = ["a \0P b", "\0p c", "a b"]
    (got,) = written(model, column(rows), "transform")
    np.testing.assert_array_equal(got, model.transform(rows).toarray())


def test_every_character_becomes_what_python_makes_of_it(written: Written) -> None:
    rows = [
        f"xa{character}bc"
        for character in every_character()
        if character in folds(True, None).became
    ]
    model = CountVectorizer().fit(rows)
    (got,) = written(model, column(rows[::3]), "transform")
    np.testing.assert_array_equal(got, model.transform(rows[::3]).toarray())


@pytest.mark.parametrize("part", ["tokenizer", "preprocessor", "analyzer"])
@pytest.mark.filterwarnings("ignore:The parameter 'token_pattern' will not be used")
def test_functions_of_the_user_are_refused_by_name(written: Written, part: str) -> None:
    functions: dict[str, Any] = {"tokenizer": str.split, "preprocessor": str, "analyzer": str.split}
    model = CountVectorizer(**{part: functions[part]}).fit(["aa bb"])
    with pytest.raises(UnsupportedModelError, match=f"CountVectorizer: {part} is a function"):
        written(model, column(["aa"]), "transform")


@pytest.mark.parametrize(
    "pattern", [r"\w+|\d", r"(?i)[a-z]+", r"[a-z]+\w", r"\b[\w-]+\b", r"\w{2,3}"]
)
def test_patterns_of_more_than_one_class_are_refused(written: Written, pattern: str) -> None:
    model = CountVectorizer(token_pattern=pattern).fit(["aa bb 1"])
    with pytest.raises(UnsupportedModelError, match="token_pattern"):
        written(model, column(["aa"]), "transform")


_ASK = """
import sys, numpy, onnxruntime
rows = numpy.load(sys.argv[2], allow_pickle=True).reshape(-1, 1)
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
numpy.save(sys.argv[3], session.run(None, {"text": rows})[0])
"""


def test_the_model_needs_no_locale(tmp_path: Path) -> None:
    labels = np.arange(len(LEARNED)) % 2
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(LEARNED, labels)
    graph = Graph(releases.find("25.11").limits)
    table = Table(graph, (graph.input("text", object, 1),))
    answers = registry.write(graph, model, table)
    made = graph.model("m", {"p": registry.tensor(answers, "predict_proba", model)})
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    (tmp_path / "nothing").mkdir()
    np.save(tmp_path / "rows.npy", np.array(ASKED, dtype=object))
    alone = {
        name: value for name, value in os.environ.items() if not name.startswith(("LC", "LANG"))
    }
    alone |= {"LC_ALL": "C", "LOCPATH": str(tmp_path / "nothing")}
    names = [str(tmp_path / name) for name in ("model.onnx", "rows.npy", "answers.npy")]
    subprocess.run([sys.executable, "-X", "utf8=0", "-c", _ASK, *names], env=alone, check=True)
    np.testing.assert_allclose(
        np.load(tmp_path / "answers.npy"), model.predict_proba(ASKED), rtol=1e-12
    )
