"""Pipelines on texts."""

from collections.abc import Callable, Iterator
from typing import Any

from sklearn import (
    calibration,
    decomposition,
    ensemble,
    feature_selection,
    linear_model,
    model_selection,
    naive_bayes,
    neighbors,
    pipeline,
    preprocessing,
    svm,
)
from sklearn.feature_extraction import text

from benchmarks.models import data
from benchmarks.models.case import Case, Fitted, own_steps


def cases() -> Iterator[Case]:
    """Yield the cases."""
    for name, make in _CASES.items():
        yield Case("pipelines", f"texts: {name}", _fitting(make))


def _fitting(make: Callable[[], Any]) -> Callable[[], Fitted]:
    def fit() -> Fitted:
        texts, labels = data.texts()
        return make().fit(texts, labels), texts

    return fit


_pipe = pipeline.make_pipeline
_PATTERN = "token_pattern"


def _logistic() -> Any:
    return linear_model.LogisticRegression(max_iter=500)


def _tfidf(model: Any = None, **settings: Any) -> Any:
    return _pipe(text.TfidfVectorizer(**settings), _logistic() if model is None else model)


def _count(model: Any = None, **settings: Any) -> Any:
    return _pipe(
        text.CountVectorizer(**settings), naive_bayes.MultinomialNB() if model is None else model
    )


def _hashing(**settings: Any) -> Any:
    return _pipe(text.HashingVectorizer(n_features=256, **settings), _logistic())


def _union() -> Any:
    words = text.TfidfVectorizer(ngram_range=(1, 2))
    letters = text.TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3), max_features=200)
    return _pipe(pipeline.make_union(words, letters), _logistic())


def _search() -> Any:
    grid = {"tfidfvectorizer__ngram_range": [(1, 1), (1, 2)]}
    return model_selection.GridSearchCV(_tfidf(), grid, cv=3)


_CASES: dict[str, Callable[[], Any]] = {
    "tf-idf, logistic": _tfidf,
    "tf-idf, linear SVC": lambda: _tfidf(svm.LinearSVC()),
    "tf-idf, SGD": lambda: _tfidf(linear_model.SGDClassifier(random_state=0)),
    "tf-idf, complement Bayes": lambda: _tfidf(naive_bayes.ComplementNB()),
    "tf-idf, ridge classifier": lambda: _tfidf(linear_model.RidgeClassifier()),
    "tf-idf, forest": lambda: _tfidf(ensemble.RandomForestClassifier(20, random_state=0)),
    "tf-idf, neighbors": lambda: _tfidf(neighbors.KNeighborsClassifier(metric="cosine")),
    "tf-idf, calibrated": lambda: _tfidf(calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=3)),
    "tf-idf of bigrams": lambda: _tfidf(ngram_range=(1, 2)),
    "tf-idf of trigrams only": lambda: _tfidf(ngram_range=(3, 3)),
    "tf-idf of characters": lambda: _tfidf(analyzer="char", ngram_range=(2, 3)),
    "tf-idf of characters in words": lambda: _tfidf(analyzer="char_wb", ngram_range=(2, 4)),
    "tf-idf without stop words": lambda: _tfidf(stop_words="english"),
    "tf-idf without own stop words": lambda: _tfidf(stop_words=["über", "the", "straße"]),
    "tf-idf without accents": lambda: _tfidf(strip_accents="unicode"),
    "tf-idf in ASCII": lambda: _tfidf(strip_accents="ascii"),
    "tf-idf with case": lambda: _tfidf(lowercase=False),
    "tf-idf sublinear": lambda: _tfidf(sublinear_tf=True, norm="l1"),
    "tf-idf without idf": lambda: _tfidf(use_idf=False, norm=None),
    "tf-idf binary": lambda: _tfidf(binary=True, smooth_idf=False),
    "tf-idf frequent words": lambda: _tfidf(min_df=5, max_df=0.5, max_features=40),
    "tf-idf own pattern": lambda: _tfidf(**{_PATTERN: r"[a-zA-Z]{3,}"}),
    "tf-idf single letters": lambda: _tfidf(**{_PATTERN: r"(?u)\b\w+\b"}),
    "tf-idf own tokenizer": lambda: _tfidf(tokenizer=own_steps().words, **{_PATTERN: None}),
    "tf-idf own words": lambda: _tfidf(vocabulary=["goal", "server", "café", "soup", "über"]),
    "counts, Bayes": _count,
    "counts, logistic": lambda: _count(_logistic()),
    "counts of bigrams": lambda: _count(ngram_range=(2, 2)),
    "counts of characters": lambda: _count(analyzer="char", ngram_range=(1, 2)),
    "counts binary, Bernoulli": lambda: _count(naive_bayes.BernoulliNB(), binary=True),
    "counts then tf-idf": lambda: _pipe(
        text.CountVectorizer(), text.TfidfTransformer(), _logistic()
    ),
    "hashing": _hashing,
    "hashing of bigrams": lambda: _hashing(ngram_range=(1, 2), alternate_sign=False),
    "latent semantics": lambda: _pipe(
        text.TfidfVectorizer(),
        decomposition.TruncatedSVD(10, random_state=0),
        preprocessing.Normalizer(),
        _logistic(),
    ),
    "NMF topics": lambda: _pipe(
        text.TfidfVectorizer(), decomposition.NMF(5, random_state=0), _logistic()
    ),
    "LDA topics": lambda: _pipe(
        text.CountVectorizer(),
        decomposition.LatentDirichletAllocation(5, max_iter=5, random_state=0),
        _logistic(),
    ),
    "best words": lambda: _pipe(
        text.TfidfVectorizer(),
        feature_selection.SelectKBest(feature_selection.chi2, k=30),
        _logistic(),
    ),
    "words and letters": _union,
    "search": _search,
}
