"""The examples of the pages are run, on a real server, and print what the pages show.

Numbers aside: they differ between machines, and versions of libraries grow.
"""

import contextlib
import io
import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import DOCS, UPDATE, blocks, commands, without_numbers
from toolkit import cli
from toolkit.deploy import embedded, models
from toolkit.deploy.embedded import ServerOptions
from toolkit.deploy.state import Server

# The pages show the ports and the folder of a reader who changed nothing.
_SHOWN_FOLDER = "/home/you/models"


@dataclass(frozen=True, slots=True)
class Workplace:
    """A folder in which the examples of convert.md were run, and its server."""

    folder: Path
    server: Server

    def shown(self, text: str) -> str:
        """Return output as the pages show it."""
        for port, usual in self._ports():
            text = text.replace(str(port), str(usual))
        return text.replace(str(self.folder.resolve()), _SHOWN_FOLDER)

    def meant(self, code: str) -> str:
        """Return an example with the ports of this server in place of the usual ones."""
        for port, usual in self._ports():
            code = code.replace(f"localhost:{usual}", f"localhost:{port}")
        return code

    def _ports(self) -> tuple[tuple[int, int], ...]:
        server, usual = self.server, ServerOptions()
        return (
            (server.http_port, usual.http_port),
            (server.grpc_port, usual.grpc_port),
            (server.metrics_port, usual.metrics_port),
        )


@pytest.fixture(scope="module")
def workplace(
    serve: Callable[[Path], Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    folder = tmp_path_factory.mktemp("docs")
    repository = folder / "model_repository"
    repository.mkdir()
    with contextlib.chdir(folder):
        place = Workplace(folder, serve(repository))
        _run_page("convert.md", place)
        options = next(b for b in blocks(_read("options.md")) if b.info == "yaml options")
        Path("serving.yaml").write_text(options.text, encoding="utf-8")
        chosen = models.choose(repository, ["churn", "iris"])
        with embedded.client(place.server) as client:
            assert [result.error for result in models.load(client, chosen)] == [None, None]
        yield place


def _read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def _run_page(page: str, place: Workplace) -> None:
    """Run the marked blocks of a page in order; compare, or rewrite, what they print."""
    text = _read(page)
    names: dict[str, Any] = {}
    changes: list[tuple[int, int, str]] = []
    printed: str | None = None
    for block in blocks(text):
        found = None
        if block.info == "python run":
            printed = _run_python(place.meant(block.text), names)
        elif block.info == "console run":
            found = _run_console(block.text)
        elif block.info == "text":
            found, printed = printed, None
        if found is not None:
            found = place.shown(found)
            changes.append((block.start, block.end, found))
            if not UPDATE:
                assert without_numbers(block.text) == without_numbers(found), page
    if UPDATE:
        for start, end, found in reversed(changes):
            text = text[:start] + found + text[end:]
        (DOCS / page).write_text(text, encoding="utf-8")


def _run_python(code: str, names: dict[str, Any]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "the example", "exec"), names)  # noqa: S102 - our own pages
    return out.getvalue()


def _run_console(text: str) -> str:
    return "".join(f"$ {command}\n{_run_command(command)}" for command, _ in commands(text))


def _run_command(line: str) -> str:
    """Run one command in this process, output and errors together as in a terminal."""
    both = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(both),
        contextlib.redirect_stderr(both),
        contextlib.suppress(SystemExit),
    ):
        patch.setattr("sys.argv", shlex.split(line))
        patch.delenv("TOOLKIT_REPOSITORY", raising=False)
        cli.main()
    lines = [one.rstrip() for one in both.getvalue().splitlines()]
    return "".join(f"{one}\n" for one in lines if one)


@pytest.mark.parametrize("page", ["client.md", "deploy.md", "options.md", "proof.md", "exact.md"])
def test_the_examples_of_a_page_print_what_it_shows(page: str, workplace: Workplace) -> None:
    _run_page(page, workplace)


def test_every_field_of_parity_json_is_named_on_its_page(workplace: Workplace) -> None:
    page = _read("proof.md")
    written = workplace.folder / "model_repository" / "churn" / "1" / "parity.json"
    document = json.loads(written.read_text(encoding="utf-8"))
    fields = {*document, *(f"report.{name}" for name in document["report"])} - {"report"}
    assert {name for name in fields if f"`{name}`" not in page} == set()


def test_every_kind_of_hard_row_that_a_model_was_asked_is_on_the_page(workplace: Workplace) -> None:
    page = _read("proof.md")
    for written in sorted((workplace.folder / "model_repository").glob("*/1/parity.json")):
        kinds = json.loads(written.read_text(encoding="utf-8"))["report"]["kinds"]
        assert {kind for kind in kinds if f"| {kind} |" not in page} <= {"sample"}
