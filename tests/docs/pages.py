"""Read and rewrite the pages: fenced blocks and generated tables.

``UPDATE_DOCS=1 pytest tests/docs`` writes what is found into the pages instead of
comparing it.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
UPDATE = os.environ.get("UPDATE_DOCS") == "1"

_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"\d[\d.,]*(?:e[+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: what stands behind the fence, its text, and where the text is."""

    info: str
    text: str
    start: int
    end: int


def blocks(page: str) -> tuple[Block, ...]:
    """Return the fenced blocks of a page's text."""
    return tuple(Block(m[1], m[2], m.start(2), m.end(2)) for m in _BLOCK.finditer(page))


def between(page: str, name: str) -> tuple[int, int]:
    """Return where the generated part called ``name`` begins and ends."""
    opening, closing = f"<!-- generated: {name} -->\n", "<!-- end -->"
    start = page.index(opening) + len(opening)
    return start, page.index(closing, start)


def table(*rows: tuple[str, ...]) -> str:
    """Return a Markdown table; the first row is its head."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join((head, "|" + "---|" * len(rows[0]), *body)) + "\n"


def without_numbers(text: str) -> str:
    """Return output as it is compared: without what differs from machine to machine.

    That is numbers, and with them the widths of tables, and the order of keys in JSON.
    """
    return "\n".join(_comparable(text))


def _comparable(text: str) -> Iterator[str]:
    for line in text.splitlines():
        ordered = json.dumps(json.loads(line), sort_keys=True) if line[:1] == "{" else line
        words = " ".join(_NUMBER.sub("#", ordered).replace("─", "").split())
        if words:
            yield words


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Give each command of a console block, without its ``$``, and the output below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output
