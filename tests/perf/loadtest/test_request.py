from pathlib import Path

import pytest

from perf.loadtest.request import build_requests, parse_url, read_bodies
from toolkit.errors import ConfigError


def test_a_request_is_the_bytes_that_http_asks_for() -> None:
    target = parse_url("http://localhost:8000/v2/models/m/infer?a=b c")
    (request,) = build_requests(target, None, ["X-Key: a: b"], [b'{"inputs": []}'])
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /v2/models/m/infer?a=b%20c HTTP/1.1",
        b"Host: localhost:8000",
        b"X-Key: a: b",
        b"User-Agent: triton-companion-loadtest",
        b"Content-Type: application/json",
        b"Content-Length: 14",
    ]
    assert body == b'{"inputs": []}'


def test_what_the_caller_says_about_a_request_stands() -> None:
    target = parse_url("https://[::1]/")
    headers = ["Host: model.test", "content-type: text/plain"]
    (request,) = build_requests(target, "put", headers, [b"{}"])
    assert request.startswith(b"PUT / HTTP/1.1\r\nHost: model.test\r\ncontent-type: text/plain\r\n")
    assert request.lower().count(b"content-type") == 1


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://a", "a"),
        ("https://a/x", "a"),
        ("https://a:80", "a:80"),
        ("http://[::1]:81", "[::1]:81"),
    ],
)
def test_the_host_line_names_an_unusual_port(url: str, authority: str) -> None:
    assert parse_url(url).authority == authority


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://a/", "http://", "http://a:port/", "http://a:99999/", "http://a:0",
     "http://me:secret@a/", "http://a b/"],
)  # fmt: skip
def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_url(url)
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    "line",
    [
        "no colon",
        ": v",
        "a b: c",
        "A: b\r\nC: d",
        "A: \u2603",
        "Content-Length: 5",
        "Connection: x",
    ],
)
def test_a_bad_header_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="--header"):
        build_requests(parse_url("http://a"), None, [line], [])


def test_a_method_without_an_answer_body_is_refused() -> None:
    with pytest.raises(ConfigError, match="--method HEAD"):
        build_requests(parse_url("http://a"), "HEAD", [], [])


def test_lines_files_and_texts_are_bodies(tmp_path: Path) -> None:
    lines, whole = tmp_path / "rows.jsonl", tmp_path / "tensor.bin"
    lines.write_text('{"a": 1}\n\n{"a": 2}\n', encoding="utf-8")
    whole.write_bytes(b"\0\n\1")
    bodies = read_bodies([str(lines), f"@{whole}", '{"a": 3}'])
    assert bodies == (b'{"a": 1}', b'{"a": 2}', b"\0\n\1", b'{"a": 3}')
    requests = build_requests(parse_url("http://a"), None, [], bodies)
    assert all(b"Content-Type: application/octet-stream" in request for request in requests)


@pytest.mark.parametrize("given", ["missing.json", "{no json", "@missing"])
def test_a_bad_body_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="--data"):
        read_bodies([given])


def test_an_empty_file_of_lines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n \n", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds no line"):
        read_bodies([str(tmp_path / "rows.jsonl")])
