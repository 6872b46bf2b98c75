"""``toolkit perf``: measure, tune and compare what is served."""

from pathlib import Path

import click

from toolkit import screen
from toolkit.commands import decorated
from toolkit.perf_advise_command import advise_command
from toolkit.perf_compare_command import compare_command, gate_command
from toolkit.perf_options import target_of, target_options
from toolkit.perf_report_command import report_command
from toolkit.perf_run_command import run_command
from toolkit.perf_sweep_command import sweep_command
from toolkit.perf_tune_command import tune_command


class _InOrder(click.Group):
    """A group that lists its commands as one would use them."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(self.commands)


def perf_command(default_repository: Path) -> click.Group:
    """Return the group; ``default_repository`` is where servers are looked for."""
    group = _InOrder("perf", help="Measure, tune and compare what is served.")
    of_servers = (
        run_command,
        sweep_command,
        tune_command,
        compare_command,
        gate_command,
        advise_command,
        _restore_command,
    )
    for command in of_servers:
        group.add_command(command(default_repository))
    group.add_command(report_command())
    return group


def _restore_command(default_repository: Path) -> click.Command:
    options = (click.argument("model"), *target_options(default_repository))
    return click.command("restore")(decorated(_restore, options))


def _restore(model: str, **flags: object) -> None:
    """Serve MODEL as it was before a sweep or a tuning that was killed.

    One that ends by itself, with an error or with Ctrl-C, has done so already.
    """
    from perf.served import ServedModel

    with ServedModel(target_of(model, flags), model) as served:
        changed = served.changed
    screen.note(f"{model} is served as it was" if changed else f"{model} was not changed")
