"""``toolkit perf compare`` and ``toolkit perf gate``: is it faster, and is it still as fast?"""

import json
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit import perf_options as shared
from toolkit import screen
from toolkit.commands import Decorator, decorated
from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from perf.analyzer import Settings
    from perf.comparing import Comparison, Plan, Told, Turn
    from perf.measurement import Load
    from perf.sides import Asked
    from perf.target import Target

_CONCURRENCY = 16
_METRICS = ("throughput", "mean", "p50", "p99")
_FEWEST_ROUNDS, _MOST_ROUNDS = 7, 200  # The fewest are those of perf.verdict.


def compare_command(default_repository: Path) -> click.Command:
    """Return the command; ``default_repository`` is where its server is looked for."""
    options: tuple[Decorator, ...] = (
        click.argument("first", metavar="A"),
        click.argument("second", metavar="B"),
        *_plan_options(),
        click.option("--max-rounds", type=click.IntRange(_FEWEST_ROUNDS, _MOST_ROUNDS),
                     help="Go on up to so many while no difference is seen. [default: --rounds]"),
        click.option("--fail-if", type=click.Choice(["slower"]), help="Exit 1 if B is slower."),
        *shared.load_options(_CONCURRENCY),
        *_settings_options(),
        *shared.target_options(default_repository),
    )  # fmt: skip
    made: click.Command = click.command("compare")(decorated(_compare, options))
    return made


def gate_command(default_repository: Path) -> click.Command:
    """Return the command; ``default_repository`` is where its server is looked for."""
    options: tuple[Decorator, ...] = (
        click.argument("model", required=False),
        click.option("--save", type=click.Path(dir_okay=False, path_type=Path),
                     help="Measure MODEL as it is served, and write the baseline to this file."),
        click.option("--baseline", "baseline_file", type=click.Path(path_type=Path),
                     help="Hold what is served now against the baseline in this file."),
        click.option("--allow", type=click.FloatRange(0, 100, max_open=True), default=0.0,
                     show_default=True, help="Percent that it may be slower than the baseline."),
        click.option("--recorded", is_flag=True, help="Against the recorded figures, even where"
                     " the baseline can be served and measured again."),
        click.option("--other-machine", is_flag=True,
                     help="Against figures recorded on another machine."),
        *_plan_options(),
        *shared.load_options(_CONCURRENCY),
        *_settings_options(),
        *shared.target_options(default_repository),
    )  # fmt: skip
    made: click.Command = click.command("gate")(decorated(_gate, options))
    return made


def _plan_options() -> tuple[Decorator, ...]:
    return (
        click.option("--metric", type=click.Choice(_METRICS), help="What is compared. [default:"
                     " throughput; at a request rate p99]"),
        click.option("--rounds", type=click.IntRange(_FEWEST_ROUNDS, _MOST_ROUNDS), default=10,
                     show_default=True, help="Measurements of each side."),
        click.option("--warm-up", type=click.IntRange(0), default=1, show_default=True,
                     help="Rounds before them that do not count."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, and no progress."),
        click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
                     help="Journal of the measurements, for toolkit perf report."),
    )  # fmt: skip


def _settings_options() -> tuple[Decorator, ...]:
    return shared.window_options("Milliseconds in a window; three are a measurement.")


def _compare(first: str, second: str, **flags: Any) -> None:
    """Measure A and B in turns, and say whether B is faster, slower, or no difference is seen.

    A side is MODEL, MODEL:VERSION or MODEL@FILE: the model loaded onto the running server
    with a config.pbtxt, a configuration in JSON, or changes to the served one in JSON, and
    put back afterwards. 16 requests are under way unless another load is asked for.
    """
    from perf import comparing, sides
    from perf.verdict import Outcome

    asked = (sides.parse(first), sides.parse(second))
    load = _load(flags)
    plan = _plan(load, flags)
    measure = sides.measurer(load, _settings(flags), flags["input_data"])
    target_of = partial(shared.target_of, flags=flags)
    with (
        sides.opened(asked, target_of, measure) as (a, b),
        _telling("compare", target_of(asked[0].model), load, plan, flags)(
            dict(zip("AB", asked, strict=True))
        ) as told,
    ):
        found = comparing.compare(a, b, plan, told)
    _show(found, flags)
    if flags["fail_if"] and found.outcome is Outcome.SLOWER:
        screen.error(ToolkitError(f"{found.names[1]} is slower than {found.names[0]}"))
        sys.exit(1)


def _gate(
    model: str | None,
    save: Path | None,
    baseline_file: Path | None,
    **flags: Any,
) -> None:
    """Exit 1 when MODEL, as it is served now, is slower than its baseline.

    --save records the baseline; --baseline measures again under the same load and judges.
    Where the baseline's configuration and files are still here, both are measured in turns
    on the running server, so that another machine or a slow day is no difference; else the
    recorded figures count. 16 requests are under way unless another load was recorded.
    """
    if (save is None) == (baseline_file is None):
        raise click.UsageError("give one of --save FILE and --baseline FILE")
    if save is not None:
        if model is None:
            raise click.UsageError("--save needs a MODEL")
        _save(model, save, flags)
        return
    assert baseline_file is not None
    _refuse_another_load(click.get_current_context())
    _hold(model, baseline_file, flags)


def _save(model: str, path: Path, flags: Mapping[str, Any]) -> None:
    from perf import baseline, gating, sides

    load, settings = _load(flags), _settings(flags)
    plan, data = _plan(load, flags), gating.input_data(flags["input_data"])
    target = shared.target_of(model, flags)
    gate = gating.Gate(
        target=target,
        plan=plan,
        measure=sides.measurer(load, settings, flags["input_data"]),
        telling=_telling("gate", target, load, plan, flags),
    )
    made = gating.record(gate, model, settings, data)
    baseline.write(path, made)
    screen.note(
        f"{path}: {model} version {made.version}, {len(made.measurements)} measurements at {load}"
    )


def _hold(model: str | None, path: Path, flags: Mapping[str, Any]) -> None:
    from perf import baseline, gating, sides
    from perf.comparing import Metric

    before = baseline.read(path)
    if model not in {None, before.model}:
        raise click.UsageError(f"{path} is a baseline of {before.model}, not of {model}")
    given = gating.same_input_data(before)
    metric = Metric(flags["metric"]) if flags["metric"] else before.metric
    plan = _plan(before.load, {**flags, "metric": metric})
    target = shared.target_of(before.model, flags)
    gate = gating.Gate(
        target=target,
        plan=plan,
        measure=sides.measurer(before.load, gating.settings_of(before), given),
        telling=_telling("gate", target, before.load, plan, flags),
    )
    found = gating.hold(
        gate, before, recorded=flags["recorded"], other_machine=flags["other_machine"]
    )
    allowed = flags["allow"]
    failed = found.slower_by_more_than(allowed)
    _show(found, flags, gate={"passed": not failed, "allowed_percent": allowed})
    beyond = f" by more than the {allowed:g} % allowed" if allowed else ""
    if failed:
        screen.error(
            ToolkitError(f"gate failed: {before.model} is slower than its baseline{beyond}")
        )
        sys.exit(1)
    screen.note(
        f"gate passed: {before.model} is not shown to be slower than its baseline{beyond};"
        f" {found.unseen_slowdown_percent:.1f} % is the most that could have been missed"
    )


def _refuse_another_load(context: click.Context) -> None:
    """A baseline is held against figures of the same load and the same windows."""
    options = (*shared.load_options(_CONCURRENCY), *_settings_options())
    names = {one.name for one in click.command()(decorated(_nothing, options)).params}
    for name in sorted(str(name) for name in names - {"time_limit"}):
        source = context.get_parameter_source(name)
        if source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{name.replace('_', '-')} is for --save; --baseline measures as was recorded"
            )


def _nothing(**_: object) -> None:
    """Carry options."""


def _load(flags: Mapping[str, Any]) -> "Load":
    loads = shared.loads_of(flags, _CONCURRENCY)
    if len(loads) > 1:
        raise click.UsageError("a comparison is under one load: give one number, not a range")
    return loads[0]


def _settings(flags: Mapping[str, Any]) -> "Settings":
    from perf.analyzer import LEAST_WINDOWS, Settings

    return Settings(
        measurement_interval_ms=flags["measurement_interval"],
        max_trials=LEAST_WINDOWS,
        time_limit_seconds=flags["time_limit"],
    )


def _plan(load: "Load", flags: Mapping[str, Any]) -> "Plan":
    from perf.comparing import Metric, Plan

    usual = Metric.P99 if load.concurrency is None else Metric.THROUGHPUT
    return Plan(
        metric=Metric(flags["metric"] or usual),
        rounds=flags["rounds"],
        most=flags.get("max_rounds") or 0,
        warm_up=flags["warm_up"],
        seed=secrets.randbits(32),
    )


def _telling(
    command: str, target: "Target", load: "Load", plan: "Plan", flags: Mapping[str, Any]
) -> "Callable[[Mapping[str, Asked]], AbstractContextManager[Told]]":
    """Return what writes each turn to the journal and moves the bar."""

    @contextmanager
    def telling(sides: "Mapping[str, Asked]") -> "Iterator[Told]":
        from perf import comparison_journal

        path = flags["output"]
        header = comparison_journal.header(command, target, sides, plan)
        with (
            comparison_journal.written(path, header, sides, load) as write,
            _bar(shown=not flags["as_json"]) as move,
        ):

            def told(turn: "Turn") -> None:
                write(turn)
                move(turn)

            yield told

    return telling


@contextmanager
def _bar(*, shown: bool) -> "Iterator[Told]":
    """Show on a terminal which round it is and how long the rest will take."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    hidden = not (shown and console.is_terminal)
    columns = (BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("warm-up", total=1.0)

        def move(turn: "Turn") -> None:
            what = f"round {turn.round}" if turn.round else "warm-up"
            minutes, seconds = divmod(round(turn.seconds_left), 60)
            left = f"{minutes}:{seconds:02} left"
            progress.update(
                task, completed=turn.share_done, description=f"{left}, {what}, {turn.name}"
            )

        yield move


def _show(
    found: "Comparison", flags: Mapping[str, Any], gate: Mapping[str, Any] | None = None
) -> None:
    if flags["as_json"]:
        click.echo(json.dumps({**found.to_json(), **({"gate": gate} if gate else {})}))
        return
    sure = min(one.confidence for one in found.medians)
    rows = screen.table(
        "side", f"median {found.metric.value}, {found.metric.unit}",
        f"{100 * sure:.0f} % interval", "rounds", "unstable",
    )  # fmt: skip
    rows.columns[0].justify = "left"
    both = (found.first, found.second)
    for name, median, measured in zip(found.names, found.medians, both, strict=True):
        rows.add_row(
            name,
            _figure(median.value),
            f"{_figure(median.low)} to {_figure(median.high)}",
            str(len(measured)),
            str(sum(not one.stable for one in measured)),
        )
    screen.show(rows)
    for note in found.notes:
        click.echo(f"  note: {note}")
    click.echo(found.sentence)


def _figure(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"  # noqa: PLR2004 - three digits
