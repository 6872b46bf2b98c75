"""Where rows come from: a file, standard input, the command line, a folder."""

import io
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from gzip import BadGzipFile
from pathlib import Path
from typing import IO, Any

from toolkit.errors import SampleError
from toolkit.samples import UnreadableError
from toolkit.tables import binary, delimited, formats, json_rows
from toolkit.tables.files import Files, is_media
from toolkit.tables.fitting import Fitter, Piece, Takes

_EXAMPLE = """for example '[[5.1, 3.5, 1.4, 0.2]]' or '{"age": [34]}'"""


@dataclass(slots=True)
class Source:
    """Rows that can be gone through once; ``path`` is None for what is no file."""

    name: str
    format: str
    stream: io.BufferedReader
    path: Path | None = None
    size: int | None = None
    value: Any = None
    file: IO[bytes] | None = None
    first: list[bytes] = field(default_factory=list)

    def pieces(self, takes: Takes, rows: int) -> Iterator[Piece]:
        """Yield the rows for a model, ``rows`` at a time.

        Raises ``SampleError`` or ``InvalidInputError``, with the line where there is one,
        for what is not readable or cannot be given to the model at all.
        """
        fitter = Fitter(self.name, takes)
        count = 0
        with _told(self.name):
            for piece in _READERS[self.format](self, fitter, rows):
                count += piece.count
                yield piece
        if count == 0:
            raise SampleError(f"{self.name} holds no rows")

    @property
    def read(self) -> float | None:
        """How much of the file was read, from 0 to 1; None where its size is unknown."""
        if not self.size or self.file is None or self.file.closed:
            return None
        return min(self.file.tell() / self.size, 1.0)

    def close(self) -> None:
        """Close the file; standard input is not ours."""
        if self.file is not None:
            self.stream.close()
            self.file.close()


def open_rows(
    given: str,
    wanted: str | None,
    stdin: Callable[[], IO[bytes]],
    files: Callable[[Path], Iterator[Path]],
) -> Source | Files:
    """Return the rows of a file or folder, of ``-`` (standard input), or of JSON as it stands.

    ``wanted`` is the format where one is given, ``files`` lists a folder. Raises
    ``SampleError`` for what is missing, empty, or of no known format, and for JSON that is
    none.
    """
    if given == "-":
        return _looked_into("standard input", stdin(), wanted)
    if given.lstrip().startswith(("[", "{")):
        return _looked_into("the input", io.BytesIO(given.encode()), wanted or "json")
    path = Path(given)
    if path.is_dir():
        return Files(given, path, list(files(path)))
    known = wanted or formats.by_suffix(path)
    if known is None and path.is_file() and is_media(path):
        return Files(given, path.parent, [path])
    with _told(given):
        if known is None and path.exists():
            raise SampleError(
                f"{path}: rows cannot be read from a {path.suffix or 'file without a suffix'}",
                hint=f"add --format {'|'.join(formats.INPUT_FORMATS)}",
            )
        file = path.open("rb")
        try:
            source = _looked_into(given, file, known)
        except BaseException:
            file.close()
            raise
        source.file, source.path = file, path
        source.size = os.fstat(file.fileno()).st_size
        return source


def _looked_into(name: str, stream: IO[bytes], known: str | None) -> Source:
    with _told(name):
        reader = formats.unpacked(stream, name)
        found = formats.by_first_bytes(reader, name)
        if known in {None, "json"} and found == "json":
            return _json(name, reader, lines=known is None)
        return Source(name, known or found, reader)


def _json(name: str, stream: io.BufferedReader, *, lines: bool) -> Source:
    """Return JSON, already read, or JSON Lines if a second value follows the first line."""
    with _told(name):
        first = stream.readline() if lines else b""
        while lines and not first.strip():
            first = stream.readline()
        if lines and json_rows.is_whole(first) and stream.peek(1).strip():
            return Source(name, "jsonl", stream, first=[first])
        value = json_rows.parse(first + stream.read())
        return Source(name, "json", stream, value=value)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Say in our words what went wrong with the file called ``name``."""
    try:
        yield
    except FileNotFoundError as error:
        raise SampleError(f"{name} does not exist") from error
    except (BadGzipFile, EOFError, zlib.error) as error:
        raise SampleError(f"{name} is damaged or cut short: {error}") from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SampleError(f"{name} cannot be read: {error.strerror or error}") from error
    except UnreadableError as error:
        hint = error.hint or (_EXAMPLE if name == "the input" else None)
        raise SampleError(f"{name}{error.place}: {error.reason}", hint=hint) from error


_READERS: Mapping[str, Callable[[Any, Fitter, int], Iterator[Piece]]] = {
    "csv": delimited.read,
    "tsv": delimited.read,
    "jsonl": json_rows.read_lines,
    "json": json_rows.read_whole,
    "parquet": binary.read_parquet,
    "npy": binary.read_npy,
    "npz": binary.read_npz,
}
