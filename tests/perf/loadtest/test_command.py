"""``toolkit loadtest`` as a person uses it: workers of its own, files, limits, Ctrl-C."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from perf.loadtest.arrivals import Stage, arrival_times
from tests.perf.loadtest.conftest import Command
from tests.perf.loadtest.server import ANSWER, UNAVAILABLE, Exchange, Server, ok, serving

SHORT = ("--duration", "250ms", "--warmup", "0s")


def test_the_table_shows_what_was_reached(command: Command) -> None:
    with serving(ok) as server:
        ended = command(server.url, "--rate", 200, *SHORT)
    assert ended.code == 0, ended.err
    assert "200.0 requests/s asked" in ended.out
    assert "100 % of 50 succeeded in 0.2 s" in ended.out
    for words in (
        "latency, ms",
        "p99.9",
        "from when due",
        "from when sent",
        "generator late",
        "50 with 200",
    ):
        assert words in ended.out


def test_two_workers_send_the_schedule_of_one_together(command: Command, tmp_path: Path) -> None:
    written, log = tmp_path / "result.json", tmp_path / "result.hlog"
    with serving(ok) as server:
        ended = command(
            server.url, "--rate", 200, "--workers", 2, "--duration", "1.5s", "--warmup", "0s",
            "--data", '{"a": 1}', "--json", written, "--histogram", log,
        )  # fmt: skip
        asked = len(server.requests) - 1
    assert ended.code == 0, ended.err
    result = json.loads(written.read_text(encoding="utf-8"))
    assert asked == result["requests"]["due"] == result["requests"]["succeeded"] == 300
    assert result["statuses"] == {"200": 300}
    assert (result["load"]["method"], result["load"]["workers"]) == ("POST", 2)
    assert sum(row["answered"] for row in result["series"]) == 300
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.hlog", "result.json"]
    whole = HdrHistogram(1, 600_000_000, 3)
    with closing(HistogramLogReader(str(log), whole)) as reader:
        while reader.add_next_interval_histogram(whole) is not None:
            pass
    p99 = result["latency_ms"]["from_schedule"]["p99"]
    assert whole.get_value_at_percentile(99) / 1000 == pytest.approx(p99, rel=0.002)


def test_poisson_arrivals_name_the_seed_that_repeats_them(command: Command) -> None:
    planned = len(list(arrival_times([Stage(0.25, 200.0, 200.0)], seed=7)))
    with serving(ok) as server:
        ended = command(server.url, "--rate", 200, "--arrivals", "poisson", "--seed", 7, *SHORT)
    assert "(poisson, seed 7)" in ended.out
    assert len(server.requests) == planned + 1 != 51


def test_json_on_stdout_stands_alone(command: Command) -> None:
    with serving(ok) as server:
        ended = command(server.url, "--concurrency", 2, "--json", "-", *SHORT)
    result = json.loads(ended.out)
    assert result["load"]["kind"] == "closed loop"
    assert result["asked_per_second"] is None
    assert result["reached_per_second"] > 10


@pytest.mark.parametrize(
    "load_as",
    [
        ("--stage", "0-200:200ms", "--stage", "100:500ms"),
        ("--rate", 200, "--ramp-from", 0, "--ramp-seconds", 0.2, "--duration", "250ms"),
    ],
    ids=["stages", "ramp"],
)
def test_a_rate_that_changes_is_sent(command: Command, load_as: tuple[object, ...]) -> None:
    with serving(ok) as server:
        ended = command(server.url, *load_as, "--warmup", "0s")
    assert ended.code == 0, ended.err
    assert len(server.requests) - 1 == 70


def test_a_broken_limit_is_one_line_and_exit_code_1(command: Command) -> None:
    async def half(exchange: Exchange) -> None:
        await exchange.send(UNAVAILABLE if exchange.number % 2 else ANSWER)

    with serving(half) as server:
        ended = command(
            server.url, "--rate", 200, "--min-success-percent", 99, "--max-p99-ms", 5000, *SHORT
        )
    with serving(ok) as server:
        slow = command(server.url, "--rate", 20, "--max-p99-ms", 0.001, *SHORT)
        fine = command(server.url, "--rate", 20, "--min-success-percent", 100, *SHORT)
    assert (ended.code, slow.code, fine.code) == (1, 1, 0)
    assert "50 % of the requests succeeded, and at least 99 % must" in ended.err
    assert "25 status 503: full" in ended.out
    assert "p99" in slow.err
    assert "0.001 ms at most" in slow.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("http://127.0.0.1:1/", "--rate", 0), "--rate 0 sends nothing"),
        (("http://127.0.0.1:1/", "--rate", "nan"), "sends nothing"),
        (("localhost", "--rate", 1), "is no URL to call"),
        (("http://127.0.0.1:1/",), "say either how fast"),
        (("http://127.0.0.1:1/", "--rate", 1, "--concurrency", 1), "say either how fast"),
        (("http://127.0.0.1:1/", "--rate", 1, "--data", "no.json"), "no.json cannot be read"),
        (("http://127.0.0.1:1/", "--rate", 1, "--duration", "0s"), "sends nothing"),
        (("http://127.0.0.1:1/", "--concurrency", 1, "--duration", "0s"), "--duration 0"),
        (("http://127.0.0.1:1/", "--rate", 1, "--seed", 1), "--arrivals poisson"),
        (("http://127.0.0.1:1/", "--rate", 1, "--ramp-from", 1), "--ramp-seconds"),
        (("http://127.0.0.1:1/", "--stage", "1:1s", "--rate", 1), "leave out --rate"),
        (("http://127.0.0.1:1/", "--concurrency", 1, "--workers", 2), "cannot share"),
        (("http://127.0.0.1:1/", "--rate", 1, "--json", "no/such/folder"), "cannot be written"),
        (("https://127.0.0.1:1/", "--rate", 1, "--cacert", "no.pem"), "--cacert no.pem"),
        (("http://127.0.0.1:1/", "--rate", 1, "--connections-max", 10**8), "open files"),
        (("http://127.0.0.1:1/", "--rate", 1), "nothing answers at 127.0.0.1 port 1"),
        (("http://no.such.host.invalid/", "--rate", 1), "is not known"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_runs(
    command: Command, arguments: tuple[object, ...], says: str
) -> None:
    ended = command(*arguments)
    assert ended.code == 1
    lines = ended.err.splitlines()
    assert lines[0].startswith("error: ")
    assert all(line.startswith("  try: ") for line in lines[1:])
    assert says in ended.err
    assert ended.out == ""


def test_a_first_answer_that_is_not_expected_is_told_and_ends_it(command: Command) -> None:
    async def missing(exchange: Exchange) -> None:
        body = b'{"error": "unknown model"}'
        head = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body)
        await exchange.send(head + body)

    with serving(missing) as server:
        ended = command(server.url, "--rate", 100, *SHORT)
        assert len(server.requests) == 1
        expected = command(server.url, "--rate", 100, "--expect-status", 404, *SHORT)
    assert ended.code == 1
    assert 'with 404 Not Found: {"error": "unknown model"}' in ended.err
    assert expected.code == 0


def test_a_first_answer_that_never_comes_or_is_no_http_is_told(command: Command) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.writer.wait_closed()

    async def other(exchange: Exchange) -> None:
        await exchange.send(b"220 mail.example ready\r\n")
        exchange.writer.close()

    async def nothing(exchange: Exchange) -> None:
        exchange.reset()

    for answer, says in (
        (silent, "did not answer the first request within 0.3 s"),
        (other, "did not answer in HTTP"),
        (nothing, "the connection broke before the answer"),
    ):
        with serving(answer) as server:
            ended = command(server.url, "--rate", 1, "--timeout", "300ms", *SHORT)
        assert ended.code == 1
        assert says in ended.err


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with a certificate for 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


def test_tls_is_spoken_with_a_certificate_that_is_trusted(
    command: Command, certificate: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with serving(ok, context) as server:
        url = server.url.replace("http:", "https:")
        refused = command(url, "--rate", 50, *SHORT)
        trusted = command(url, "--rate", 100, "--cacert", certificate / "cert.pem", *SHORT)
        insecure = command(url, "--rate", 50, "--insecure", *SHORT)
    assert (refused.code, trusted.code, insecure.code) == (1, 0, 0)
    assert "a certificate that is not trusted" in refused.err
    assert "--cacert" in refused.err
    assert "100 % of 25 succeeded" in trusted.out


PROGRAM = """
import sys
from toolkit import cli, screen
from toolkit.loadtest_command import loadtest_command
try:
    loadtest_command().main(sys.argv[1:], standalone_mode=False)
except (Exception, KeyboardInterrupt) as problem:
    sys.exit(screen.failure(problem))
"""


def start(server: Server, *arguments: object) -> "subprocess.Popen[str]":
    """Start the command as a program of its own, in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, server.url, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip


def wait_for(count: int, server: Server) -> None:
    deadline = time.monotonic() + 30
    while len(server.requests) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_ends_it_at_once_and_shows_what_was_measured(tmp_path: Path) -> None:
    async def hangs(exchange: Exchange) -> None:
        if exchange.number % 10 == 0 and exchange.number:
            await exchange.writer.wait_closed()
        await exchange.send(ANSWER)

    written = tmp_path / "result.json"
    with serving(hangs) as server:
        load = ("--rate", 100, "--workers", 2, "--duration", "1h", "--warmup", "0s")
        program = start(server, *load, "--timeout", "1h", "--json", written)
        wait_for(80, server)
        began = time.monotonic()
        os.killpg(program.pid, signal.SIGINT)  # As a terminal does: to everybody.
        out, err = program.communicate(timeout=30)
    assert program.returncode == 130, err
    assert time.monotonic() - began < 10
    assert "interrupted" in out
    assert "Traceback" not in err
    result = json.loads(written.read_text(encoding="utf-8"))
    assert result["interrupted"]
    assert result["requests"]["succeeded"] > 50
    assert result["requests"]["unfinished"] > 0
    assert result["requests"]["failed"] == 0
    assert result["success_percent"] == 100.0


@pytest.mark.parametrize("delay_seconds", [0.0, 0.15])
def test_ctrl_c_while_the_workers_start_ends_it_without_a_trace(delay_seconds: float) -> None:
    with serving(ok) as server:
        program = start(server, "--rate", 10, "--workers", 2, "--duration", "1h")
        wait_for(1, server)
        time.sleep(delay_seconds)
        os.killpg(program.pid, signal.SIGINT)
        _, err = program.communicate(timeout=30)
    assert program.returncode == 130, err
    assert "Traceback" not in err
    assert "error" not in err


def test_a_worker_that_dies_is_told(tmp_path: Path) -> None:
    with serving(ok) as server:
        program = start(server, "--rate", 50, "--duration", "1h", "--warmup", "0s")
        wait_for(10, server)
        import psutil

        (worker,) = (
            child
            for child in psutil.Process(program.pid).children()
            if "spawn_main" in " ".join(child.cmdline())
        )
        worker.kill()
        _, err = program.communicate(timeout=30)
    assert program.returncode == 1
    assert "a worker of the load generator died" in err


def test_a_worker_does_not_outlive_the_command() -> None:
    with serving(ok) as server:
        program = start(server, "--rate", 50, "--duration", "1h", "--warmup", "0s")
        wait_for(10, server)
        program.kill()
        program.communicate(timeout=30)
        deadline = time.monotonic() + 10
        while server.open_connections:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_missing_library_names_the_extra(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perf.loadtest.libraries.find_spec", lambda _name: None)
    ended = command("http://127.0.0.1:1/", "--rate", 1)
    assert ended.code == 1
    assert "pip install 'triton-companion[loadtest]'" in ended.err


def test_the_command_is_made_without_its_libraries() -> None:
    script = (
        "import sys; from toolkit.loadtest_command import loadtest_command; loadtest_command();"
        "print({'hdrh', 'httptools', 'uvloop', 'numpy', 'rich', 'asyncio'} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "set()"


def test_a_port_that_is_refused_is_told_in_words(command: Command) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ended = command(f"http://127.0.0.1:{port}/", "--rate", 10)
    assert ended.code == 1
    assert f"nothing answers at 127.0.0.1 port {port}: Connection refused" in ended.err
