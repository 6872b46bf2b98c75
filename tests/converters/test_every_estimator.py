"""Every scikit-learn estimator that answers for new rows is deployed as itself.

The list comes from ``all_estimators``, so that a new release of scikit-learn tests itself.
"""

import warnings
from pathlib import Path

import joblib
import pytest

from benchmarks.models import estimators
from benchmarks.models.case import Sample
from converters import ConversionOptions, convert
from tests.conftest import Serve
from toolkit import repository
from toolkit.artifact import Artifact
from toolkit.deploy import embedded, models
from toolkit.errors import ToolkitError
from toolkit.spec import Road, ServingConfig
from toolkit.verify import verify

# By name, the error each raises. The goal is that it stays empty.
REFUSED: dict[str, str] = {}
SERVED = (
    "CountVectorizer",  # texts in, a sparse matrix out
    "DictVectorizer",  # named values
    "MultiOutputClassifier",  # a list of probabilities
    "OneHotEncoder",  # columns of texts, one of them with missing ones
    "PatchExtractor",  # images, several entries a row
)
ROWS = 6


def first(sample: Sample) -> Sample:
    if isinstance(sample, dict):
        return {name: column[:ROWS] for name, column in sample.items()}
    return sample[:ROWS]


def deployed(name: str, folder: Path) -> Artifact:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of deprecated classes, and of fits cut short.
        model, sample = estimators.fit(name)
    path = folder / "model.joblib"
    joblib.dump(model, path)
    options = ConversionOptions(
        name=name, sample=first(sample), trusted=True, road=Road.PYTHON, generated_rows=0
    )
    return convert(path, options, folder / "work")


@pytest.mark.parametrize("name", sorted(estimators.classes()))
def test_it_takes_the_python_road_with_proof(name: str, tmp_path: Path) -> None:
    if name in REFUSED:
        with pytest.raises(ToolkitError, match=REFUSED[name]):
            deployed(name, tmp_path)
        return
    report = deployed(name, tmp_path).parity
    assert report.rows == ROWS
    assert (report.passed, report.label_mismatches, report.worst_absolute) == (True, 0, 0.0)


def test_what_is_refused_exists() -> None:
    assert set(REFUSED) <= set(estimators.classes())


def test_the_server_answers_as_they_do(tmp_path: Path, serve: Serve) -> None:
    root = tmp_path / "repository"
    for name in SERVED:
        folder = tmp_path / name
        folder.mkdir()
        repository.write(root, deployed(name, folder), ServingConfig())
    server = serve(root)
    entries = models.choose(root, ())
    with embedded.client(server) as client:
        loaded = models.load(client, entries)
    assert {one.name: one.error for one in loaded} == dict.fromkeys(sorted(SERVED))
    for entry in entries:
        replays = verify(entry, (server.http_url, server.grpc_url), rounds=1)
        assert all(replay.passed for replay in replays), (entry.name, replays)
