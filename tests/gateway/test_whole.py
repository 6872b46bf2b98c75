"""The gateway as one: what its parts do together."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.gateway.conftest import Opened
from toolkit.client import Client
from toolkit.gateway import keys

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,response_headers_conformance"
)


def test_no_request_breaks_the_gateway_or_what_it_publishes(opened: Opened, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    program = Path(sys.executable).with_name("schemathesis")
    with opened(model_dir=models, max_requests=100_000) as gateway:
        ended = subprocess.run(
            [
                program, "run", str(gateway.base_url.join("/openapi.json")), "--max-examples", "10",
                "--phases", "examples,coverage,fuzzing,stateful", "--no-color", "--seed", "1",
                "--checks", CHECKS,
            ],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def limited(opened: Opened, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Give a client with a key for one model."""
    key, entry = keys.new_key("partner", models=["echo"])
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    file.write_text(json.dumps([entry]))
    with opened(require_api_key=True, api_keys_file=file) as gateway:
        gateway.headers["x-api-key"] = key
        yield gateway


V2 = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}


def test_a_key_for_one_model_asks_that_model_and_no_other(limited: httpx.Client) -> None:
    row = {"features": [1, 2, 3, 4]}
    assert limited.post("/predict/echo", json=row).status_code == 200
    assert limited.post("/predict/people", json=row).status_code == 403
    assert limited.post("/v2/models/echo/infer", json=V2).status_code == 200
    assert limited.post("/v2/models/people/infer", json=V2).status_code == 403
    assert limited.get("/v2/models/people").status_code == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/index"),
        ("GET", "/v2/models/stats"),
        ("POST", "/models/load"),
        ("DELETE", "/models"),
        ("POST", "/config"),
        ("POST", "/restart"),
        ("POST", "/cache/clear"),
        ("POST", "/predict/async"),
        ("GET", "/jobs"),
    ],
)
def test_a_key_for_one_model_neither_governs_nor_sees_the_rest(
    limited: httpx.Client, method: str, path: str
) -> None:
    assert limited.request(method, path, json={}).status_code == 403


def test_our_own_client_speaks_through_the_gateway(gateway: httpx.Client) -> None:
    with Client(str(gateway.base_url)) as client:
        assert client.is_ready()
        assert client.predict("echo", [[1, 2, 3, 4]])["y"].tolist() == [[2, 4, 6, 8]]


def test_a_gateway_that_cannot_start_says_why_in_one_line(
    tmp_path: Path, opened: Opened, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(AssertionError, match="did not start"),
        opened(triton_url="http://127.0.0.1:9", grpc_port=1),
    ):
        pass
    told = capfd.readouterr().err
    assert "the gateway does not start: GATEWAY_GRPC_PORT needs the gRPC port of Triton" in told
    assert "Traceback" not in told
