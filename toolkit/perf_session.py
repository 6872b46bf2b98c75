"""A session of measurements: its journal, the model it changes, and how far it is."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.perf_options import settings_of

Advance = Callable[..., None]
"""Called with what is measured, and how many measurements are made since."""

if TYPE_CHECKING:
    from perf.journal import Journal
    from perf.served import ServedModel
    from perf.target import Target
    from perf.trials import Measure


def measuring(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return what says how figures were measured, which must not change half-way."""
    names = ("protocol", "shared_memory", "measurement_interval", "max_trials", "percentile",
             "stability_percentage", "input_data")  # fmt: skip
    return {name: flags[name] for name in names}


def measurer(target: "Target", model: str, flags: Mapping[str, Any]) -> "Measure":
    """Return the function that measures ``model`` under a load."""
    from perf.measuring import measure

    return partial(measure, target, model, settings=settings_of(flags), data=flags["input_data"])


def journal_of(
    served: "ServedModel",
    target: "Target",
    about: tuple[str, Mapping[str, Any]],
    path: Path,
    *,
    fresh: bool,
) -> "Journal":
    """Return the journal at ``path``, open; ``about`` is the command and its plan.

    ``served`` holds the lock of the model: nobody else writes there, so that a ``fresh`` one
    takes nothing from a command that is still at work.
    """
    from perf.journal import Header, begin
    from perf.machine import machine, server

    with target.client() as client:
        header = Header(
            command=about[0], model=served.model, plan=about[1], configuration=served.original,
            machine=machine(), server=server(client),
        )  # fmt: skip
    if fresh:
        path.unlink(missing_ok=True)
    return begin(path, header)


@contextmanager
def bar(total: int, *, each_seconds: float = 0.0) -> Iterator[Advance]:
    """Show on a terminal how many measurements are made and how long the rest will take.

    ``each_seconds`` is what one is expected to take, until the first is made.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
    from rich.text import Text

    class Left(ProgressColumn):
        def render(self, task: Task) -> Text:
            elapsed = task.elapsed or 0.0
            each = elapsed / task.completed if task.completed else each_seconds
            minutes, seconds = divmod(round(max(each * total - elapsed, 0.0)), 60)
            return Text(f"{minutes}:{seconds:02} left" if each else "")

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), Left(), "{task.description}")
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as (
        progress
    ):
        task = progress.add_task("", total=total)

        def advance(description: str, by: int = 1) -> None:
            progress.update(task, advance=by, description=description)

        yield advance
