"""``toolkit perf advise``: what to change about a served model, from its own statistics."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit import screen
from toolkit.commands import decorated
from toolkit.perf_options import target_of, target_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perf.advice import Advice

_PATIENCE = 10.0  # Seconds for an answer that a server gives at once.


def advise_command(default_repository: Path) -> click.Command:
    """Return the command; ``default_repository`` is where its server is looked for."""
    options = (
        click.argument("model"),
        click.option("--seconds", type=click.FloatRange(0.1), default=10.0, show_default=True,
                     help="How long to look on, while your own callers are at work."),
        click.option("--since-start", is_flag=True,
                     help="Look at all that Triton counted since it loaded the model."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        *target_options(default_repository),
    )  # fmt: skip
    made: click.Command = click.command("advise")(decorated(_advise, options))
    return made


def _advise(model: str, *, seconds: float, since_start: bool, as_json: bool, **flags: Any) -> None:
    """Say what to change about a served MODEL, and why.

    Reads Triton's statistics of the running server, makes no load, and changes nothing.
    """
    from perf.advice import Setting, advise, observed, sentence, watching

    target = target_of(model, flags)
    with target.client(timeout=_PATIENCE) as client:
        if since_start:
            counted, machine = watching.since_start(client, model), watching.machine(target)
        else:
            with screen.progress(f"looking at the traffic of {model} for {seconds:g} s"):
                counted, machine = watching.watch(target, client, model, seconds)
        # Asked for last: what was loaded in between is what is to be changed.
        setting = Setting.from_config(model, client.config(model))
    advice = advise(counted, setting, machine)
    numbers = observed(counted, setting, machine)
    said = "" if advice else sentence(counted, setting, machine)
    if as_json:
        pieces = [one.to_json() for one in advice]
        click.echo(json.dumps({"model": model, "observed": numbers, "advice": pieces}))
        return
    _show_numbers(numbers)
    _show(advice, said)


def _show_numbers(numbers: "Mapping[str, Any]") -> None:
    """Show one row of what was seen."""
    rows = screen.table(
        "requests/s", "under way", "rows/execution", "request µs", "queue µs", "input µs",
        "infer µs", "output µs", "busy", "instances", "idle cores",
        "cache hits",
    )  # fmt: skip
    rows.add_row(
        _number(numbers["requests_per_second"]),
        _number(numbers["requests_under_way"], 1),
        _number(numbers["mean_batch_size"], 1),
        *(_number(numbers[f"{part}_us"]) for part in ("request", "queue")),
        *(_number(numbers[f"compute_{part}_us"]) for part in ("input", "infer", "output")),
        _share(numbers["busy_share"]),
        str(numbers["instances"]),
        _number(numbers["idle_cores"], 1),
        _share(numbers["cache_hit_share"]),
    )
    screen.show(rows)
    if numbers["reloaded"]:
        screen.note("the model was loaded anew meanwhile: only what came after that is counted")


def _show(advice: "Sequence[Advice]", otherwise: str) -> None:
    """Show each piece of advice, or that there is none."""
    if not advice:
        click.echo(otherwise)
    for number, one in enumerate(advice, start=1):
        gain = f" (up to about {one.gain:.1f} times as fast)" if one.gain else ""
        click.echo(f"{number}. {click.style(one.title, bold=True)}{gain}")
        click.echo(f"   {one.why}.")
        for line in one.change:
            click.echo(f"     {line}")
    if sum(1 for one in advice if one.candidate.changes()) > 1:
        click.echo("Change one thing at a time, and look again.")


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}".replace("%", " %")
