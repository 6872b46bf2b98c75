"""Which format a file has: by its suffix, or by its first bytes where there is no name."""

import gzip
import io
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from toolkit.errors import ConfigError, SampleError

INPUT_FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "npy", "npz")
OUTPUT_FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "npy", "npz")

_SUFFIXES: Mapping[str, str] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".npy": "npy",
    ".npz": "npz",
}
_GZIP = b"\x1f\x8b"
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PAR1", "parquet"),
    (b"\x93NUMPY", "npy"),
    (b"PK\x03\x04", "npz"),
)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def by_suffix(path: Path) -> str | None:
    """Return the format that the name tells, ``.gz`` aside; None where it tells none."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return _SUFFIXES.get(plain.suffix.lower())


def output_format(path: Path) -> str:
    """Return the format for a file to be written; ``ConfigError`` where its name tells none."""
    found = by_suffix(path)
    if found is None:
        raise ConfigError(
            f"{path}: its suffix tells no format to write",
            hint=f"add --format {'|'.join(OUTPUT_FORMATS)}, or a suffix such as .csv",
        )
    return found


def unpacked(stream: IO[bytes], name: str) -> io.BufferedReader:
    """Return the stream so that one can look ahead, without the gzip around it."""
    reader = _ahead(stream)
    if reader.peek(2)[:2] == _GZIP:
        reader = _ahead(gzip.GzipFile(fileobj=reader))
    if reader.peek(2)[:2] in _UTF16:
        raise SampleError(f"{name} is UTF-16 text", hint="save it as UTF-8")
    return reader


def _ahead(stream: Any) -> io.BufferedReader:
    return stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)


def by_first_bytes(stream: io.BufferedReader, name: str) -> str:
    """Return what the stream looks like; ``json`` may turn out to be JSON Lines."""
    start = stream.peek(64)
    if not start:
        raise SampleError(f"{name} is empty")
    for magic, found in _MAGIC:
        if start.startswith(magic):
            return found
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    return "json" if text[:1] in {b"[", b"{"} else "csv"
