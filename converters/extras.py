"""Name the pip extra of a library that is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from toolkit.errors import MissingDependencyError

_EXTRA_OF = {
    "joblib": "sklearn",
    "sklearn": "sklearn",
    "skl2onnx": "sklearn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "torch": "torch",
    "onnxscript": "torch",
    "treelite": "fil",
}


@contextmanager
def needed(extra: str) -> Iterator[None]:
    """Turn a missing library into ``MissingDependencyError`` that names ``extra``.

    Only the libraries that an extra installs: any other missing module is a fault of the
    model file or of ours, and stays what it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library != "onnxmltools" and library not in _EXTRA_OF:
            raise
        msg = f"{library} is not installed"
        wanted = _EXTRA_OF.get(library, extra)
        raise MissingDependencyError(
            msg, hint=f"pip install 'triton-companion[{wanted}]'"
        ) from error
