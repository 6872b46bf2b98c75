"""What is written about calls: once, whole, to the right file, and never at a call's cost."""

import json
import logging
import subprocess
import sys
import threading
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.client import Client
from toolkit.client.logs import _FILES, RequestLogs
from toolkit.client.records import RequestRecord
from toolkit.errors import (
    ConfigError,
    DeadlineExceededError,
    InvalidInputError,
    RequestError,
    UnknownModelError,
)

SUCCESS = RequestRecord(
    request_id="a-1",
    operation="infer",
    protocol="http",
    url="http://localhost:8000",
    attempts=2,
    duration=0.0123456,
    outcome="ok",
    model="echo",
    version="3",
    rows=1,
    inputs={"x": np.array([[1, 2]], np.float32)},
    outputs={"y": np.array([["ja"]], object)},
    queue_seconds=0.001,
)


def failed(error: RequestError, **changes: Any) -> RequestRecord:
    return replace(SUCCESS, outcome=error.kind, error=error, outputs=None, **changes)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=refuse) for line in file.read_text().splitlines()]


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def written(folder: Path, **tensors: Any) -> dict[str, Any]:
    RequestLogs(folder)(replace(SUCCESS, inputs=tensors))
    return dict(lines(folder / "access.log")[-1]["inputs"])


def test_a_success_is_told_in_the_access_log_alone(tmp_path: Path) -> None:
    RequestLogs(tmp_path / "logs")(SUCCESS)

    (line,) = lines(tmp_path / "logs/access.log")
    time = line.pop("time")
    assert time.endswith("Z")
    assert len(time) == len("2026-01-01T00:00:00.000Z")
    assert line == {
        "level": "INFO",
        "request_id": "a-1",
        "operation": "infer",
        "model": "echo",
        "version": "3",
        "protocol": "http",
        "url": "http://localhost:8000",
        "attempts": 2,
        "duration_ms": 12.346,
        "queue_ms": 1.0,
        "compute_ms": None,
        "rows": 1,
        "outcome": "ok",
        "error": None,
        "inputs": {"x": {"dtype": "FP32", "shape": [1, 2], "values": [[1.0, 2.0]]}},
        "outputs": {"y": {"dtype": "BYTES", "shape": [1, 1], "values": [["ja"]]}},
    }
    assert (tmp_path / "logs/error.log").read_text() == ""


def test_a_failure_is_told_in_the_error_log_alone(tmp_path: Path) -> None:
    RequestLogs(tmp_path)(failed(DeadlineExceededError("no answer", hint="wait", status=504)))

    (line,) = lines(tmp_path / "error.log")
    assert line["level"] == "ERROR"
    assert line["outcome"] == "TIMEOUT"
    assert line["inputs"]["x"]["values"] == [[1.0, 2.0]]
    assert line["error"] == {
        "kind": "TIMEOUT",
        "class": "DeadlineExceededError",
        "message": "no answer",
        "hint": "wait",
        "status": 504,
    }
    assert (tmp_path / "access.log").read_text() == ""


@pytest.mark.parametrize("scheme", ["http", "grpc"], indirect=True)
def test_a_client_that_is_given_them_writes_input_result_and_error(
    url: str, tmp_path: Path
) -> None:
    with Client(url, hooks=[RequestLogs(tmp_path)]) as client:
        prediction = client.predict("echo", [[1, 2, 3, 4]])
        with pytest.raises(UnknownModelError) as error:
            client.predict("nobody", [[1]])

    told = {line["operation"]: line for line in lines(tmp_path / "access.log")}["infer"]
    assert told["request_id"] == prediction.request_id
    assert told["url"] == url
    assert told["inputs"]["x"]["values"] == [[1.0, 2.0, 3.0, 4.0]]
    assert told["outputs"]["y"]["values"] == [[2.0, 4.0, 6.0, 8.0]]
    (told,) = lines(tmp_path / "error.log")
    assert told["model"] == "nobody"
    assert told["error"]["message"] == error.value.message


def test_constructing_them_again_and_from_many_threads_doubles_no_line(tmp_path: Path) -> None:
    hooks: list[RequestLogs] = []
    threads = [
        threading.Thread(target=lambda: hooks.append(RequestLogs(tmp_path / ".." / tmp_path.name)))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for number, hook in enumerate(hooks):
        hook(replace(SUCCESS, request_id=str(number)))

    assert [line["request_id"] for line in lines(tmp_path / "access.log")] == [
        str(number) for number in range(16)
    ]
    assert all(hook == hooks[0] for hook in hooks)
    assert RequestLogs(tmp_path, redact=True) != RequestLogs(tmp_path)


def test_a_handler_that_a_program_adds_gets_the_lines_and_the_root_logger_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    hook = RequestLogs(tmp_path)
    logging.getLogger(f"toolkit.client.logs:{tmp_path / 'access.log'}").addHandler(Listener())
    with caplog.at_level(logging.DEBUG):
        hook(SUCCESS)

    assert heard == (tmp_path / "access.log").read_text().splitlines()
    assert not caplog.records


def test_a_full_file_is_moved_and_only_so_many_are_kept(tmp_path: Path) -> None:
    hook = RequestLogs(tmp_path, max_bytes=2000, backups=2)
    for number in range(40):
        hook(replace(SUCCESS, request_id=str(number)))

    files = [tmp_path / name for name in ("access.log.2", "access.log.1", "access.log")]
    told = [line["request_id"] for file in files for line in lines(file)]
    assert told == [str(number) for number in range(40)][-len(told) :]
    assert all(file.stat().st_size <= 2000 for file in files)
    assert sorted(tmp_path.glob("access*")) == sorted(files)


WRITER = """
import os, sys
sys.path.insert(0, {here!r})
from test_logs import RequestLogs, SUCCESS, replace
import numpy as np
hook = RequestLogs({folder!r}, max_bytes=200_000, backups=50)
children = [os.fork()]
me = os.getpid()
texts = np.array(["x" * 60] * 10)
for number in range(150):
    hook(replace(SUCCESS, request_id=f"{{me}}-{{number}}", inputs={{"t": texts, "u": texts}}))
if children[0]:
    os.waitpid(children[0], 0)
os._exit(0)
"""


def test_processes_and_their_forks_share_a_folder_and_lose_nothing(tmp_path: Path) -> None:
    script = WRITER.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    writers = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]

    files = list(tmp_path.glob("access.log*"))
    told = [line["request_id"] for file in files for line in lines(file)]
    assert len(told) == len(set(told)) == 6 * 150
    # How far files go beyond their bound is up to how long the one that moves them is held up.
    assert len(files) > 1


def test_a_file_that_another_process_has_just_moved_is_not_moved_again(tmp_path: Path) -> None:
    RequestLogs(tmp_path)(SUCCESS)
    (tmp_path / "access.log").replace(tmp_path / "access.log.1")
    (tmp_path / "access.log").touch()
    _FILES[tmp_path / "access.log"]._move()

    assert not (tmp_path / "access.log.2").exists()


def test_a_line_is_kept_when_another_process_moves_the_full_file_at_that_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "access.log"
    hook = RequestLogs(tmp_path, max_bytes=1)
    hook(SUCCESS)
    handler = _FILES[path]
    follow = handler._follow

    def moved_right_after() -> int:
        size = follow()
        monkeypatch.undo()
        path.replace(tmp_path / "access.log.1")
        return size

    monkeypatch.setattr(handler, "_follow", moved_right_after)
    hook(SUCCESS)

    assert len(lines(path)) == len(lines(tmp_path / "access.log.1")) == 1


def test_large_tensors_are_told_by_their_extent(tmp_path: Path) -> None:
    assert written(
        tmp_path,
        numbers=np.arange(784, dtype=np.float32),
        gaps=np.array([np.nan] + [1.0] * 20),
        flags=np.array([True] * 20),
        words=np.array(["a" * size for size in range(1, 30)], object),
        huge=np.zeros((2048, 1024), np.int8),
    ) == {
        "numbers": {"dtype": "FP32", "shape": [784], "min": 0.0, "max": 783.0},
        "gaps": {"dtype": "FP64", "shape": [21], "min": "NaN", "max": "NaN"},
        "flags": {"dtype": "BOOL", "shape": [20], "min": True, "max": True},
        "words": {"dtype": "BYTES", "shape": [29], "lengths": [1, 29]},
        "huge": {"dtype": "INT8", "shape": [2048, 1024]},
    }


def test_long_texts_are_cut_and_binary_ones_told_by_their_digest(tmp_path: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(1000)
    told = written(tmp_path, t=np.array(["é" * 100, png, b"\xff\x00"], object))

    assert told["t"]["values"] == [
        "é" * 64 + "… (100 characters)",
        {"bytes": 1008, "type": "image/png", "sha256": sha256(png).hexdigest()[:12]},
        {"bytes": 2, "type": "binary", "sha256": sha256(b"\xff\x00").hexdigest()[:12]},
    ]


def test_numbers_that_json_lacks_and_half_characters_stay_valid(tmp_path: Path) -> None:
    told = written(
        tmp_path, x=np.array([[np.nan, np.inf], [-np.inf, 0.5]]), t=np.array(["\ud800"], object)
    )

    assert told["x"]["values"] == [["NaN", "Infinity"], ["-Infinity", 0.5]]
    assert told["t"]["values"] == ["\ud800"]


def test_what_is_no_array_is_told_by_its_type(tmp_path: Path) -> None:
    assert written(tmp_path, x=[[1], [2, 3]], n=7) == {
        "x": {"type": "list", "shape": [2]},
        "n": {"type": "int", "shape": None},
    }


@pytest.mark.parametrize("redact", [True, "x", ["x", "y"]])
def test_redacted_values_are_nowhere(tmp_path: Path, redact: bool | str | list[str]) -> None:
    secret = {"x": np.array([[123456789]], np.int64)}
    hook = RequestLogs(tmp_path, redact=redact)
    hook(replace(SUCCESS, inputs=secret))
    hook(failed(InvalidInputError("123456789 is no age", hint="123456789?"), inputs=secret))

    told = (tmp_path / "access.log").read_text() + (tmp_path / "error.log").read_text()
    assert "123456789" not in told
    assert '"x":{"dtype":"INT64","shape":[1,1]}' in told
    assert ("ja" in told) == (redact == "x")


def test_redacting_keeps_messages_that_cannot_quote_a_value(tmp_path: Path) -> None:
    RequestLogs(tmp_path, redact=True)(failed(DeadlineExceededError("no answer within 2 s")))

    assert lines(tmp_path / "error.log")[0]["error"]["message"] == "no answer within 2 s"


def test_a_full_disk_is_told_once_and_breaks_no_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "access.log").symlink_to("/dev/full")
    hook = RequestLogs(tmp_path)
    for _ in range(3):
        hook(SUCCESS)

    assert capsys.readouterr().err.count("are lost: No space left on device") == 1


TORN = """
import resource, sys
sys.path.insert(0, {here!r})
from test_logs import RequestLogs, SUCCESS
hook = RequestLogs({folder!r})
hook(SUCCESS)
resource.setrlimit(resource.RLIMIT_FSIZE, (600, -1))
hook(SUCCESS)
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
hook(SUCCESS)
"""


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    script = TORN.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)

    first, cut, last = (tmp_path / "access.log").read_text().splitlines()
    assert json.loads(first)["model"] == json.loads(last)["model"] == "echo"
    assert len(first) + len(cut) == 599


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"cannot write .*: Not a directory"):
        RequestLogs(tmp_path / "file" / "logs")


def test_a_file_that_was_removed_comes_back(tmp_path: Path) -> None:
    hook = RequestLogs(tmp_path)
    hook(SUCCESS)
    (tmp_path / "access.log").unlink()
    hook(SUCCESS)

    assert len(lines(tmp_path / "access.log")) == 1


def test_the_terminal_shows_one_readable_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for hook in (RequestLogs(tmp_path, stream=True), RequestLogs(tmp_path, stream=True)):
        hook(SUCCESS)
    hook(failed(InvalidInputError("bad\x1b[2J\nthing", hint="mend it")))

    first, second, third = capsys.readouterr().err.splitlines()
    told = (
        "INFO  infer echo version 3 at http://localhost:8000, 12.3 ms, 2 attempts"
        ' | x=[[1.0,2.0]] → y=[["ja"]] | id a-1'
    )
    assert first.endswith(told)
    assert second.endswith(told)
    assert third.endswith(
        "ERROR infer echo version 3, 12.3 ms, 2 attempts | REQUEST InvalidInputError: "
        "bad\\x1b[2J\\x0athing | try: mend it | x=[[1.0,2.0]] | id a-1"
    )


def test_without_stream_the_terminal_stays_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RequestLogs(tmp_path)(SUCCESS)

    assert capsys.readouterr() == ("", "")
