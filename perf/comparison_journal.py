"""The journal of a comparison: whose turn each point was, and the verdict read back from it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perf import journal, machine, verdict
from perf.comparing import Comparison, Metric, Plan, Turn, figures
from perf.journal import Header, Point
from perf.measurement import Load, Measurement
from perf.sides import Asked
from perf.target import Target

COMMANDS = ("compare", "gate")
"""What ``Header.command`` says of a journal with sides."""


def header(command: str, target: Target, sides: Mapping[str, Asked], plan: Plan) -> Header:
    """Describe a comparison before it begins; ``sides`` are by their letters.

    In the ``plan``, ``sides`` names them, and ``order`` has a letter for each point to come.
    Raises what ``Client.config`` raises when the first side's model is not served.
    """
    model = next(iter(sides.values())).model
    order = plan.order if len(sides) > 1 else "".join(sides) * plan.rounds
    with target.client() as client:
        return Header(
            command=command,
            model=model,
            plan={
                "sides": {letter: side.name for letter, side in sides.items()},
                "order": order,
                "looks": list(plan.looks),
                "metric": plan.metric.value,
                "warm_up": plan.warm_up,
            },
            configuration=dict(client.config(model)),
            machine=machine.machine(),
            server=machine.server(client),
        )


@contextmanager
def written(
    path: Path | None, about: Header, sides: Mapping[str, Asked], load: Load
) -> Iterator[Callable[[Turn], None]]:
    """Give a function that writes each turn that counts to ``path``; None writes nothing."""
    if path is None:
        yield lambda _: None
        return
    with journal.begin(path, about) as file:

        def write(turn: Turn) -> None:
            if turn.round:
                file.append(
                    Point(
                        candidate=sides[turn.side].candidate,
                        load=load,
                        measurement=turn.measurement,
                        failure=turn.failure,
                    )
                )

        yield write


def comparison(about: Header, points: Sequence[Point]) -> Comparison | None:
    """Return what the journal of a comparison comes to; None while it has too few rounds.

    Only for a journal with two sides: of a gate against recorded figures it has one.
    """
    plan: Mapping[str, Any] = about.plan
    measured = _measured(plan["order"], points)
    if len(plan["sides"]) < len("AB"):
        return None
    rounds = min(len(measured[letter]) for letter in "AB")
    if rounds < verdict.FEWEST_ROUNDS:
        return None
    first, second = (tuple(measured[letter][:rounds]) for letter in "AB")
    metric = Metric(plan["metric"])
    a, b = (figures(metric, one) for one in (first, second))
    return Comparison(
        names=(plan["sides"]["A"], plan["sides"]["B"]),
        metric=metric,
        first=first,
        second=second,
        ratio=verdict.paired(a, b, verdict.ERROR_RATE / len(plan["looks"])),
        order=plan["order"][: 2 * rounds],
    )


def _measured(order: str, points: Sequence[Point]) -> dict[str, list[Measurement]]:
    measured: dict[str, list[Measurement]] = {"A": [], "B": []}
    for letter, point in zip(order, points, strict=False):
        if point.measurement is not None:
            measured[letter].append(point.measurement)
    return measured
