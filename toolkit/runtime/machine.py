"""Can the embedded Triton run here? Asked before anything starts."""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolkit.runtime.wheels import Runtime

_GLIBC = (2, 35)
_PYTHONS = ((3, 11), (3, 13))
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the stubs of Triton's Python backend share memory there
_SHM_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps the runtime from working, and the command that mends it."""

    what: str
    mend: str


def check_machine() -> tuple[Problem, ...]:
    """Return what on this machine keeps any embedded Triton from running."""
    found = (_check_platform(), _check_glibc(), _check_python(), _check_shared_memory())
    return tuple(problem for problem in found if problem)


def check_runtime(runtime: Runtime) -> tuple[Problem, ...]:
    """Return what keeps ``runtime`` from starting: shared libraries it cannot find.

    The two programs are really started, with arguments that make them end at once.
    """
    libraries = environment(runtime)
    found = (
        _missing_library([str(runtime.server), "--help"], libraries),
        _missing_library([str(runtime.stub)], libraries),
    )
    return tuple(problem for problem in found if problem)


def environment(runtime: Runtime) -> dict[str, str]:
    """Return the environment for tritonserver.

    The Python stub of 2.51.0 ignores PYTHONPATH; like the interpreter it embeds, it
    finds its environment through the first ``python3`` on PATH, so the folder of the
    running one goes first.
    """
    variables = dict(os.environ)
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables.get('PATH', '')}"
    folders = [str(runtime.libraries)]
    if libpython := _libpython_folder():
        folders.append(str(libpython))
    variables["LD_LIBRARY_PATH"] = os.pathsep.join(folders)
    for name in ("PYTHONHOME", "PYTHONPATH"):
        variables.pop(name, None)
    return variables


def _libpython_folder() -> Path | None:
    """Return the folder of the running Python's own shared library, if it has one."""
    name = f"libpython3.{sys.version_info.minor}.so.1.0"
    folders = (sysconfig.get_config_var("LIBDIR") or "", f"{sys.base_prefix}/lib")
    return next((Path(folder) for folder in folders if (Path(folder) / name).is_file()), None)


def _check_platform() -> Problem | None:
    system, machine = platform.system(), platform.machine()
    if (system, machine) == ("Linux", "x86_64"):
        return None
    return Problem(
        f"the embedded Triton runs on Linux x86_64, and this is {system} {machine}",
        "toolkit deploy --target compose",
    )


def _check_glibc() -> Problem | None:
    name, version = platform.libc_ver()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if name == "glibc" and numbers >= _GLIBC:
        return None
    return Problem(
        f"the embedded Triton needs glibc 2.35 or newer, not {name or 'another libc'} {version}",
        "use Debian 12, Ubuntu 22.04 or newer, or toolkit deploy --target compose",
    )


def _check_python() -> Problem | None:
    if _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        return None
    return Problem(
        f"Python 3.11 to 3.13 is needed, and this is {platform.python_version()}",
        "make a virtual environment with a supported Python",
    )


def _check_shared_memory() -> Problem | None:
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        free = 0
    if free >= _SHM_BYTES:
        return None
    return Problem(
        f"{SHARED_MEMORY} has {free >> 20} MiB free; models in Triton's Python backend need"
        f" {_SHM_BYTES >> 20}",
        "mount -o remount,size=1G /dev/shm    (in Docker: docker run --shm-size=1g)",
    )


def _missing_library(command: list[str], variables: Mapping[str, str]) -> Problem | None:
    try:
        result = subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=30, check=False
        )
    except OSError as error:
        return Problem(
            f"cannot run {command[0]}: {error.strerror}",
            "toolkit runtime remove && toolkit runtime install",
        )
    marker = "error while loading shared libraries: "
    if marker not in result.stderr:
        return None
    library = result.stderr.split(marker, 1)[1].split(":", 1)[0]
    if library.startswith("libpython3"):
        version = f"3.{sys.version_info.minor}"
        return Problem(
            f"this Python was built without its shared library {library}",
            f"apt-get install libpython{version}    (pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared"
            f" pyenv install {version})",
        )
    return Problem(
        f"the shared library {library} is missing",
        f"apt-get install the package that holds {library}  (apt-file search {library})",
    )
