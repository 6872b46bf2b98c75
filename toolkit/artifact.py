"""What a conversion gives: a proven model, ready to be written into a repository."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.spec import ModelSpec, Road


@dataclass(frozen=True, slots=True)
class ParityReport:
    """What the comparison of a converted model with its original found.

    ``worst_absolute`` and ``worst_relative`` are the largest differences over all
    numeric outputs; ``label_mismatches`` counts rows whose label or text differs.
    ``batch_spread`` is the largest difference between the artifact's answer to a row
    alone and to the same row inside batches of 2, of 7 and of all rows: 0.0 means bit
    for bit the same. ``kinds`` counts the rows by kind; ``cause`` says, where it could be
    found, what a difference comes from.
    """

    reference: str
    rows: int
    sample_rows: int
    worst_absolute: float
    worst_relative: float
    label_mismatches: int
    batch_spread: float
    atol: float
    rtol: float
    passed: bool
    kinds: Mapping[str, int] = field(default_factory=dict)
    worst_row: Mapping[str, object] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WarmupInput:
    """One row of an input: its dims without the batch axis, and its raw binary form.

    Strings are a four-byte little-endian length and UTF-8 bytes, one after another.
    """

    dims: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Artifact:
    """A proven model, ready to be written into a repository.

    ``files`` maps names inside the version folder to files on disk; ``warmup`` maps
    input names to one row; ``refused`` says why each rung of the ladder that was tried, other
    than ``rung``, was left, ``notes`` what its user ought to know.
    """

    spec: ModelSpec
    road: Road
    framework: str
    files: Mapping[str, Path]
    parity: ParityReport
    warmup: Mapping[str, WarmupInput] = field(default_factory=dict)
    rung: str = ""
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
