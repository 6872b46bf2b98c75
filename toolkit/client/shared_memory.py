"""Tensors in system shared memory: big ones reach a server on this machine without a copy.

POSIX shared memory is used as the kernel offers it, a file in ``/dev/shm`` and ``mmap``.
``multiprocessing.shared_memory`` (and ``tritonclient.utils``, which is built on it) starts
a process that warns of leaks and removes what others still use (until Python 3.13), and
takes no room beforehand: once ``/dev/shm`` is full, a write ends the whole process.
"""

import fcntl
import mmap
import os
import re
import secrets
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from hashlib import sha256
from itertools import chain
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.client.shared_memory_calls import (
    InferShared,
    Place,
    RegisteredMemory,
    RegisterSharedMemory,
    SharedResponse,
    UnregisterSharedMemory,
)
from toolkit.client.tensors import DTYPES, datatype_of, to_binary
from toolkit.errors import ConfigError, InvalidInputError

FOLDER = Path("/dev/shm")  # noqa: S108  where Linux keeps POSIX shared memory
_ALIGNED = 64  # bytes, a cache line
_NOWHERE = "unknown"
_NAME = re.compile(r"triton-client-(?P<home>\w+)-(?P<pid>\d+)-(?P<started>\d+)-\w+")


class Region:
    """Shared memory with the inputs of one request and room for its outputs.

    ``inputs`` maps names to arrays that already have the model's data types and shapes,
    batch axis included; ``outputs`` maps names to shape and data type (``"FP32"`` or
    numpy's). Afterwards ``inputs`` and ``outputs`` are arrays that lie in the region: new
    values may be written to the former between two requests, the latter hold the last
    answer. One request at a time. Arrays stay valid after ``close``.

    The region goes with the object, an exception, or the end of the interpreter. A process
    that is killed leaves it to ``sweep``, which the next user of shared memory calls.

    Raises ``InvalidInputError`` for what cannot lie there and ``ConfigError`` if there is
    no room.
    """

    def __init__(
        self,
        inputs: Mapping[str, ArrayLike],
        outputs: Mapping[str, tuple[tuple[int, ...], Any]],
    ) -> None:
        if not outputs:
            raise InvalidInputError("shared memory needs the outputs that are wanted: outputs={…}")
        arrays = {name: _array(name, value) for name, value in inputs.items()}
        texts = {name: to_binary(array) for name, array in arrays.items() if _is_text(array)}
        self._inputs: dict[str, Place] = {}
        self._outputs: dict[str, Place] = {}
        end = 0
        for name, array in arrays.items():
            size = len(texts[name]) if name in texts else array.nbytes
            self._inputs[name] = place = Place(datatype_of(array), array.shape, end, size)
            end = _after(place)
        for name, (shape, dtype) in outputs.items():
            self._outputs[name] = place = _room(name, shape, dtype, end)
            end = _after(place)
        self.byte_size = max(end, 1)
        self.name, file = _create(self.byte_size)
        self._discard = weakref.finalize(self, _discard, self.name, file, os.getpid())
        self._memory = mmap.mmap(file, self.byte_size)
        for name, text in texts.items():
            self._memory[(start := self._inputs[name].offset) : start + len(text)] = text
        self.inputs: Mapping[str, NDArray[Any]] = MappingProxyType(
            {n: self._view(p) for n, p in self._inputs.items() if n not in texts}
        )
        self.outputs: Mapping[str, NDArray[Any]] = MappingProxyType(
            {n: self._view(p) for n, p in self._outputs.items()}
        )
        for name, view in self.inputs.items():
            view[...] = arrays[name]

    @property
    def key(self) -> str:
        """What POSIX calls it."""
        return f"/{self.name}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the region; its memory is freed when its arrays and the server let go."""
        self._discard()

    def registration(self) -> RegisterSharedMemory:
        """Return the call that makes a server map the region."""
        return RegisterSharedMemory(self.name, self.key, 0, self.byte_size)

    def removal(self) -> UnregisterSharedMemory:
        """Return the call that makes it let go again."""
        return UnregisterSharedMemory(self.name)

    def request(
        self,
        model: str,
        *,
        version: str | None = None,
        request_id: str | None = None,
        priority: int | None = None,
    ) -> InferShared:
        """Return the call that runs ``model`` on the inputs and leaves the outputs here."""
        return InferShared(
            model, self.name, self._inputs, self._outputs, version, request_id, priority
        )

    def read(self, response: SharedResponse) -> Mapping[str, NDArray[Any]]:
        """Return the outputs of an answer, in the shapes it tells, without a copy.

        Raises ``InvalidInputError`` if the room was meant for another data type.
        """
        arrays = {}
        for name, (datatype, shape) in response.outputs.items():
            room = self._outputs[name]
            place = Place(datatype, shape, room.offset, room.byte_size)
            if datatype != room.datatype or _bytes(place) > room.byte_size:
                raise InvalidInputError(
                    f"output {name!r} is {datatype} {list(shape)}, and the shared memory was laid "
                    f"out for {room.datatype} {list(room.shape)}",
                    hint="give shared_memory(outputs=…) the model's data type and shape",
                )
            arrays[name] = self._view(place)
        return arrays

    def _view(self, place: Place) -> NDArray[Any]:
        return np.ndarray(place.shape, DTYPES[place.datatype], self._memory, place.offset)


def stale(registered: Iterable[RegisteredMemory]) -> tuple[UnregisterSharedMemory, ...]:
    """Return the calls that make a server let go of the regions of dead processes.

    Ask it before ``sweep``, which removes what tells that a process elsewhere is dead.
    """
    return tuple(UnregisterSharedMemory(region.name) for region in registered if _dead(region.name))


def sweep() -> tuple[str, ...]:
    """Remove the regions of dead processes from ``/dev/shm``; return their names."""
    removed = []
    for name in sorted(path.name for path in FOLDER.glob("triton-client-*")):
        if _dead(name):
            with suppress(OSError):  # another sweep was faster, or it is another user's
                (FOLDER / name).unlink()
                removed.append(name)
    return tuple(removed)


def _array(name: str, value: ArrayLike) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.kind in "US":
        array = array.astype(object)
    try:
        datatype_of(array)
    except KeyError:
        raise InvalidInputError(
            f"input {name!r} has numpy's data type {array.dtype}, for which Triton has none"
        ) from None
    return array


def _is_text(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "O"


def _room(name: str, shape: Iterable[int], dtype: Any, offset: int) -> Place:
    try:
        datatype = dtype if dtype in DTYPES else datatype_of(np.empty(0, dtype))
    except (KeyError, TypeError) as error:
        raise InvalidInputError(
            f"output {name!r} has no data type that is known: {dtype!r}",
            hint=f"one of {', '.join(known for known in DTYPES if known != 'BYTES')}",
        ) from error
    if datatype == "BYTES":
        raise InvalidInputError(
            f"output {name!r} is text, and how much room it takes is not known beforehand",
            hint="leave it to Client.predict, without shared memory",
        )
    place = Place(datatype, tuple(shape), offset, 0)
    if any(axis < 0 for axis in place.shape):
        raise InvalidInputError(f"output {name!r} has shape {list(shape)}, not all of it known")
    return replace(place, byte_size=_bytes(place))


def _bytes(place: Place) -> int:
    return int(np.prod(place.shape, dtype=np.int64)) * DTYPES[place.datatype].itemsize


def _after(place: Place) -> int:
    return -(-(place.offset + place.byte_size) // _ALIGNED) * _ALIGNED


def _create(byte_size: int) -> tuple[str, int]:
    """Return name and open file of a fresh region; its lock lasts as long as this process."""
    while True:
        pid = os.getpid()
        name = f"triton-client-{_home(pid)}-{pid}-{_status(pid)[1]}-{secrets.token_hex(8)}"
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            file = os.open(FOLDER / name, flags, 0o600)
        except OSError as error:
            raise ConfigError(f"no shared memory can be had: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            # All of it now: a page that cannot be had later kills whoever writes to it.
            os.posix_fallocate(file, 0, byte_size)
        except OSError as error:
            _discard(name, file, pid)
            raise ConfigError(
                f"{FOLDER} has no room for {byte_size:,} bytes: {error.strerror}",
                hint="make it larger: mount -o remount,size=1G /dev/shm, or docker --shm-size=1g",
            ) from error
        if os.fstat(file).st_nlink:
            return name, file
        os.close(file)  # a sweep came between the first two lines


def _discard(name: str, file: int, owner: int) -> None:
    if os.getpid() == owner:  # a forked child only has a copy of the object
        with suppress(OSError):
            (FOLDER / name).unlink()
    os.close(file)


def _dead(name: str) -> bool:
    """Return whether ``name`` is that of a region whose process is certainly gone."""
    owner = _NAME.fullmatch(name)
    if owner is None:
        return False
    if owner["home"] == _home(os.getpid()) != _NOWHERE:
        return _status(int(owner["pid"])) not in {("alive", owner["started"]), ("alive", "")}
    return _unlocked(FOLDER / name)


def _unlocked(path: Path) -> bool:
    """Process numbers of another container mean nothing here, but its locks do."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def _status(pid: int) -> tuple[str, str]:
    """Return whether a process is alive, and when it started (ticks; empty: not to be seen)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "dead", ""
    except PermissionError:  # of another user
        pass
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "alive", ""
    return "dead" if state in "ZX" else "alive", fields[18]


@cache
def _home(_: int) -> str:
    """Return what tells this machine, boot and space of process numbers from others."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    with suppress(OSError):
        said = chain([boot.read_text()], [str(Path("/proc/self/ns/pid").readlink())])
        return sha256("".join(said).encode()).hexdigest()[:12]
    return _NOWHERE
