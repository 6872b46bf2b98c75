"""The pages say what the program does: their tables are generated, their commands parse."""

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import groupby
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from converters.estimators import registry
from converters.releases import RELEASES
from converters.table import ENTRIES, FRAMEWORKS
from tests.docs.pages import DOCS, ROOT, UPDATE, between, blocks, table
from toolkit.artifact import Artifact, ParityReport, WarmupInput
from toolkit.cli import toolkit
from toolkit.client import ClientOptions
from toolkit.errors import RequestError
from toolkit.gateway.settings import Settings, variables
from toolkit.options import serving_config
from toolkit.spec import DType, ModelSpec, Road, ServingConfig, TensorSpec

Parse = Callable[[list[str]], click.Context]
COMMAND_PAGES = (*sorted(DOCS.glob("*.md")), ROOT / "README.md")


def options_table() -> str:
    rows = [("flag", "key in the file", "default", "what Triton does with it")]
    params = {param.name: param for param in toolkit.commands["convert"].params}
    for option in fields(ServingConfig):
        param = params[option.name]
        names = "`, `".join((*param.opts, *param.secondary_opts))
        rows.append(
            (f"`{names}`", f"`{option.name}`", _shown(option.default), option.metadata["help"])
        )
    return table(*rows)


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or "none"
    return "unset" if default is None else str(default)


def errors_table() -> str:
    rows = [("class", "when", "does retrying help?")]
    for kind in RequestError.__subclasses__():
        first_line = str(kind.__doc__).partition("\n")[0]
        rows.append((f"`{kind.__name__}`", first_line, "yes" if kind.retryable else "no"))
    return table(*rows)


def client_options_table() -> str:
    return table(
        ("option", "default", "meaning"),
        *(
            (f"`{option.name}`", _shown(option.default), option.metadata["help"])
            for option in fields(ClientOptions)
        ),
    )


def settings_table() -> str:
    rows = [("variable", "default", "meaning")]
    for name, field in Settings.model_fields.items():
        names = "`, `".join(variables(name))
        rows.append((f"`{names}`", _shown(field.default), str(field.description)))
    return table(*rows)


def roads_table() -> str:
    names = {road: road.value.upper() for road in (Road.ONNX, Road.FIL)}
    names |= {Road.TORCHSCRIPT: "TorchScript", Road.PYTHON: "Python"}
    rows = [("framework", "rungs, in this order", "only with `--road`")]
    for framework in FRAMEWORKS:
        cells: dict[bool, list[str]] = {False: [], True: []}
        for entry in ENTRIES:
            if entry.framework == framework:
                cells[entry.asked_only].append(f"{names[entry.road]} ({entry.rung})")
        rows.append((framework, ", ".join(cells[False]), ", ".join(cells[True])))
    return table(*rows)


def classes_table() -> str:
    rows = [("library", "classes", "which")]
    for library, known in groupby(registry.known(), key=lambda pair: pair[0]):
        classes = [f"`{name}`" for _, name in known if not name.startswith("_")]
        rows.append((library, str(len(classes)), ", ".join(classes)))
    return table(*rows)


def releases_table() -> str:
    rows = [("containers", "ONNX Runtime", "opset up to", "`ai.onnx.ml` up to", "IR up to")]
    for version, group in groupby(RELEASES.values(), key=lambda release: release.onnxruntime):
        same = list(group)
        limits = same[0].limits
        numbers = (limits.opset, limits.ml_opset, limits.ir_version)
        names = ", ".join(release.name for release in same)
        rows.append((names, version, *(str(number) for number in numbers)))
    return table(*rows)


@pytest.mark.parametrize(
    ("page", "name", "generate"),
    [
        ("options.md", "options", options_table),
        ("client.md", "errors", errors_table),
        ("client.md", "client-options", client_options_table),
        ("gateway.md", "settings", settings_table),
        ("convert.md", "roads", roads_table),
        ("convert.md", "releases", releases_table),
        ("exact.md", "classes", classes_table),
    ],
)
def test_a_table_says_what_the_code_says(page: str, name: str, generate: Callable[[], str]) -> None:
    path = DOCS / page
    text = path.read_text(encoding="utf-8")
    start, end = between(text, name)
    if UPDATE:
        path.write_text(text[:start] + generate() + text[end:], encoding="utf-8")
        return
    assert text[start:end] == generate(), "UPDATE_DOCS=1 pytest tests/docs writes it anew"


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Parse:
    """Parse a command line with click, run nothing, and give the context it made."""
    parsed: list[click.Context] = []
    for command in _leaves(toolkit):
        monkeypatch.setattr(command, "callback", _keep_context(parsed))
    monkeypatch.chdir(tmp_path)
    Path("serving.yaml").write_text(_options_file(), encoding="utf-8")

    def run(arguments: list[str]) -> click.Context:
        result = CliRunner().invoke(toolkit, arguments)
        assert result.exit_code == 0, result.output or repr(result.exception)
        return parsed.pop() if parsed else click.Context(toolkit)  # --help runs nothing

    return run


def _keep_context(parsed: list[click.Context]) -> Callable[..., None]:
    return lambda **_: parsed.append(click.get_current_context())


def _leaves(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from _leaves(command)
        else:
            yield command


def _options_file() -> str:
    page = (DOCS / "options.md").read_text(encoding="utf-8")
    return next(block.text for block in blocks(page) if block.info == "yaml options")


def command_lines(page: str) -> list[str]:
    """Return the lines of fenced blocks that run ``toolkit``, output with a hint included."""
    text = "\n".join(block.text for block in blocks(page)).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    start = re.compile(r"(?:\$ |next: |try: |.*\| |.*&& )?(?:\S*/)?toolkit (?=[a-z-])")
    return [line[match.end() :] for line in lines if (match := start.match(line))]


def _arguments(line: str) -> list[str]:
    """Split a line as the shell does; leave out what is no part of the command."""
    tokens = shlex.shlex(line, posix=True, punctuation_chars=True)
    tokens.whitespace_split = True
    arguments = []
    for token in tokens:
        if set(token) <= set("();<>|&"):
            break
        arguments.append(token)
    return arguments


@pytest.mark.parametrize("page", COMMAND_PAGES, ids=lambda path: path.name)
def test_every_command_line_of_a_page_parses(page: Path, parse: Parse) -> None:
    for line in command_lines(page.read_text(encoding="utf-8")):
        parse(_arguments(line))


@pytest.mark.parametrize("page", COMMAND_PAGES, ids=lambda path: path.name)
def test_every_command_and_flag_named_in_the_text_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for words in re.findall(r"`toolkit ([^`]+)`", text):
        command: click.Command = toolkit
        for word in shlex.split(words):
            if isinstance(command, click.Group) and not word.startswith("-"):
                assert word in command.commands, words
                command = command.commands[word]
        known = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
        flags = {word for word in shlex.split(words) if word.startswith("-") and len(word) > 1}
        assert flags <= known | {"--debug", "--help"}, words


def test_a_command_line_that_does_not_exist_is_noticed(parse: Parse) -> None:
    (line,) = command_lines("```\n$ toolkit deploy churn --prot 1  # no such flag\n```\n")
    with pytest.raises(AssertionError, match="No such option"):
        parse(_arguments(line))


def test_the_example_options_file_means_what_it_says(parse: Parse) -> None:
    context = parse(["convert", "churn.joblib", "--options", "serving.yaml"])
    config = serving_config(context.params, _artifact())
    assert (config.max_batch_size, config.max_queue_size) == (64, 256)
    assert config.default_timeout_microseconds == 2_000_000
    assert (config.instance_count, config.response_cache) == (2, True)
    assert config.warmup_batch_sizes == (1, 64)
    assert (context.params["sample"], context.params["release"]) == ("customers.csv", "25.11")


def _artifact() -> Artifact:
    tensor = TensorSpec("x", DType.FP32, (2,))
    report = ParityReport("a model", 1, 1, 0.0, 0.0, 0, 0.0, 0.0, 0.0, passed=True)
    row = {"x": WarmupInput((2,), bytes(8))}
    spec = ModelSpec("m", "onnxruntime", (tensor,), (tensor,))
    return Artifact(spec, Road.ONNX, "sklearn", {}, report, row)


@pytest.mark.parametrize("page", COMMAND_PAGES, ids=lambda path: path.name)
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link
