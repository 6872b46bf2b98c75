"""The whole way at once, on real models: what ``toolkit demo`` and ``make demo`` run."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters import ConversionOptions, convert
from perf.throughput import calls_per_second
from toolkit import options, repository, screen
from toolkit.artifact import Artifact
from toolkit.client import Client
from toolkit.deploy import embedded
from toolkit.errors import MissingDependencyError, VerificationError
from toolkit.runtime import install
from toolkit.verify import Replay, verify

_SECONDS = 0.7
_CALLERS = 16


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted model and rows it was not fitted on, float64, (rows, features)."""

    name: str
    model: Any
    rows: NDArray[np.float64]


def run(repository_path: Path) -> None:
    """Train, convert, prove, write, deploy, ask, measure, and print the table.

    The server is left running. Raises ``VerificationError`` when a served answer is not
    the offline one.
    """
    screen.note("installing the embedded Triton (once)")
    install()
    artifacts = {}
    trained = []
    with tempfile.TemporaryDirectory() as folder:
        for one in _train():
            trained.append(one)
            screen.note(f"converting and proving {one.name}")
            artifacts[one.name] = _convert(one, Path(folder) / one.name, repository_path)
    screen.note("starting Triton, loading the models")
    chosen = tuple(repository.find(repository_path, one.name) for one in trained)
    server, results = embedded.deploy(repository_path, chosen, embedded.ServerOptions())
    for result in results:
        if result.error:
            raise result.error
    rows = screen.table(
        "model", "framework", "road", "rows compared", "worst difference", "label mismatches",
        "native rows/s", "served rows/s",
    )  # fmt: skip
    for one, entry in zip(trained, chosen, strict=True):
        screen.note(f"asking {one.name} over HTTP and gRPC")
        replays = verify(entry, (server.http_url, server.grpc_url), rounds=1)
        _require_all(one.name, replays)
        rows.add_row(*_row(one, artifacts[one.name], server.grpc_url))
    screen.show(rows)
    _say_next(trained[-1])


def _train() -> Iterator[Trained]:
    try:
        import lightgbm
        import xgboost
        from sklearn import datasets
        from sklearn.ensemble import GradientBoostingClassifier, RandomForestRegressor
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import train_test_split
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer, StandardScaler
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"the demo needs {error.name}",
            hint="pip install 'triton-companion[sklearn,xgboost,lightgbm]'",
        ) from error
    cancer, digits = datasets.load_breast_cancer, datasets.load_digits
    diabetes, wine = datasets.load_diabetes, datasets.load_wine
    models: tuple[tuple[str, Callable[..., Any], Any], ...] = (
        ("cancer-pipeline", cancer, make_pipeline(StandardScaler(), LogisticRegression())),
        ("diabetes-forest", diabetes, RandomForestRegressor(100, random_state=0, n_jobs=1)),
        ("digits-xgboost", digits, xgboost.XGBClassifier(n_estimators=100, n_jobs=1)),
        ("cancer-lightgbm", cancer, lightgbm.LGBMClassifier(n_jobs=1, verbosity=-1)),
        (
            "wine-asinh",
            wine,
            make_pipeline(
                FunctionTransformer(np.arcsinh), GradientBoostingClassifier(random_state=0)
            ),
        ),
    )
    for name, load, model in models:
        x, y = load(return_X_y=True)
        x_train, x_test, y_train, _ = train_test_split(x, y, random_state=0)
        model.fit(x_train, y_train)
        yield Trained(name, model, x_test)


def _convert(one: Trained, folder: Path, repository_path: Path) -> Artifact:
    import joblib

    folder.mkdir()
    path = folder / f"{one.name}.joblib"
    joblib.dump(one.model, path)
    wanted = ConversionOptions(name=one.name, sample=one.rows, trusted=True)
    artifact = convert(path, wanted, folder)
    repository.write(repository_path, artifact, options.serving_config({}, artifact))
    return artifact


def _require_all(name: str, replays: tuple[Replay, ...]) -> None:
    for replay in replays:
        if not replay.passed:
            raise VerificationError(
                f"{name}, {replay.wire}, {replay.way}: {replay.first}",
                hint=f"toolkit verify {name}",
            )


def _row(one: Trained, artifact: Artifact, url: str) -> tuple[str, ...]:
    def native(number: int) -> object:
        row = one.rows[number % len(one.rows)][None]
        predict = getattr(one.model, "predict_proba", one.model.predict)
        return predict(row)

    with Client(url) as client:

        def served(number: int) -> object:
            return client.predict(one.name, one.rows[number % len(one.rows)][None])

        report = artifact.parity
        return (
            one.name,
            artifact.framework,
            str(artifact.road),
            f"{report.rows:,}",
            f"{report.worst_absolute:.2g}",
            str(report.label_mismatches),
            f"{calls_per_second(native, seconds=_SECONDS):,.0f}",
            f"{calls_per_second(served, callers=_CALLERS, seconds=_SECONDS):,.0f}",
        )


def _say_next(one: Trained) -> None:
    program = Path(sys.argv[0]).absolute()
    toolkit = (
        str(program.relative_to(Path.cwd())) if program.is_relative_to(Path.cwd()) else "toolkit"
    )
    row = ", ".join(f"{value:g}" for value in one.rows[0])
    screen.note(
        f"rows/s: one row a call; native in a loop, served to {_CALLERS} callers over gRPC.\n"
        "The server goes on running. Next:\n"
        f"  {toolkit} status\n"
        f"  {toolkit} predict {one.name} --input '[[{row}]]'\n"
        f"  {toolkit} stop"
    )
