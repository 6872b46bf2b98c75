"""Any number of rows: in order, nothing lost, little held at a time."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from toolkit.client import AsyncClient, Client, ClientOptions, Prediction
from toolkit.deploy.state import Server
from toolkit.errors import ConfigError, InvalidInputError, RequestError, UnknownModelError

Mode = Literal["threads", "sequential", "async"]
MODES: list[Mode] = ["threads", "sequential", "async"]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    way: Mode = request.param
    return way


@pytest.fixture(scope="module")
def sleepers(server: Server) -> None:
    """Load a model of four instances."""
    with Client(server.http_url, token=server.token) as control:
        control.load("sleepers", timeout=120)


def numbered(count: int) -> np.ndarray[Any, Any]:
    return np.arange(count * 4, dtype=np.float32).reshape(count, 4)


def answered(outcomes: Iterator[Prediction | RequestError]) -> list[Prediction]:
    found = list(outcomes)
    assert all(isinstance(outcome, Prediction) for outcome in found), found
    return [outcome for outcome in found if isinstance(outcome, Prediction)]


def test_each_row_has_its_own_answer_in_order(client: Client, mode: Mode) -> None:
    rows = numbered(43)
    answers = answered(client.predict_many("echo", rows, mode=mode))
    np.testing.assert_array_equal(np.stack([answer["y"] for answer in answers]), 2 * rows)


def test_rows_may_come_from_a_generator(client: Client, mode: Mode) -> None:
    rows = numbered(21)
    answers = answered(client.predict_many("echo", (row.tolist() for row in rows), mode=mode))
    np.testing.assert_array_equal(np.stack([answer["y"] for answer in answers]), 2 * rows)


def test_rows_go_in_batches_that_the_model_takes(client: Client) -> None:
    answers = answered(client.predict_many("echo", numbered(20)))
    assert [int(answer["rows"]) for answer in answers] == [8] * 16 + [4] * 4
    answers = answered(client.predict_many("echo", numbered(6), batch_size=2))
    assert [int(answer["rows"]) for answer in answers] == [2] * 6


def test_a_row_that_does_not_fit_takes_no_other_with_it(client: Client, mode: Mode) -> None:
    rows: list[list[Any]] = numbered(20).tolist()
    rows[5] = [1.0, 2.0, 3.0]
    rows[13] = [1.0, 2.0, 3.0, "four"]
    outcomes = list(client.predict_many("echo", rows, mode=mode))
    wrong = [place for place, out in enumerate(outcomes) if isinstance(out, RequestError)]
    assert wrong == [5, 13]
    assert all(isinstance(outcomes[place], InvalidInputError) for place in wrong)
    for place in {*range(20)} - {5, 13}:
        outcome = outcomes[place]
        assert isinstance(outcome, Prediction)
        assert outcome["y"].tolist() == [2 * value for value in rows[place]]


def test_frames_and_columns_are_cut_by_rows(client: Client) -> None:
    people = {"age": list(range(19)), "city": [f"city {n}" for n in range(19)]}
    for rows in (people, pd.DataFrame(people)):
        answers = answered(client.predict_many("people", rows))
        assert len(answers) == 19
        assert "city 18" in str(answers[18]["line"])


def test_records_are_rows(client: Client) -> None:
    rows = [{"age": n, "city": f"city {n}"} for n in range(9)]
    answers = answered(client.predict_many("people", rows))
    assert "city 8" in str(answers[8]["line"])


def test_a_model_without_a_batch_axis_gets_one_request_a_row(client: Client, mode: Mode) -> None:
    rows = [np.full((n + 1, 2), n, np.float32) for n in range(5)]
    answers = answered(client.predict_many("unbatched", rows, mode=mode))
    assert [answer["total"].tolist() for answer in answers] == [[2 * n] * (n + 1) for n in range(5)]


def test_an_unknown_model_is_told_before_any_row(client: Client, mode: Mode) -> None:
    with pytest.raises(UnknownModelError):
        next(client.predict_many("nobody", numbered(3), mode=mode))


def test_a_million_rows_are_not_held(client: Client) -> None:
    taken = itertools.count()
    rows = ([float(next(taken))] * 4 for _ in range(1_000_000))
    answers = client.predict_many("echo", rows, max_in_flight=2)
    for _ in range(100):
        next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert next(taken) < 200


@pytest.mark.usefixtures("sleepers")
@pytest.mark.parametrize("mode", ["threads", "async"])
def test_waiting_is_that_of_the_slowest_and_not_the_sum(client: Client, mode: Mode) -> None:
    rows = [[1.0]] * 4
    started = time.monotonic()
    answered(client.predict_many("sleepers", rows, mode=mode, batch_size=1, max_in_flight=4))
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("wrong", [{"max_in_flight": 0}, {"batch_size": 0}, {"mode": "fast"}])
def test_a_plan_that_cannot_be_is_refused(client: Client, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        client.predict_many("echo", numbered(2), **wrong)


def test_one_row_has_no_axis_of_rows(client: Client) -> None:
    answer = client.predict_one("echo", [1, 2, 3, 4])
    assert answer["y"].tolist() == [2, 4, 6, 8]
    assert int(answer["rows"]) == 1
    person = client.predict_one("people", {"age": 7, "city": "Ghent"})
    assert "Ghent" in str(person["line"])


def test_the_same_from_asyncio(url: str) -> None:
    rows = numbered(43)

    async def main() -> list[Any]:
        async with AsyncClient(url) as client:
            one = await client.predict_one("echo", rows[0])
            assert one["y"].tolist() == (2 * rows[0]).tolist()
            whole = await client.predict("echo", rows)
            np.testing.assert_array_equal(whole["y"], 2 * rows)
            return [outcome async for outcome in client.predict_many("echo", rows)]

    np.testing.assert_array_equal(np.stack([one["y"] for one in asyncio.run(main())]), 2 * rows)


def test_places_in_flight_are_limited(url: str) -> None:
    options = ClientOptions(max_in_flight=1)

    async def main() -> float:
        async with AsyncClient(url, options=options) as client:
            await client.predict("slow", [[0.0]])
            started = time.monotonic()
            await asyncio.gather(*(client.predict("slow", [[0.1]]) for _ in range(3)))
            return time.monotonic() - started

    assert asyncio.run(main()) >= 0.3
