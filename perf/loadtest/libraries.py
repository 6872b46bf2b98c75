"""The libraries of the extra ``loadtest``."""

from importlib.util import find_spec

from toolkit.errors import MissingDependencyError

_LIBRARIES = {"hdrh": "hdrhistogram", "httptools": "httptools", "uvloop": "uvloop"}


def require() -> None:
    """Raise ``MissingDependencyError`` if one of them is not there."""
    missing = [name for module, name in _LIBRARIES.items() if find_spec(module) is None]
    if missing:
        raise MissingDependencyError(
            f"the load generator needs {', '.join(missing)}, which is not installed",
            hint="pip install 'triton-companion[loadtest]'",
        )
