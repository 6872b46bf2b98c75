"""``toolkit predict``: rows of any file through a real server, into any file, in order."""

import csv
import gzip
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.cli.program import Ended, Run, start
from toolkit.client import Client
from toolkit.deploy.state import Server
from toolkit.tables.layout import Block, Layout

Ask = Callable[..., Ended]
MODELS = ("people", "text", "echo", "unbatched", "raises", "slow", "picture", "total")
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def server(serve: Callable[[Path], Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    repository = tmp_path_factory.mktemp("predict") / "repository"
    shutil.copytree(TESTS / "client" / "models", repository)
    shutil.copytree(TESTS / "cli" / "models", repository, dirs_exist_ok=True)
    running = serve(repository)
    with Client(running.http_url, token=running.token) as control:
        for model in MODELS:
            control.load(model)
    return running


@pytest.fixture
def ask(run: Run, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run ``toolkit predict ARGUMENTS`` in an empty folder, against the server."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run("predict", *arguments, "--url", server.http_url)


PEOPLE = [(30, "0123"), (40, "Köln; Süd"), (50, "東京"), (60, 'the "big" one'), (70, "")] * 3
LINES = [[f"{city}:{age}"] for age, city in PEOPLE]


def as_csv(path: Path, separator: str = ",", encoding: str = "utf-8") -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerows([("city", "age"), *((city, age) for age, city in PEOPLE)])


def as_tsv(path: Path) -> None:
    as_csv(path, "\t")


def as_semicolons_with_a_byte_order_mark(path: Path) -> None:
    as_csv(path, ";", "utf-8-sig")


def as_gzip(path: Path) -> None:
    plain = path.with_suffix("")
    as_csv(plain)
    path.write_bytes(gzip.compress(plain.read_bytes()))


def as_parquet(path: Path) -> None:
    pd.DataFrame(PEOPLE, columns=["age", "city"]).to_parquet(path, index=False)


def as_json_lines(path: Path) -> None:
    lines = [json.dumps({"city": city, "age": age}) for age, city in PEOPLE]
    path.write_text("\n".join(lines), encoding="utf-8")


def as_records(path: Path) -> None:
    path.write_text(json.dumps([{"age": age, "city": city} for age, city in PEOPLE]))


def as_columns(path: Path) -> None:
    columns = {"age": [age for age, _ in PEOPLE], "city": [city for _, city in PEOPLE]}
    path.write_text(json.dumps(columns))


def as_npz(path: Path) -> None:
    np.savez(path, age=[age for age, _ in PEOPLE], city=np.array([city for _, city in PEOPLE]))


FORMS: list[tuple[str, Callable[[Path], None]]] = [
    ("rows.csv", as_csv), ("rows.tsv", as_tsv), ("rows.csv", as_semicolons_with_a_byte_order_mark),
    ("rows.csv.gz", as_gzip), ("rows.parquet", as_parquet), ("rows.jsonl", as_json_lines),
    ("rows.json", as_records), ("rows.json", as_columns), ("rows.npz", as_npz),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write"), FORMS)
def test_the_rows_of_every_format_arrive_as_they_are(
    ask: Ask, name: str, write: Callable[[Path], None]
) -> None:
    write(Path(name))
    ended = ask("people", "--input", name)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == {"line": LINES}


@pytest.mark.parametrize(("name", "write"), FORMS)
def test_standard_input_tells_its_format_itself(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[Path], None]
) -> None:
    write(Path(name))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(name).read_bytes())))
    ended = ask("people", "--input", "-")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == {"line": LINES}


VECTORS = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)


def table(path: Path) -> Any:
    read: dict[str, Any] = {".parquet": pd.read_parquet, ".tsv": partial(pd.read_csv, sep="\t")}
    found = read.get(path.suffix, pd.read_csv)(path)
    return found[[f"y_{place}" for place in range(4)]].to_numpy(np.float32)


def npz_array(path: Path) -> Any:
    with np.load(path) as archive:
        assert not archive["error"].any()
        return archive["y"]


READERS: dict[str, Callable[[Path], Any]] = {
    "out.csv": table,
    "out.csv.gz": table,
    "out.tsv": table,
    "out.parquet": table,
    "out.jsonl": lambda path: [json.loads(line)["y"] for line in path.read_text().splitlines()],
    "out.json": lambda path: [row["y"] for row in json.loads(path.read_text())],
    "out.npz": npz_array,
    "out.npy": np.load,
}


@pytest.mark.parametrize("name", list(READERS))
def test_answers_lie_in_every_format_in_the_order_of_the_rows(ask: Ask, name: str) -> None:
    np.save("rows.npy", VECTORS)
    ended = ask("echo", "--input", "rows.npy", "--output", name, "--outputs", "y")
    assert ended.code == 0, ended.err
    np.testing.assert_array_equal(np.asarray(READERS[name](Path(name))), VECTORS * 2)
    assert "300 rows to" in ended.err
    assert ended.out == ""
    assert not list(Path().glob(".*"))


def test_json_lines_flow_to_standard_output(ask: Ask) -> None:
    ended = ask("echo", "--input", "[[1, 2, 3, 4], [5, 6, 7, 8]]", "--output", "-")
    assert [json.loads(line)["y"][0] for line in ended.out.splitlines()] == [2.0, 10.0]


def test_options_reach_the_server(ask: Ask, server: Server) -> None:
    np.save("rows.npy", VECTORS[:6])
    ended = ask(
        "echo", "--input", "rows.npy", "--outputs", "rows", "--batch-size", "2", "--concurrency",
        "1", "--priority", "1", "--version", "1", "--retries", "0", "--deadline", "20",
    )  # fmt: skip
    assert json.loads(ended.out) == {"rows": [2] * 6}
    unasked = ask("echo", "--input", "rows.npy", "--version", "9")
    assert unasked.code == 1
    assert "version 9" in unasked.err


def test_grpc_and_several_urls_answer_alike(run: Run, server: Server) -> None:
    rows = ["--input", "[[1, 2, 3, 4]]", "--outputs", "y"]
    address = server.grpc_url.removeprefix("grpc://")
    over_grpc = run("predict", "echo", *rows, "--protocol", "grpc", "--url", address)
    replicas = run("predict", "echo", *rows, "--url", server.http_url, "--url", server.http_url)
    assert json.loads(over_grpc.out) == json.loads(replicas.out) == {"y": [[2.0, 4.0, 6.0, 8.0]]}


def test_a_url_and_a_protocol_that_differ_are_a_usage_error(ask: Ask, server: Server) -> None:
    ended = ask("echo", "--input", "[[1, 2, 3, 4]]", "--protocol", "grpc")
    assert ended.code == 2
    assert "is HTTP, --protocol says grpc" in ended.err


def test_rows_that_fail_keep_their_place_and_the_others_are_answered(ask: Ask) -> None:
    Path("rows.csv").write_text("age,city\n30,a\nold,b\n,c\n40,d\n3.5,e\n")
    ended = ask("people", "--input", "rows.csv", "--output", "out.csv")
    assert ended.code == 3
    assert "3 of 5 rows failed; the first: rows.csv, line 3, column 'age': 'old'" in ended.err
    with Path("out.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["line"] for row in found] == ["a:30", "", "", "d:40", ""]
    assert [row["error"] for row in found] == [
        "",
        "line 3, column 'age': 'old' is no INT64",
        "line 4, column 'age': a value is missing, and INT64 has no word for that",
        "",
        "line 6, column 'age': '3.5' is no INT64",
    ]


def test_a_failed_row_of_json_lines_holds_nothing_but_its_error(ask: Ask) -> None:
    lines = ['{"age": 1, "city": "a"}', '{"age": 2}', '{"age": 3, "city": 4}']
    Path("rows.jsonl").write_text("\n".join(lines))
    ended = ask("people", "--input", "rows.jsonl", "--output", "-")
    assert ended.code == 3
    assert [json.loads(line) for line in ended.out.splitlines()] == [
        {"line": ["a:1"]},
        {"error": "line 2: its keys are not those of the first row (missing: 'city')"},
        {"error": "line 3, column 'city': 4 is no text"},
    ]


def with_ids(name: str) -> None:
    frame = pd.DataFrame({"id": [None, "b"], "age": [1, 2], "city": ["x", "y"]})
    if name.endswith(".parquet"):
        frame.to_parquet(name, index=False)
    elif name.endswith(".csv"):
        frame.to_csv(name, index=False)
    elif name.endswith(".npz"):
        np.savez(name, id=["a", "b"], age=[1, 2], city=["x", "y"])
    else:
        frame.to_json(name, orient="records", lines=name.endswith(".jsonl"))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl", "a.json", "a.npz"])
def test_columns_that_are_not_for_the_model_can_be_dropped(ask: Ask, name: str) -> None:
    with_ids(name)
    ended = ask("people", "--input", name, "--drop", "id")
    assert json.loads(ended.out) == {"line": [["x:1"], ["y:2"]]}
    assert (
        f"{name} has no column 'note' to drop"
        in ask("people", "--input", name, "--drop", "id,note").err
    )


def test_a_missing_number_is_nan(ask: Ask) -> None:
    Path("rows.csv").write_text("a,b,c,d\n1,,NA,2\n")
    ended = ask("echo", "--input", "rows.csv", "--outputs", "y")
    assert json.loads(ended.out) == {"y": [[2.0, None, None, 4.0]]}


def test_a_model_that_fails_gives_no_file_and_its_reason(ask: Ask) -> None:
    ended = ask("raises", "--input", "[[1], [2]]", "--output", "out.csv")
    assert ended.code == 1
    assert "the sums do not add up" in ended.err
    assert not list(Path().iterdir())


def test_a_model_without_a_batch_axis_is_asked_once(ask: Ask) -> None:
    rows = "[[1, 2], [3, 4], [5, 6]]"
    ended = ask("unbatched", "--input", rows)
    assert ended.code == 0, ended.err
    assert len(json.loads(ended.out)["total"]) >= 1


def test_a_model_without_a_batch_axis_may_be_asked_row_by_row(ask: Ask) -> None:
    rows = "[[1, 2], [3, 4], [5, 6]]"
    ended = ask("unbatched", "--input", rows, "--batch-size", "1")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == {"total": [[3.0], [7.0], [11.0]]}


def test_answers_that_are_not_one_a_row_are_refused_and_not_mixed_up(ask: Ask) -> None:
    rows = "[[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]"
    ended = ask("total", "--input", rows)
    assert ended.code == 1
    assert "'total' of shape [1, 1] for 4 rows, which is not one a row" in ended.err
    assert "--batch-size 1" in ended.err
    alone = ask("total", "--input", rows, "--batch-size", "1")
    assert json.loads(alone.out) == {"total": [[3.0], [7.0], [11.0], [15.0], [19.0]]}


def test_the_summary_is_json_for_programs(ask: Ask) -> None:
    np.save("rows.npy", VECTORS)
    ended = ask("echo", "--input", "rows.npy", "--output", "out.csv", "--json")
    summary = json.loads(ended.out)
    assert (summary["rows"], summary["answered"], summary["failed"]) == (300, 300, 0)
    assert ended.err == ""


def test_pictures_of_a_folder_are_rows_with_their_names(ask: Ask) -> None:
    folder = Path("pictures")
    folder.mkdir()
    for name, colour in (("b.png", (255, 0, 0)), ("a.png", (0, 0, 255))):
        Image.new("RGB", (5, 7), colour).save(folder / name)
    (folder / "c.png").write_bytes(b"no picture")
    ended = ask("picture", "--input", "pictures", "--output", "out.csv")
    assert ended.code == 3, ended.err
    with Path("out.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["file"] for row in found] == ["a.png", "b.png", "c.png"]
    assert [row["colour_2"] for row in found] == ["1", "0", ""]
    assert "c.png" in found[2]["error"]
    alone = ask("picture", "--input", "pictures/b.png")
    assert json.loads(alone.out) == {"file": ["b.png"], "colour": [[1.0, 0.0, 0.0]]}


def test_texts_of_a_folder_are_rows_with_their_names(ask: Ask) -> None:
    folder = Path("texts")
    (folder / "deep").mkdir(parents=True)
    (folder / "one.txt").write_text("0123\n", encoding="utf-8")
    (folder / "deep" / "two.txt").write_text("Köln", encoding="utf-8")
    (folder / "notes.log").write_text("no")
    ended = ask("text", "--input", "texts", "--recursive", "--output", "-")
    assert ended.code == 0, ended.err
    assert [json.loads(line) for line in ended.out.splitlines()] == [
        {"file": "deep/two.txt", "text": ["Köln"]},
        {"file": "one.txt", "text": ["0123\n"]},
    ]


def write(name: str, data: bytes) -> Callable[[], str]:
    def put() -> str:
        Path(name).write_bytes(data)
        return name

    return put


def pickled() -> str:
    np.save("pickled.npy", np.array([{"age": 1}], dtype=object))
    return "pickled.npy"


def cut_parquet() -> str:
    as_parquet(Path("whole.parquet"))
    data = Path("whole.parquet").read_bytes()
    return write("cut.parquet", data[: len(data) // 2])()


def numbers_for_texts() -> str:
    pd.DataFrame({"age": [1], "city": [2]}).to_parquet("numbers.parquet", index=False)
    return "numbers.parquet"


def empty_folder() -> str:
    Path("nothing").mkdir()
    return "nothing"


BAD: list[tuple[Callable[[], str], str, str]] = [
    (write("a.csv", b"age\n1\n"), "a.csv: the names do not match", "the model takes 'age', 'city'"),
    (write("a.csv", b"age,city,id\n1,a,2\n"), "unknown: 'id'", "--drop id"),
    (write("a.csv", b"age,city\n1,a\n2\n"), "a.csv, line 3: 1 values, but", "double quotes"),
    (write("a.csv", b"age,city\n1,K\xf6ln\n"), "a.csv, line 2: not UTF-8 text", "iconv"),
    (write("a.csv", "age,city\n1,a\n".encode("utf-16")), "a.csv is UTF-16", "save it as UTF-8"),
    (write("a.csv", b"age,city\nx,a\n"), "a.csv, line 2, column 'age': 'x' is no INT64", ""),
    (write("a.csv", b'age,city\n1,"a\n2,b\n'), "line 2: a quote that is opened here is never", ""),
    (write("a.csv", b""), "a.csv is empty", ""),
    (write("a.csv", b"age,city\n"), "a.csv holds no rows", ""),
    (write("a.csv", b"1,2\n3,4\n"), "the first line is numbers", "begin with the names: age,city"),
    (write("a.csv.gz", gzip.compress(b"age,city\n1,a\n" * 99)[:-20]), "damaged or cut short", ""),
    (write("a.jsonl", b'{"age": 1, "city": "a"}\n{"age"\n'), "a.jsonl, line 2: not JSON", ""),
    (write("a.jsonl", b"[1]\n"), "takes 2 inputs (age, city)", "give objects with age, city"),
    (write("a.xls", b"\xd0\xcf"), "a.xls: rows cannot be read from a .xls", "--format csv|"),
    (cut_parquet, "cut.parquet: is no whole Parquet file", ""),
    (numbers_for_texts, "numbers.parquet, column 'city': holds int64, the model takes text", ""),
    (pickled, "pickled.npy: holds Python objects", "astype('U')"),
    (empty_folder, "nothing is an empty folder", "--recursive"),
    (lambda: "nowhere.csv", "nowhere.csv does not exist", ""),
    (lambda: '{"age": [1], "city": ["a", "b"]}', "differ in their number of rows", "for example"),
]


@pytest.mark.parametrize(("prepare", "words", "hint"), BAD, ids=[words for _, words, _ in BAD])
def test_bad_input_is_one_line_and_no_file(
    ask: Ask, prepare: Callable[[], str], words: str, hint: str
) -> None:
    ended = ask("people", "--input", prepare(), "--output", "out.csv")
    first, *rest = ended.err.splitlines()
    assert ended.code == 1
    assert first.startswith("error: ")
    assert words in first
    assert all(line.startswith("  try: ") for line in rest)
    assert hint in "\n".join(rest)
    assert not Path("out.csv").exists()
    assert not list(Path().glob(".out*"))


def test_the_input_is_never_written_over(ask: Ask) -> None:
    as_csv(Path("rows.csv"))
    Path("link.csv").symlink_to("rows.csv")
    before = Path("rows.csv").read_bytes()
    for name in ("rows.csv", "link.csv"):
        assert "is the input" in ask("people", "--input", "rows.csv", "--output", name).err
    assert Path("rows.csv").read_bytes() == before


def test_names_or_values_is_asked_and_not_guessed(ask: Ask) -> None:
    Path("rows.csv").write_text("0,1,2,3\n4,5,6,7\n")
    assert "0,1,2,3 may be names or values" in ask("echo", "--input", "rows.csv").err
    Path("rows.csv").write_text("0.0,1,2,3\n4,5,6,7\n")
    assert len(json.loads(ask("echo", "--input", "rows.csv").out)["y"]) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_leaves_the_file_that_was_there(
    server: Server, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "out.csv").write_text("as before")
    rows = json.dumps([[0.2]] * 500)
    program = start(
        "predict", "slow", "--input", rows, "--output", "out.csv", "--url", server.http_url,
        "--batch-size", "1", "--concurrency", "2", cwd=tmp_path,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".out.csv.*.part")):
        assert time.monotonic() < deadline
        assert program.poll() is None
        time.sleep(0.02)
    program.send_signal(number)
    _, err = program.communicate(timeout=30)
    assert program.returncode == 130, err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert (tmp_path / "out.csv").read_text() == "as before"


def test_rows_are_written_while_others_are_still_read(server: Server, tmp_path: Path) -> None:
    program = start(
        "predict", "echo", "--input", "-", "--input-format", "jsonl", "--output", "-",
        "--outputs", "y", "--url", server.http_url, stdin=subprocess.PIPE, cwd=tmp_path,
    )  # fmt: skip
    assert program.stdin is not None
    assert program.stdout is not None
    assert program.stderr is not None
    for number in range(3000):  # Far more than one piece.
        program.stdin.write(f"[{number}, 1, 2, 3]\n")
    program.stdin.flush()
    assert json.loads(program.stdout.readline()) == {"y": [0.0, 2.0, 4.0, 6.0]}
    program.stdin.write("[3000, 1, 2, 3]\n")
    program.stdin.close()
    found = [json.loads(line)["y"][0] for line in program.stdout]
    assert program.wait(60) == 0
    assert found == [2.0 * number for number in range(1, 3001)]
    assert "3,001 rows, 0 failed" in program.stderr.read()
    program.stdout.close()
    program.stderr.close()


def test_columns_are_named_for_outputs_classes_and_values() -> None:
    outputs = {
        "label": np.array([0, 1]),
        "probabilities": np.eye(2),
        "embedding": np.zeros((2, 3)),
        "prediction": np.zeros((2, 1)),
        "grid": np.zeros((2, 2, 1)),
    }
    layout = Layout.of(Block(2, outputs, {}, None, ("no", "yes")))
    assert layout.names == [
        "label", "probabilities_no", "probabilities_yes", "embedding_0", "embedding_1",
        "embedding_2", "prediction", "grid_0_0", "grid_1_0", "error",
    ]  # fmt: skip
    assert layout.table(Block(2, outputs, {})).num_columns == 10
