"""One line a request, whole, without secrets, and never at the cost of a request."""

import gc
import json
import os
import threading
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import ConfigError
from toolkit.gateway import access_log
from toolkit.gateway.access_log import AccessLog, masked
from toolkit.gateway.exchange import Asked
from toolkit.gateway.keys import Key


def asked(**known: Any) -> Asked:
    known = {"method": "POST", "path": "/predict/forest", "headers": {}} | known
    return Asked(**known)


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / access_log.NAME).read_text().splitlines()]


def whole_lines(folder: Path) -> int:
    return (folder / access_log.NAME).read_text().count("\n")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def test_a_line_tells_who_asked_what_and_how_it_went(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "logs")
    request = asked(
        query=b"a=1",
        client="10.0.0.7",
        request_id="r-1",
        body=b'{"features": [[31337.0]]}',
        began=time.perf_counter() - 0.0123,
        endpoint="predict",
        model="forest",
        version="2",
        key=Key("shop"),
        rows=1,
        headers={b"x-api-key": b"very-secret"},
    )
    log.write(request, 200, 77)
    log.close()

    (line,) = entries(tmp_path / "logs")
    assert line.pop("time").endswith("Z")
    assert 12.3 <= line.pop("milliseconds") < 5000
    assert line == {
        "request_id": "r-1",
        "client": "10.0.0.7",
        "method": "POST",
        "path": "/predict/forest",
        "query": "a=1",
        "model": "forest",
        "version": "2",
        "endpoint": "predict",
        "status": 200,
        "rows": 1,
        "bytes_in": 25,
        "bytes_out": 77,
        "key_id": "shop",
        "error": "",
    }
    text = (tmp_path / "logs" / access_log.NAME).read_text()
    assert "31337" not in text
    assert "very-secret" not in text


def test_the_time_is_the_worlds(tmp_path: Path) -> None:
    log = AccessLog(tmp_path)
    before = time.time()
    log.write(asked(), 200, 0)
    log.close()

    stamp = datetime.fromisoformat(entries(tmp_path)[0]["time"]).timestamp()
    assert before - 0.002 <= stamp <= time.time()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        (b"a=1&b=2", "a=1&b=2"),
        (b"api_key=abc&a=1", "api_key=***&a=1"),
        (b"X-API-Key=abc", "X-API-Key=***"),
        (b"api%5Fkey=abc", "api%5Fkey=***"),
        (b"access_token=a%3Db=c", "access_token=***"),
        (b"%61uth=abc&password=&Secret=1", "%61uth=***&password=***&Secret=***"),
        (b"design=1&flag", "design=1&flag"),
        (b"\xff=1", "ÿ=1"),
    ],
)
def test_secrets_in_a_query_are_masked(query: bytes, told: str) -> None:
    assert masked(query) == told


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("row 3: cannot read 'Ann \\' Smith' as float", "row …: cannot read … as float"),
        ('can\'t read "4111-1111" or -1.5e300 or NaN', "can't read … or … or …"),
        ("it's not 'Ann's house'", "it's not …"),
        (
            "the body is not JSON: unexpected 'Ann" + "x" * 5000,
            "the body is not JSON: unexpected …",
        ),
        ("forest takes 4 features", "forest takes … features"),
    ],
)
def test_the_error_of_a_refused_input_comes_without_its_values(
    tmp_path: Path, error: str, told: str
) -> None:
    log = AccessLog(tmp_path)
    log.write(asked(), 422, 0, error)
    log.close()

    assert entries(tmp_path)[0]["error"] == told


def test_other_errors_are_told_as_they_are(tmp_path: Path) -> None:
    log = AccessLog(tmp_path)
    log.write(asked(), 503, 0, "no connection to 'http://localhost:8000'")
    log.close()

    assert entries(tmp_path)[0]["error"] == "no connection to 'http://localhost:8000'"


def test_a_caller_can_forge_no_line(tmp_path: Path) -> None:
    log = AccessLog(tmp_path)
    log.write(asked(path='/a\n{"status":200}', client="\x1b[31m\udcff", method="\x00"), 404, 0)
    log.write(asked(path="/" + "x" * 100_000), 404, 0)
    log.close()

    first, second = entries(tmp_path)
    assert first["path"] == '/a\n{"status":200}'
    assert first["client"] == "\x1b[31m\udcff"
    assert len(second["path"]) == 512


def test_without_a_folder_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log = AccessLog()
    log.write(asked(request_id="r-1"), 200, 0)
    log.close()

    assert json.loads(capsys.readouterr().err)["request_id"] == "r-1"


def test_lines_are_written_while_it_runs_and_in_order(tmp_path: Path) -> None:
    log = AccessLog(tmp_path)
    log.write(asked(request_id="first"), 200, 0)
    until(lambda: whole_lines(tmp_path) == 1)
    for number in range(1000):
        log.write(asked(request_id=str(number)), 200, 0)
    until(lambda: whole_lines(tmp_path) == 1001)
    log.close()

    assert [line["request_id"] for line in entries(tmp_path)[1:]] == [*map(str, range(1000))]
    assert log.dropped == 0


def test_a_file_that_is_moved_away_is_followed_by_a_new_one(tmp_path: Path) -> None:
    log = AccessLog(tmp_path)
    log.write(asked(request_id="old"), 200, 0)
    until(lambda: whole_lines(tmp_path) == 1)
    (tmp_path / access_log.NAME).rename(tmp_path / "moved")
    log.write(asked(request_id="new"), 200, 0)
    until((tmp_path / access_log.NAME).exists)
    log.reopen()
    log.write(asked(request_id="newer"), 200, 0)
    log.close()

    assert "old" in (tmp_path / "moved").read_text()
    assert [line["request_id"] for line in entries(tmp_path)] == ["new", "newer"]


def test_a_disk_that_does_not_keep_up_costs_lines_and_not_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "MAX_WAITING", 10)
    os.mkfifo(tmp_path / access_log.NAME)  # nobody reads it, until we do
    reader = os.open(tmp_path / access_log.NAME, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(tmp_path)
    until(lambda: _filled(log))
    for _ in range(20):
        log.write(asked(path="/" + "x" * 500), 200, 0)
    assert len(log._waiting) <= 10
    os.set_blocking(reader, True)
    text = b""
    while b"lines_lost" not in text:
        text += os.read(reader, 1 << 16)
    log.close()
    os.close(reader)

    assert log.dropped >= 10


def _filled(log: AccessLog) -> bool:
    """Write until the pipe is full: the writer hangs in its write, and lines wait."""
    log.write(asked(path="/" + "x" * 500), 200, 0)
    return log.dropped > 0


def test_a_full_disk_is_told_once_and_breaks_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.fail("this test needs /dev/full")
    (tmp_path / access_log.NAME).symlink_to("/dev/full")
    log = AccessLog(tmp_path)
    for number in range(3):
        log.write(asked(request_id=str(number)), 200, 0)
        until(partial(_lost, log, number + 1))
    log.close()

    told = capsys.readouterr().err
    assert told.count("are lost: [Errno 28]") == 1


def _lost(log: AccessLog, count: int) -> bool:
    return log.dropped == count


def test_a_folder_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write"):
        AccessLog(tmp_path / "file" / "logs")


def test_the_last_errors_can_be_looked_at(tmp_path: Path) -> None:
    log = AccessLog(tmp_path)
    log.write(asked(request_id="fine"), 200, 0)
    for number in range(150):
        log.write(asked(request_id=str(number)), 503, 0, "Triton is gone")
    log.close()

    assert [entry["request_id"] for entry in log.errors] == [*map(str, range(50, 150))]
    assert log.errors[-1]["error"] == "Triton is gone"


def test_a_body_is_not_held_until_its_line_is_written(tmp_path: Path) -> None:
    log = AccessLog(tmp_path)
    request = asked(body=b"x" * 1000)
    log.write(request, 200, 0)

    assert not gc.get_referents(log._waiting[0]).count(request.body)
    log.close()


def test_two_gateways_may_share_a_file(tmp_path: Path) -> None:
    logs = [AccessLog(tmp_path), AccessLog(tmp_path)]
    for number in range(500):
        logs[number % 2].write(asked(request_id=str(number)), 200, 0)
    for log in logs:
        log.close()

    assert sorted(int(line["request_id"]) for line in entries(tmp_path)) == [*range(500)]
