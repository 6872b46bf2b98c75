"""``toolkit perf report``: what was measured, as one HTML file, pictures and a CSV table."""

from pathlib import Path

import click

from toolkit import screen
from toolkit.commands import Decorator, decorated
from toolkit.errors import ConfigError

_FILE = click.Path(readable=False, path_type=Path)


def report_command() -> click.Command:
    """Return the command."""
    options: tuple[Decorator, ...] = (
        click.argument("journals", nargs=-1, required=True, type=_FILE, metavar="JOURNAL..."),
        click.option("--output", type=_FILE, default=Path("report.html"), show_default=True,
                     help="The HTML file."),
        click.option("--png", type=_FILE, help="Folder for the charts as PNG pictures."),
        click.option("--csv", "csv_file", type=_FILE,
                     help="File for all points, in the columns of NVIDIA Model Analyzer."),
    )  # fmt: skip
    made: click.Command = click.command("report")(decorated(_report, options))
    return made


def _report(
    journals: tuple[Path, ...], output: Path, png: Path | None, csv_file: Path | None
) -> None:
    """Show what sweeps, tunings and comparisons measured, in one HTML file.

    JOURNAL is what toolkit perf sweep, tune, compare, or run --output wrote. The file needs
    no network and nothing beside it.
    """
    from perf import journal, report, writing

    # Named twice by a shell's patterns, one run would count as two.
    journals = tuple({path.resolve(): path for path in journals}.values())
    if png is not None and not png.is_dir():
        if png.exists():
            raise ConfigError(f"{png} is a file", hint="name a folder for the pictures")
        writing.check(png)
    for path in (output, csv_file):
        _keep_the_journals(path, journals)
        if path is not None:
            writing.check(path)
    studies = report.group(journals)
    with screen.progress("drawing"):
        page = report.html(studies)
        drawn = dict(report.pictures(studies)) if png else {}
    writing.write(output, page.encode())
    written = [str(output)]
    if png is not None:
        png.mkdir(exist_ok=True)
        for name, picture in drawn.items():
            writing.write(png / name, picture)
            written.append(str(png / name))
    if csv_file is not None:
        report.write_csv(csv_file, [journal.read(path) for path in journals])
        written.append(str(csv_file))
    for study in studies:
        click.echo(report.sentence(study))
    for name in written:
        screen.note(f"  {name}")


def _keep_the_journals(path: Path | None, journals: tuple[Path, ...]) -> None:
    for journal in journals if path is not None and path.exists() else ():
        if path is not None and journal.exists() and journal.samefile(path):
            raise ConfigError(
                f"{path} is a journal of measurements, and would be lost",
                hint="name another file to write to",
            )
