"""``toolkit perf sweep``: a grid of configurations and loads, measured on a running server."""

from pathlib import Path
from typing import Any

import click

from toolkit import perf_table, screen
from toolkit.commands import decorated
from toolkit.perf_options import (
    load_options,
    loads_of,
    settings_options,
    target_of,
    target_options,
)
from toolkit.perf_session import bar, journal_of, measurer, measuring
from toolkit.perf_space_options import space_of, space_options

_CALLERS = (1, 8, 32)


def sweep_command(default_repository: Path) -> click.Command:
    """Return the command; ``default_repository`` is where its server is looked for."""
    options = (
        click.argument("model"),
        *load_options(*_CALLERS),
        *space_options(),
        *settings_options(),
        *target_options(default_repository),
        click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
                     help="The journal. [default: MODEL-sweep.jsonl]"),
        click.option("--fresh", is_flag=True, help="Begin anew where a journal is there."),
    )  # fmt: skip
    return click.command("sweep")(decorated(_sweep, options))


def _sweep(model: str, output: Path | None, *, fresh: bool, **flags: Any) -> None:
    """Measure MODEL under each load and each configuration of a grid.

    The figures go to a journal as they come. After Ctrl-C or a crash the same command goes
    on where it ended; the served model is left as it was.
    """
    from perf.candidates import AS_SERVED
    from perf.served import ServedModel
    from perf.space import grid
    from perf.trials import Trials, sweep, table

    loads, space = loads_of(flags, *_CALLERS), space_of(flags)
    target = target_of(model, flags)
    path = output or Path(f"{model}-sweep.jsonl")
    plan = {"space": space.to_json(), "loads": [str(load) for load in loads], **measuring(flags)}
    with (
        ServedModel(target, model) as served,
        journal_of(served, target, ("sweep", plan), path, fresh=fresh) as journal,
    ):
        # What is served now is what all others are held against.
        candidates = dict.fromkeys((AS_SERVED, *grid(space, served.original)))
        trials = Trials(served, measurer(target, model, flags), journal)
        there = len(journal.points)
        if there:
            screen.note(f"going on with {path}: {there} measurement(s) are there")
        with bar(len(candidates) * len(loads)) as advance:
            for point in sweep(trials, tuple(candidates), loads):
                advance(str(point.candidate))
        shown = table(journal.points)
    perf_table.points(shown)
    click.echo(f"{len(shown)} measurement(s) in {path}\n  next: toolkit perf report {path}")
