"""Run a program to its end, within a bound of time and one of memory, and leave nothing."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import IO

import psutil

_LOOK_SECONDS = 0.05
_WEIGH_SECONDS = 0.2
_FAREWELL_SECONDS = 1.0
_MOST_CHARACTERS = 200_000


class Cause(StrEnum):
    """Why a program was ended from outside."""

    TIME = "time"
    MEMORY = "memory"
    POINTLESS = "pointless"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended: ``code`` is below 0 for a signal, ``stopped`` tells of a bound."""

    code: int
    out: str
    err: str
    seconds: float
    stopped: Cause | None = None


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float,
    memory_bytes: int,
    worth: Callable[[], bool] = lambda: True,
) -> Ended:
    """Run ``command`` for at most ``seconds`` and with at most ``memory_bytes`` resident.

    It is ended too as soon as ``worth``, asked a few times a second, says no. It gets a
    process group of its own, which is ended with it: on a bound, on Ctrl-C and on any other
    exception. Raises ``OSError`` when it cannot be started.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [*_dies_with_us(), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=dict(environment) if environment is not None else None,
        start_new_session=True,
    )
    texts = [_Text(stream) for stream in (process.stdout, process.stderr) if stream]
    stopped = None
    try:
        stopped = _watch(process, began + seconds, memory_bytes, worth)
    finally:
        _end(process)
        for text in texts:
            text.close()
    return Ended(
        code=process.returncode,
        out=texts[0].text,
        err=texts[1].text,
        seconds=time.monotonic() - began,
        stopped=stopped,
    )


def _dies_with_us() -> list[str]:
    """Return a prefix that has the kernel end the program when this one is killed."""
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", "KILL"] if program else []


def _watch(
    process: "subprocess.Popen[str]",
    deadline: float,
    memory_bytes: int,
    worth: Callable[[], bool],
) -> Cause | None:
    weighed = time.monotonic()
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_SECONDS)
            return None
        now = time.monotonic()
        if now >= deadline:
            return Cause.TIME
        # A limit of the address space is no measure: gRPC maps far more than it uses.
        if now - weighed >= _WEIGH_SECONDS:
            weighed = now
            if _resident(process.pid) > memory_bytes:
                return Cause.MEMORY
            if not worth():
                return Cause.POINTLESS


def _resident(pid: int) -> int:
    total = 0
    with suppress(psutil.Error):
        program = psutil.Process(pid)
        for member in (program, *program.children(recursive=True)):
            with suppress(psutil.Error):
                total += member.memory_info().rss
    return total


def _end(process: "subprocess.Popen[str]") -> None:
    """End the group: with a word first, so that requests under way can be finished.

    After connections broke under requests (HTTP, a rate far too high) tritonserver 2.51 was
    once seen to abort.
    """
    if process.poll() is None:
        _signal(process, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_FAREWELL_SECONDS)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: "subprocess.Popen[str]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class _Text:
    """The end of what a stream says, read as it comes so that its writer never waits."""

    def __init__(self, stream: IO[str]) -> None:
        self.text = ""
        self._stream = stream
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(ValueError):
            for line in self._stream:
                self.text = (self.text + line)[-_MOST_CHARACTERS:]

    def close(self) -> None:
        self._reader.join(_FAREWELL_SECONDS)
        if not self._reader.is_alive():  # Else to close would wait for it.
            self._stream.close()
