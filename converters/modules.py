"""A user's own modules: plain ``.py`` files that lie beside the model file."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let modules in ``folder`` be imported meanwhile, as for a script that lies there."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def beside(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """Return the imported modules of ``names`` that are files in ``folder``, by name.

    Those that they use themselves are returned too.
    """
    found: dict[str, Path] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if name in found or name == "__main__" or not isinstance(file, str):
            continue
        path = Path(file).resolve()
        if path.name == f"{name}.py" and path.parent == folder.resolve():
            found[name] = path
            waiting += _used(vars(module).values())
    return dict(sorted(found.items()))


def _used(values: Iterable[object]) -> list[str]:
    """Return the modules among ``values`` and those that the others come from."""
    names = (
        value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        for value in values
    )
    return [name for name in names if isinstance(name, str)]
