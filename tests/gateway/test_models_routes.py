"""Models by their names: what is served, predictions at once and joined."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.gateway.conftest import Opened


def ask(gateway: httpx.Client, model: str, features: Any, route: str = "predict") -> httpx.Response:
    return gateway.post(f"/{route}/{model}", json={"features": features})


def twice(rows: list[list[float]]) -> list[list[float]]:
    return [[2 * value for value in row] for row in rows]


@pytest.mark.parametrize("features", [[1.5, 2, 3, 4], [[1.5, 2, 3, 4]], {"x": [[1.5, 2, 3, 4]]}])
@pytest.mark.parametrize("route", ["predict", "predict_batched"])
def test_a_row_is_answered_with_a_list(gateway: httpx.Client, features: Any, route: str) -> None:
    answer = ask(gateway, "echo", features, route)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["model"] == "echo"
    assert answer.json()["predictions"] == [[3.0, 4.0, 6.0, 8.0]]  # it doubles


def test_many_rows_are_answered_in_their_order(gateway: httpx.Client) -> None:
    rows = [[float(row), 0.0, 0.0, 1.0] for row in range(100)]
    assert ask(gateway, "echo", rows).json()["predictions"] == twice(rows)


def test_the_batched_route_takes_one_row_and_names_the_other(gateway: httpx.Client) -> None:
    refused = ask(gateway, "echo", [[1, 2, 3, 4]] * 2, "predict_batched")
    assert refused.status_code == 422
    assert "/predict/echo" in refused.json()["detail"]


def test_text_goes_in_and_out(gateway: httpx.Client) -> None:
    assert ask(gateway, "text", [["grüß"], ["dich"]]).json()["predictions"] == [["grüß"], ["dich"]]


def test_records_go_by_the_names_of_inputs(gateway: httpx.Client) -> None:
    people = [{"age": 30, "city": "Ulm"}, {"city": "Köln", "age": 7}]
    answer = ask(gateway, "people", people)
    assert answer.json()["predictions"] == [["Ulm:30"], ["Köln:7"]]


@pytest.mark.parametrize("route", ["predict", "predict_batched"])
def test_an_unknown_model_is_404(gateway: httpx.Client, route: str) -> None:
    refused = ask(gateway, "nobody", [[1]], route)
    assert refused.status_code == 404
    assert refused.json()["detail"].startswith("Model not found")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b"{}",
        b'{"features": null}',
        b'{"features": [[1, 2], [3]]}',
        b'{"features": [[1, 2, 3, NaN]]}',
        b'{"features": [[1, 2, 3, 1e999]]}',
        b'{"features": [["1", "2", "3", "4"]]}',
        b'{"features": [[]]}',
        b'{"features": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_does_not_fit_is_422_and_says_why(gateway: httpx.Client, body: bytes) -> None:
    refused = gateway.post("/predict/echo", content=body)
    assert refused.status_code == 422, refused.text
    assert refused.json()["detail"]


def test_a_model_that_fails_is_500_and_the_next_one_answers(gateway: httpx.Client) -> None:
    failed = ask(gateway, "raises", [[1.0]])
    assert failed.status_code == 500
    assert failed.json()["detail"]
    assert ask(gateway, "echo", [1, 2, 3, 4]).status_code == 200


def test_a_model_that_takes_too_long_is_504(opened: Opened) -> None:
    with opened(predict_timeout_seconds=0.3) as gateway:
        assert ask(gateway, "slow", [[2.0]]).status_code == 504


def test_the_batched_route_is_limited_in_its_rate(opened: Opened) -> None:
    with opened(max_requests=3, requests_period_seconds=60) as gateway:
        codes = [
            ask(gateway, "echo", [1, 2, 3, 4], "predict_batched").status_code for _ in range(4)
        ]
        assert codes == [200, 200, 200, 429]
        limited = ask(gateway, "echo", [1, 2, 3, 4], "predict_batched")
        assert 1 <= int(limited.headers["retry-after"]) <= 60
        assert ask(gateway, "echo", [1, 2, 3, 4]).status_code == 200


def test_back_pressure_rejects_what_is_too_much(opened: Opened) -> None:
    with opened(max_concurrent_requests=1, back_pressure="reject") as gateway:
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(ask, gateway, "slow", [[0.3]]) for _ in range(8)]
            codes = sorted(one.result().status_code for one in asked)
        assert set(codes) == {200, 503}


def test_concurrent_callers_each_get_their_own_answer(gateway: httpx.Client) -> None:
    def one(number: int) -> bool:
        row = [number + 0.25, 1.0, 2.0, 3.0]
        return bool(ask(gateway, "echo", [row]).json()["predictions"] == twice([row]))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(400)))


def test_what_is_served_is_a_page_for_browsers_and_json_when_asked(gateway: httpx.Client) -> None:
    page = gateway.get("/available_models", headers={"accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "<td>echo</td>" in page.text
    listed = gateway.get("/available_models", headers={"accept": "application/json"}).json()
    echo = next(one for one in listed if one["name"] == "echo")
    assert echo["dtype"] == "FP32"
    assert echo["input_shape"] == [-1, 4]


def test_keys_are_asked_for_when_they_are_required(opened: Opened) -> None:
    with opened(require_api_key=True, api_keys="one,two") as gateway:
        assert ask(gateway, "echo", [1, 2, 3, 4]).json() == {"detail": "Missing API key"}
        wrong = gateway.post("/predict/echo", headers={"x-api-key": "three"}, content=b"{}")
        assert (wrong.status_code, wrong.json()) == (403, {"detail": "Invalid API key"})
        for headers in ({"x-api-key": "two"}, {"authorization": "Bearer one"}):
            asked = gateway.post("/predict/echo", headers=headers, json={"features": [1, 2, 3, 4]})
            assert asked.status_code == 200


def test_every_answer_tells_the_id_of_its_request(gateway: httpx.Client) -> None:
    own = gateway.post("/predict/echo", headers={"x-request-id": "mine-1"}, content=b"{}")
    assert own.headers["x-request-id"] == "mine-1"
    assert len(ask(gateway, "echo", [1, 2, 3, 4]).headers["x-request-id"]) == 32


def test_a_browser_elsewhere_may_ask(gateway: httpx.Client) -> None:
    asked = gateway.post(
        "/predict/echo", headers={"origin": "http://x"}, json={"features": [1, 2, 3, 4]}
    )
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] in {"*", "http://x"}


def test_a_long_answer_is_compressed_for_who_can_read_it(gateway: httpx.Client) -> None:
    rows = [[1.0, 2.0, 3.0, 4.0]] * 200
    answer = gateway.post(
        "/predict/echo", headers={"accept-encoding": "gzip"}, json={"features": rows}
    )
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.json()["predictions"] == twice(rows)


def test_a_body_beyond_the_limit_is_refused(opened: Opened) -> None:
    with opened(max_body_bytes=1000) as gateway:
        assert ask(gateway, "echo", [[1, 2, 3, 4]] * 500).status_code == 413
        assert ask(gateway, "echo", [[1, 2, 3, 4]]).status_code == 200
