"""``toolkit perf tune``: find the configuration that serves best, and prove it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit import perf_table, screen
from toolkit.commands import decorated
from toolkit.errors import ConfigError
from toolkit.perf_options import (
    load_options,
    loads_of,
    settings_options,
    target_of,
    target_options,
)
from toolkit.perf_session import bar, journal_of, measurer, measuring
from toolkit.perf_space_options import space_of, space_options

if TYPE_CHECKING:
    from perf.candidates import Candidate
    from perf.goals import Goal
    from perf.measurement import Load
    from perf.space import Space
    from perf.target import Target
    from perf.tuning import Contender, Outcome, Search

_FEWEST, _MOST, _SHARE = 16, 60, 10
_CALLERS = 32


def tune_command(default_repository: Path) -> click.Command:
    """Return the command; ``default_repository`` is where its server is looked for."""
    limit = click.FloatRange(0, min_open=True)
    options = (
        click.argument("model"),
        click.option("--objective", type=click.Choice(["throughput", "latency"]),
                     default="throughput", show_default=True,
                     help="Most inferences a second, or the lowest 99th percentile."),
        click.option("--max-p99-ms", type=limit, help="Slowest 99th percentile to put up with."),
        click.option("--min-throughput", type=limit, help="Fewest inferences a second."),
        click.option("--max-memory", type=limit, help="Most MiB of the model's own processes."),
        click.option("--measurements", type=click.IntRange(12),
                     help="Measurements at most. [default: a tenth of the grid, 16 to 60]"),
        click.option("--apply", is_flag=True, help="Write the winner into config.pbtxt and load"
                     " it."),
        click.option("--seed", default=0, show_default=True, help="Of the search."),
        *load_options(_CALLERS),
        *space_options(),
        *settings_options(),
        *target_options(default_repository),
        click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
                     help="The journal. [default: MODEL-tune.jsonl]"),
        click.option("--fresh", is_flag=True, help="Begin anew where a journal is there."),
    )  # fmt: skip
    return click.command("tune")(decorated(_tune, options))


def _tune(model: str, output: Path | None, *, fresh: bool, apply: bool, **flags: Any) -> None:
    """Search the configuration of MODEL that serves best within the limits.

    Candidates are loaded on the running server and measured there; the served model is
    left as it was unless --apply is given. Without flags for settings, all are searched.
    """
    from perf.served import ServedModel
    from perf.trials import Trials, table
    from perf.tuning import Search

    goal, loads = _goal(flags), loads_of(flags, _CALLERS)
    target = target_of(model, flags)
    if apply and target.entry is None:
        raise ConfigError(
            f"--apply writes into the entry of {model!r}, and {flags['repository']} has none",
            hint="--repository with the folder that this server serves",
        )
    path = output or Path(f"{model}-tune.jsonl")
    with ServedModel(target, model) as served:
        # Of what was served first: a search that was killed may have left something else.
        space = _space(served.original, flags, loads)
        search = Search(
            space=space, loads=loads, goal=goal, seed=flags["seed"],
            measurements=flags["measurements"] or _measurements(space, served.original, loads),
        )  # fmt: skip
        plan = _plan(search, flags)
        with (
            journal_of(served, target, ("tune", plan), path, fresh=fresh) as journal,
            bar(search.measurements) as advance,
        ):
            trials = Trials(served, measurer(target, model, flags), journal)
            outcome = search.run(trials, lambda point: advance(str(point.candidate)))
    perf_table.points(table(journal.points))
    _tell(outcome, goal)
    click.echo(f"  journal     {path}  (toolkit perf report {path})")
    _finish(target, model, outcome.winner.candidate, apply=apply and outcome.satisfied)
    if not outcome.satisfied:
        raise ConfigError(
            "no configuration that was measured keeps the limits; the best is shown above",
            hint="less load (--concurrency-range), or other limits",
        )


def _goal(flags: Mapping[str, Any]) -> "Goal":
    from perf.goals import Goal, Objective

    memory = flags["max_memory"]
    return Goal(
        objective=Objective(flags["objective"]),
        max_p99_ms=flags["max_p99_ms"],
        min_throughput=flags["min_throughput"],
        max_memory_bytes=None if memory is None else int(memory * 2**20),
    )


def _plan(search: "Search", flags: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **search.goal.to_json(),
        "space": search.space.to_json(),
        "loads": [str(load) for load in search.loads],
        "seed": search.seed,
        **measuring(flags),
    }


def _space(
    config: Mapping[str, Any], flags: Mapping[str, Any], loads: "tuple[Load, ...]"
) -> "Space":
    """Return the space that the flags describe, or the one worth searching for the model."""
    from perf.machine import cores
    from perf.space import usual

    given = space_of(flags)
    if given.choices():
        return given
    return usual(
        config,
        cores=cores(),
        concurrency=[load.concurrency or 1 for load in loads],
        rows=max(load.batch_size for load in loads),
    )


def _measurements(space: "Space", config: Mapping[str, Any], loads: "tuple[Load, ...]") -> int:
    from perf.space import grid

    whole = len(grid(space, config)) * len(loads)
    return min(max(whole // _SHARE, _FEWEST), _MOST)


def _tell(outcome: "Outcome", goal: "Goal") -> None:
    winner, served = outcome.winner, outcome.as_served
    click.echo(f"  stopped     {outcome.stopped}; {outcome.measurements} measurements")
    click.echo(f"  as served   {_figures(served, goal)}")
    click.echo(f"  winner      {_figures(winner, goal)}")
    if winner.candidate == served.candidate:
        click.echo("nothing that was tried is better than the configuration as it is served")
        return
    click.echo(f"              {winner.candidate}, at {winner.load}")


def _figures(contender: "Contender", goal: "Goal") -> str:
    from statistics import median

    measured = [point.measurement for point in contender.points if point.measurement]
    if not measured:
        return "failed"
    speed = median(one.inferences_per_second for one in measured)
    p99 = median(one.p99_us for one in measured) / 1e3
    kept = "" if contender.rank(goal)[0] == 0 else ", which breaks a limit"
    return f"{speed:,.0f} inferences/s, p99 {p99:,.2f} ms ({len(measured)} measured){kept}"


def _finish(target: "Target", model: str, winner: "Candidate", *, apply: bool) -> None:
    """Show what the winner changes in the entry, and write it if asked."""
    from perf import applying

    if target.entry is None or not winner.changes():
        return
    change = applying.edit(target.entry, winner)
    if not change.diff():
        return
    click.echo(change.diff())
    if not apply:
        click.echo("  next: the same command with --apply, which measures nothing anew")
        return
    kept = applying.apply(change)
    with target.client(timeout=300) as client:
        client.load(model)
    screen.note(f"{change.path} is written, and {model} serves so")
    if kept:
        screen.note(f"its comments are kept in {kept}")
