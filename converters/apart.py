"""Run other people's converters in a process of its own, with a limit of time.

They can hang, crash and hold the interpreter; here that costs a rung of the ladder and
nothing else. The process is started once and kept for the next model; it ends with ours.
"""

import atexit
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from converters.interrupts import reraise_interrupt
from converters.options import ConversionOptions
from converters.table import Converted, Entry, Question
from toolkit import errors
from toolkit.errors import ConversionError, ToolkitError, UnsupportedModelError

_CHILD = "import sys; sys.path[:] = {path!r}; from converters.apart import serve; serve({fd})"


@dataclasses.dataclass(frozen=True, slots=True)
class _Task:
    """What crosses over: all but the model, which the other side loads from its file."""

    entry: Entry
    path: Path
    framework: str
    question: dict[str, Any]
    options: ConversionOptions
    workdir: Path


def convert(
    entry: Entry, question: Question, options: ConversionOptions, workdir: Path
) -> Converted:
    """Run the converter of ``entry`` for at most ``options.time_limit`` seconds.

    Raises:
        UnsupportedModelError: it refused the model, took too long, or its process died.
    """
    task = _Task(
        entry,
        question.source.path.resolve(),
        question.source.framework,
        {field: getattr(question, field) for field in ("rows", "answer", "release")},
        dataclasses.replace(options, sample=None),
        workdir.resolve(),
    )
    with _lock:
        return _worker().run(task, options.time_limit)


class _Worker:
    """The other process, and the line to it."""

    def __init__(self) -> None:
        self._line, theirs = Pipe()
        code = _CHILD.format(path=sys.path, fd=theirs.fileno())
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is ours to pass on.
        )
        theirs.close()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def run(self, task: _Task, seconds: float) -> Converted:
        try:
            self._line.send(task)
            if not self._line.poll(seconds):
                self.end()
                msg = f"{task.entry.rung} did not end within {seconds:g} s"
                raise UnsupportedModelError(msg, hint="--time-limit SECONDS gives it more")
            answer = self._line.recv()
        except (EOFError, ConnectionError) as error:
            code = self._process.wait()
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            msg = f"{task.entry.rung} ended its process ({how})"
            raise UnsupportedModelError(msg) from error
        except KeyboardInterrupt:
            self.end()
            raise
        if isinstance(answer, Converted):
            return answer
        name, message, hint = answer
        raise getattr(errors, name, ConversionError)(message, hint=hint)

    def end(self) -> None:
        """End the process, whatever it is doing."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._line.close()


_lock = threading.Lock()
_kept: list[_Worker] = []


def _worker() -> _Worker:
    if not _kept:
        atexit.register(_end_all)
    while _kept:
        if _kept[0].alive:
            return _kept[0]
        _kept.pop()
    _kept.append(_Worker())
    return _kept[0]


def _end_all() -> None:
    for worker in _kept:
        worker.end()


def serve(fd: int) -> None:
    """Convert what comes in until the other side is gone: the main loop of the process."""
    line: Connection[Any, _Task] = Connection(fd)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    while True:
        try:
            task = line.recv()
        except (EOFError, ConnectionError):
            return
        line.send(_answer(task))


def _end_with(parent: int) -> None:
    """End this process, in a conversion too, once the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _answer(task: _Task) -> Converted | tuple[str, str, str | None]:
    from converters import loading
    from converters.extras import needed

    try:
        # Whoever asked has loaded the same file before, by its own leave.
        source = loading.load(task.path, trusted=True, framework=task.framework)
        question = Question(source, **task.question)
        with needed(task.entry.extra):
            return task.entry.load()(question, task.options, task.workdir)
    except ToolkitError as error:
        return type(error).__name__, error.message, error.hint
    except Exception as error:  # noqa: BLE001 - whatever a foreign converter lets through
        reraise_interrupt(error)
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        return "UnsupportedModelError", f"{task.entry.rung} failed: {reason}", None
