import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from tests.gateway.engine.asked import write_json
from toolkit.errors import ConfigError
from toolkit.gateway.engine import artifacts
from toolkit.gateway.engine.combined import Ensemble

RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(60, 2))


def _classifiers(labels: tuple[str, ...]) -> list[Any]:
    truths = [np.where(ROWS[:, column] > 0, *labels) for column in (0, 1, 0)]
    return [LogisticRegression().fit(ROWS, truth) for truth in truths]


def test_an_average_of_regressors_is_the_weighted_mean() -> None:
    models = [
        LinearRegression().fit(ROWS, ROWS @ [1, 0]),
        LinearRegression().fit(ROWS, ROWS @ [0, 1]),
    ]
    ensemble = Ensemble(models, [1, 3], "average")
    assert ensemble.predict(ROWS) == pytest.approx(ROWS @ [0.25, 0.75])
    assert (ensemble.n_features_in_, hasattr(ensemble, "predict_proba")) == (2, False)


def test_an_average_of_classifiers_is_that_of_their_probabilities() -> None:
    models = _classifiers(("a", "b"))
    ensemble = pickle.loads(pickle.dumps(Ensemble(models, [1, 1, 2], "average")))
    expected = sum(w * m.predict_proba(ROWS) for w, m in zip((1, 1, 2), models, strict=True)) / 4
    assert ensemble.predict_proba(ROWS) == pytest.approx(expected)
    assert ensemble.predict(ROWS).tolist() == [
        "b" if second > first else "a" for first, second in expected
    ]


def test_a_vote_is_won_by_weight() -> None:
    models = _classifiers(("a", "b"))
    assert Ensemble(models, [1, 1, 1], "vote").predict(ROWS).tolist() == (
        models[0].predict(ROWS).tolist()
    )
    assert Ensemble(models, [1, 3, 1], "vote").predict(ROWS).tolist() == (
        models[1].predict(ROWS).tolist()
    )


@pytest.mark.parametrize(
    ("description", "told"),
    [
        ({"models": []}, "lists its model files"),
        ({"models": [3]}, "not the path of a model file"),
        ({"models": ["../../secret.pkl"]}, "outside the folder of models"),
        ({"models": ["/etc/passwd"]}, "outside the folder of models"),
    ],
)
def test_an_ensemble_is_of_files_in_the_folder_of_models(
    tmp_path: Path, description: dict[str, Any], told: str
) -> None:
    path = write_json(tmp_path / "e.json", description)
    with pytest.raises(ConfigError, match=told):
        artifacts.opened(path, None, tmp_path, tmp_path, trusted=True)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"weights": [1, 2]}, "one weight for each"),
        ({"weights": [-1]}, "weights are numbers from 0 on"),
        ({"weights": [0]}, "not all of them 0"),
        ({"method": "median"}, "unknown method 'median'"),
    ],
)
def test_weights_and_method_are_looked_at(tmp_path: Path, part: dict[str, Any], told: str) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(LinearRegression().fit(ROWS, ROWS[:, 0])))
    path = write_json(tmp_path / "e.json", {"models": [{"path": "m.pkl"}], **part})
    with pytest.raises(ConfigError, match=told):
        artifacts.opened(path, "ensemble", tmp_path, tmp_path, trusted=True)
