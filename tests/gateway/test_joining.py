"""Concurrent requests are joined into one call, and none of them notices."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from toolkit.errors import (
    DeadlineExceededError,
    InvalidInputError,
    ServerError,
    UnavailableError,
)
from toolkit.gateway.features import Tensors
from toolkit.gateway.joining import Answered, Group, Joiner

GROUP = Group("m", None, None, 5.0, None)


class Model:
    """Doubles its rows; remembers how many came with each call."""

    def __init__(self, fails: Callable[[np.ndarray], Exception | None] = lambda _: None) -> None:
        self.calls: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._fails = fails

    async def __call__(
        self, _group: Group, tensors: Tensors, _seconds: float
    ) -> tuple[Tensors, str]:
        x = tensors["x"]
        self.calls.append(len(x))
        await self.gate.wait()
        error = self._fails(x)
        if error is not None:
            raise error
        return {"y": x * 2}, "1"


def rows(*values: float) -> Tensors:
    return {"x": np.array(values, dtype=float).reshape(-1, 1)}


async def ask(joiner: Joiner, *values: float, most: int = 64, group: Group = GROUP) -> list[float]:
    answer: Answered = await joiner.ask(group, rows(*values), len(values), most)
    return list(answer.outputs["y"].reshape(-1))


def test_requests_of_one_moment_go_in_one_call_and_each_gets_its_own_rows() -> None:
    async def run() -> None:
        model = Model()
        joiner = Joiner(model)
        answers = await asyncio.gather(ask(joiner, 1, 2), ask(joiner, 3), ask(joiner, 4, 5, 6))
        assert list(answers) == [[2, 4], [6], [8, 10, 12]]
        assert model.calls == [6]

    asyncio.run(run())


def test_what_arrives_while_calls_are_under_way_waits_and_goes_together() -> None:
    async def run() -> None:
        model = Model()
        model.gate.clear()
        joiner = Joiner(model, at_once=2)
        asked = []
        for value in range(10):
            asked.append(asyncio.create_task(ask(joiner, value)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert model.calls == [1, 1]
        assert joiner.waiting == 8
        model.gate.set()
        assert await asyncio.gather(*asked) == [[2 * value] for value in range(10)]
        assert model.calls == [1, 1, 8]
        assert joiner.waiting == 0

    asyncio.run(run())


def test_no_call_has_more_rows_than_the_model_takes() -> None:
    async def run() -> None:
        model = Model()
        joiner = Joiner(model)
        asked = [ask(joiner, value, value, most=5) for value in range(7)]
        assert await asyncio.gather(*asked) == [[2 * value] * 2 for value in range(7)]
        assert sorted(model.calls) == [2, 4, 4, 4]

    asyncio.run(run())


def test_a_row_that_breaks_the_model_fails_alone() -> None:
    def fails(x: np.ndarray) -> Exception | None:
        return ServerError("thirteen", status=500) if 13 in x else None

    async def run() -> None:
        joiner = Joiner(Model(fails))
        asked = [ask(joiner, value) for value in (1, 13, 2, 3)]
        good, bad, *rest = await asyncio.gather(*asked, return_exceptions=True)
        assert [good, rest[0], rest[1]] == [[2], [4], [6]]
        assert isinstance(bad, ServerError)
        assert bad.message == "thirteen"

    asyncio.run(run())


def test_a_server_that_is_away_is_asked_once_and_each_gets_an_error_of_its_own() -> None:
    async def run() -> None:
        model = Model(lambda _: UnavailableError("away", retry_after=2.0))
        joiner = Joiner(model)
        errors = await asyncio.gather(*(ask(joiner, 1) for _ in range(5)), return_exceptions=True)
        assert model.calls == [5]
        assert len({id(error) for error in errors}) == 5
        assert all(isinstance(e, UnavailableError) and e.retry_after == 2.0 for e in errors)

    asyncio.run(run())


def test_who_waited_too_long_is_not_sent_any_more() -> None:
    async def run() -> None:
        model = Model()
        model.gate.clear()
        joiner = Joiner(model, at_once=1)
        hasty = GROUP._replace(timeout=0.02)
        first = asyncio.create_task(ask(joiner, 1, group=hasty))
        await asyncio.sleep(0.005)
        late = asyncio.create_task(ask(joiner, 2, group=hasty))
        await asyncio.sleep(0.05)
        model.gate.set()
        assert await first == [2]
        with pytest.raises(DeadlineExceededError):
            await late
        assert model.calls == [1]

    asyncio.run(run())


def test_who_gave_up_takes_nobody_along() -> None:
    async def run() -> None:
        model = Model()
        model.gate.clear()
        joiner = Joiner(model, at_once=1)
        first = asyncio.create_task(ask(joiner, 1))
        await asyncio.sleep(0.01)
        leaving, staying = (asyncio.create_task(ask(joiner, value)) for value in (2, 3))
        await asyncio.sleep(0.01)
        leaving.cancel()
        model.gate.set()
        assert await first == [2]
        assert await staying == [6]
        assert leaving.cancelled() or (await asyncio.gather(leaving, return_exceptions=True))
        assert model.calls == [1, 1]

    asyncio.run(run())


def test_other_models_and_other_forms_do_not_mix() -> None:
    async def run() -> None:
        model = Model()
        joiner = Joiner(model)
        other = GROUP._replace(model="n")
        form = GROUP._replace(form=("x", (2,)))
        await asyncio.gather(
            ask(joiner, 1), ask(joiner, 2, group=other), ask(joiner, 3, group=form)
        )
        assert model.calls == [1, 1, 1]

    asyncio.run(run())


def test_bad_input_of_one_is_the_error_of_one() -> None:
    def fails(x: np.ndarray) -> Exception | None:
        return InvalidInputError("no") if (x < 0).any() else None

    async def run() -> None:
        joiner = Joiner(Model(fails))
        found = await asyncio.gather(
            *(ask(joiner, value) for value in (-1, 1, -2, 2)), return_exceptions=True
        )
        assert [type(one) for one in found] == [InvalidInputError, list, InvalidInputError, list]

    asyncio.run(run())
