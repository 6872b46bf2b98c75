"""Fetch the embedded Triton from two pinned wheels and unpack what it needs.

``nvidia-pytriton`` carries tritonserver with the Python backend and the local response
cache; ``tritonclient`` of the same release carries perf_analyzer. Their files are used,
not the packages: nothing of them enters the user's environment.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

import platformdirs

from toolkit.errors import RuntimeNotReadyError

TRITON_VERSION = "2.51.0"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel by requirement, file name and SHA-256."""

    requirement: str
    filename: str
    sha256: str


WHEELS = (
    Wheel(
        "nvidia-pytriton==0.7.0",
        "nvidia_pytriton-0.7.0-py3-none-manylinux_2_35_x86_64.whl",
        "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df",
    ),
    Wheel(
        "tritonclient==2.51.0",
        "tritonclient-2.51.0-py3-none-manylinux1_x86_64.whl",
        "c485bb0123bdf310f90bc8b03d3489b28df2ffed55b30c7eee0b795b48113d52",
    ),
)

_SERVER = "pytriton/tritonserver"
_LIBRARIES = "nvidia_pytriton.libs"
_PERF_ANALYZER = "tritonclient-2.51.0.data/data/bin/perf_analyzer"
_DISK_BYTES = 400 * 2**20


@dataclass(frozen=True, slots=True)
class Runtime:
    """An unpacked embedded Triton; ``root`` keeps the layout its libraries expect."""

    root: Path

    @property
    def server(self) -> Path:
        """The tritonserver program."""
        return self.root / _SERVER / "bin/tritonserver"

    @property
    def libraries(self) -> Path:
        """The folder of the shared libraries that came with it."""
        return self.root / _LIBRARIES

    @property
    def caches(self) -> Path:
        """The folder for ``--cache-directory``."""
        return self.root / _SERVER / "caches"

    @property
    def python_backend(self) -> Path:
        """The folder of the Python backend, without a stub."""
        return self.root / _SERVER / "backends/python"

    @property
    def stub(self) -> Path:
        """The Python backend's stub for the running Python version."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return self.root / _SERVER / "python_backend_stubs" / version / "triton_python_backend_stub"

    @property
    def perf_analyzer(self) -> Path:
        """The perf_analyzer program; run it with ``perf_libraries`` on the library path."""
        return self.root / "perf/perf_analyzer"

    @property
    def perf_libraries(self) -> Path:
        """Links with the plain names under which perf_analyzer looks for two libraries."""
        return self.root / "perf/lib"


def home() -> Path:
    """Return the folder the runtime is kept in (below ``XDG_CACHE_HOME``)."""
    return platformdirs.user_cache_path("triton-companion") / "runtime" / TRITON_VERSION


def installed() -> Runtime | None:
    """Return the installed runtime, or None."""
    root = home()
    return Runtime(root) if _is_complete(root) else None


def require() -> Runtime:
    """Return the installed runtime or raise ``RuntimeNotReadyError``."""
    runtime = installed()
    if runtime is None:
        raise RuntimeNotReadyError(
            f"the embedded Triton {TRITON_VERSION} is not installed",
            hint="toolkit runtime install",
        )
    return runtime


def remove() -> bool:
    """Delete the runtime; return whether there was one."""
    root = home()
    there = root.exists()
    try:
        if there:
            shutil.rmtree(root)
    except OSError as error:
        raise RuntimeNotReadyError(f"cannot remove {root}: {error.strerror}") from error
    return there


def install(wheels: Path | None = None) -> Runtime:
    """Fetch, check and unpack the runtime; do nothing when it is there.

    ``wheels`` is a folder that already holds the two wheels, for a machine without a
    package index. Raises ``RuntimeNotReadyError`` with the command that mends it.
    """
    if runtime := installed():
        return runtime
    root = home()
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root.parent).free
        if free < _DISK_BYTES:
            raise RuntimeNotReadyError(
                f"{root.parent} has {free >> 20} MiB free; the runtime needs {_DISK_BYTES >> 20}",
                hint="free some space, or point XDG_CACHE_HOME at a larger disk",
            )
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=".new-") as temporary:
            folder = Path(temporary)
            files = _collect(wheels, folder / "wheels")
            _unpack(files, folder / "root")
            if root.exists():
                shutil.rmtree(root)
            (folder / "root").rename(root)
    except OSError as error:
        raise RuntimeNotReadyError(
            f"cannot install the runtime into {root}: {error.strerror or error}",
            hint="point XDG_CACHE_HOME at a folder you can write to",
        ) from error
    return Runtime(root)


def _is_complete(root: Path) -> bool:
    try:
        manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(manifest == _manifest())


def _manifest() -> Mapping[str, str]:
    return {wheel.filename: wheel.sha256 for wheel in WHEELS}


def _collect(wheels: Path | None, download_to: Path) -> tuple[Path, Path]:
    """Return the two wheel files, checked against their hashes."""
    folder = wheels or download_to
    if wheels is None:
        _download(download_to)
    for wheel in WHEELS:
        path = folder / wheel.filename
        if not path.is_file():
            raise RuntimeNotReadyError(
                f"{folder} does not hold {wheel.filename}",
                hint=f"pip download --no-deps -d {folder} {wheel.requirement}",
            )
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        if digest != wheel.sha256:
            raise RuntimeNotReadyError(
                f"{path} is not the wheel that was pinned (SHA-256 {digest})",
                hint="delete it and fetch it again",
            )
    return folder / WHEELS[0].filename, folder / WHEELS[1].filename


def _download(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(folder)]
    command += [wheel.requirement for wheel in WHEELS]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if "ERROR" in line]
        reason = (lines or result.stderr.splitlines() or ["no reason given"])[-1]
        if "No module named pip" in result.stderr:
            raise RuntimeNotReadyError(
                "this environment has no pip to fetch the runtime with",
                hint=f"{sys.executable} -m ensurepip",
            )
        raise RuntimeNotReadyError(
            f"pip could not fetch the runtime: {reason.removeprefix('ERROR: ')}",
            hint="without a network: toolkit runtime install --from FOLDER_OF_WHEELS",
        )


def _unpack(files: tuple[Path, Path], root: Path) -> None:
    server, client = files
    with zipfile.ZipFile(server) as archive:
        wanted = (f"{_SERVER}/", f"{_LIBRARIES}/", "nvidia_pytriton-0.7.0.dist-info/licenses/")
        archive.extractall(root, [name for name in archive.namelist() if name.startswith(wanted)])
    runtime = Runtime(root)
    runtime.perf_libraries.mkdir(parents=True)
    with zipfile.ZipFile(client) as archive:
        runtime.perf_analyzer.write_bytes(archive.read(_PERF_ANALYZER))
    for plain, pattern in (("libb64.so.0d", "libb64-*"), ("libcudart.so.12", "libcudart-*")):
        hashed = next(runtime.libraries.glob(pattern))
        (runtime.perf_libraries / plain).symlink_to(Path("../..") / _LIBRARIES / hashed.name)
    stubs = (root / _SERVER / "python_backend_stubs").glob("*/triton_python_backend_stub")
    for program in (runtime.server, runtime.perf_analyzer, *stubs):
        program.chmod(0o755)
    (root / "manifest.json").write_text(json.dumps(_manifest(), indent=1), encoding="utf-8")
