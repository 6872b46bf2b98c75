"""Data to fit the set on: about 400 rows each, the same every time."""

from typing import Any

import numpy as np

from benchmarks.models.case import Array, objects

ROWS = 400
WIDTH = 8


def numbers(classes: int = 3, seed: int = 0) -> tuple[Array, Array]:
    """Return a matrix of floats and int labels."""
    from sklearn.datasets import make_classification

    x, y = make_classification(
        ROWS,
        WIDTH,
        n_informative=6,
        n_redundant=0,
        n_classes=classes,
        flip_y=0.1,
        random_state=seed,
    )
    return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.int64)


def values(outputs: int = 1, seed: int = 0) -> tuple[Array, Array]:
    """Return a matrix of floats and real targets, one column or ``outputs`` columns."""
    x, _ = numbers(seed=seed)
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(WIDTH, outputs)) * 3
    y = x @ weights + np.sin(x[:, :1]) * 5 + rng.normal(size=(ROWS, outputs))
    return x, y if outputs > 1 else y[:, 0]


def positive_values() -> tuple[Array, Array]:
    """Return a matrix of floats and targets above zero."""
    x, y = values()
    return x, np.exp(y / np.std(y))


def many_labels() -> tuple[Array, Array]:
    """Return a matrix and three yes-or-no labels a row."""
    x, y = values(3)
    return x, (y > 0).astype(np.int64)


def many_classes() -> tuple[Array, Array]:
    """Return a matrix and two labels a row, of three classes each."""
    x, y = values(2)
    return x, np.digitize(y, [-3.0, 3.0]).astype(np.int64)


def positive(classes: int = 3) -> tuple[Array, Array]:
    """Return a matrix of floats above zero and labels."""
    x, y = numbers(classes)
    return np.abs(x), y


def unit(classes: int = 3) -> tuple[Array, Array]:
    """Return a matrix of floats from zero to one and labels."""
    x, y = numbers(classes)
    return (x - x.min(axis=0)) / (x.max(axis=0) - x.min(axis=0)), y


def counts(classes: int = 3) -> tuple[Array, Array]:
    """Return a matrix of whole numbers from zero and labels."""
    x, y = positive(classes)
    return np.floor(np.minimum(x * 2, 9)), y


def missing(classes: int = 3) -> tuple[Array, Array]:
    """Return a matrix with a tenth of its cells missing and labels."""
    x, y = numbers(classes)
    x[np.random.default_rng(1).random(x.shape) < 0.1] = np.nan
    return x, y


def coded(classes: int = 3) -> tuple[Array, Array]:
    """Return a matrix whose columns 0 and 1 hold category codes (12 and 5) and labels."""
    x, _ = numbers()
    rng = np.random.default_rng(2)
    x[:, 0] = rng.integers(0, 12, ROWS)
    x[:, 1] = rng.integers(0, 5, ROWS)
    score = np.isin(x[:, 0], [1, 4, 7, 10]) * 2.0 + (x[:, 1] == 3) + x[:, 2]
    edges = np.quantile(score, np.arange(1, classes) / classes)
    return x, np.digitize(score, edges).astype(np.int64)


_CITIES = ("Berlin", "Paris", "Zürich", "São Paulo", "Łódź", "New York", "Oslo", "Bern")
_CONTRACTS = ("monthly", "yearly", "two years")
_GRADES = ("low", "middle", "high")


def people(*, gaps: bool = True) -> dict[str, Array]:
    """Return columns: floats (with gaps), whole numbers and texts."""
    rng = np.random.default_rng(3)
    shares = np.array([30, 20, 14, 12, 10, 8, 4, 2]) / 100
    age = np.round(rng.normal(45, 15, ROWS), 1)
    income = np.round(rng.lognormal(8, 1, ROWS), 2)
    if gaps:
        age[rng.random(ROWS) < 0.1] = np.nan
        income[rng.random(ROWS) < 0.1] = np.nan
    return {
        "age": age,
        "income": income,
        "children": rng.integers(0, 5, ROWS),
        "city": objects(rng.choice(_CITIES, ROWS, p=shares).tolist()),
        "contract": objects(rng.choice(_CONTRACTS, ROWS).tolist()),
        "grade": objects(rng.choice(_GRADES, ROWS).tolist()),
    }


def frame(columns: dict[str, Array]) -> Any:
    """Return columns as a data frame."""
    import pandas as pd

    return pd.DataFrame(columns)


def people_score(columns: dict[str, Array]) -> Array:
    """Return a real target that depends on numbers and texts."""
    rng = np.random.default_rng(4)
    city = np.isin(columns["city"], ["Zürich", "Oslo", "New York"]) * 2.0
    contract = (columns["contract"] == "monthly") * 1.5
    age = np.nan_to_num(columns["age"], nan=40.0) / 20
    wealth = np.log1p(np.nan_to_num(columns["income"], nan=1000.0)) / 2
    score: Array = city + contract - age + wealth + rng.normal(size=ROWS)
    return score


def people_labels(columns: dict[str, Array], classes: int = 2) -> Array:
    """Return labels as texts."""
    score = people_score(columns)
    names = np.array(["leaves", "stays", "upgrades"][:classes])
    edges = np.quantile(score, np.arange(1, classes) / classes)
    return objects(names[np.digitize(score, edges)].tolist())


_TOPICS = (
    ("goal", "match", "team", "coach", "Über-Tor", "stadium", "season", "Fußball", "winner"),
    ("server", "kernel", "cloud", "byte", "naïve", "cache", "e-mail", "compiler", "GPU42"),
    ("soup", "café", "crème brûlée", "oven", "jalapeño", "bread", "Æbleskiver", "dinner"),
)
_FILLERS = ("the", "a", "is", "very", "and", "of", "it's", "not", "we", "Straße", "2026", "in")


def texts(classes: int = 3) -> tuple[Array, Array]:
    """Return texts, some of them not ASCII, and labels as texts."""
    rng = np.random.default_rng(5)
    topics = rng.integers(0, classes, ROWS)
    written = []
    for topic in topics:
        own = rng.choice(_TOPICS[topic], rng.integers(2, 7)).tolist()
        other = rng.choice(_TOPICS[rng.integers(0, classes)], rng.integers(0, 3)).tolist()
        words = own + other + rng.choice(_FILLERS, rng.integers(1, 6)).tolist()
        rng.shuffle(words)
        separator = str(rng.choice([" ", ", ", "  ", " - "]))
        line = separator.join(words)
        written.append(line.upper() if rng.random() < 0.1 else line)
    names = np.array(["sport", "computing", "food"])
    return objects(written), objects(names[topics].tolist())
