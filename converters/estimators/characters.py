"""What a text vectorizer makes of each character, as tables built from Python's own rules.

Lower case, accents and word characters are those of the Python that converts; the model
asks no locale. ``str.lower`` and NFKD treat each character by itself, save for one: a
capital sigma at the end of a word (see ``sigma_context``).
"""

import functools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.errors import UnsupportedModelError

Mask = npt.NDArray[np.bool_]

SIGMA = "Σ"
FINAL_SIGMA = "ς"
_LIMIT = 0x110000
SURROGATES = range(0xD800, 0xE000)
_ATOM = re.compile(r"(\\[wWdDsS]|\[(?:\\.|[^\]\\])+\])(\+|\{\d+(?:,\d*)?\})?")


@dataclass(frozen=True, slots=True)
class TokenRule:
    """A token is a run of ``run`` characters of a length from ``shortest`` to ``longest``.

    With ``inside`` it counts only if all of its characters are among those.
    """

    run: Mask
    inside: Mask | None
    shortest: int
    longest: int | None

    @property
    def behind(self) -> str:
        """A text that is no token, to stand behind the last one."""
        return chr(int(np.flatnonzero(~self.run)[0]))


@functools.cache
def every_character() -> str:
    """Return all characters but the surrogates, which no UTF-8 text holds."""
    return "".join(chr(code) for code in range(_LIMIT) if code not in SURROGATES)


@functools.cache
def matching(pattern: str) -> Mask:
    """Return which code points a pattern of one character matches."""
    found = np.zeros(_LIMIT - len(SURROGATES), dtype=np.bool_)
    for run in re.finditer(f"(?:{pattern})+", every_character()):
        found[run.start() : run.end()] = True
    return np.insert(found, SURROGATES.start, np.zeros(len(SURROGATES), dtype=np.bool_))


def _mask(characters: Iterable[str]) -> Mask:
    mask = np.zeros(_LIMIT, dtype=np.bool_)
    mask[[ord(character) for character in characters]] = True
    return mask


def token_rule(model: Any) -> TokenRule:
    r"""Read ``token_pattern``: one class of characters, repeated, or that between ``\\b``.

    Raises:
        UnsupportedModelError: the pattern is another.
    """
    name, pattern = type(model).__name__, model.token_pattern
    body = pattern.removeprefix("(?u)")
    opens, closes = body.startswith(r"\b"), body.endswith(r"\b")
    body = body.removeprefix(r"\b").removesuffix(r"\b")
    atoms = _ATOM.findall(body)
    if "".join(atom + count for atom, count in atoms) != body or len({a for a, _ in atoms}) != 1:
        raise _unread(name, pattern)
    shortest, longest = _lengths([count for _, count in atoms])
    chosen, words = matching(atoms[0][0]), matching(r"\w")
    alike = bool((chosen == words).all())
    bounded = (opens and closes) or not (opens or closes) or alike
    bounded = bounded and (longest is None or (opens and closes))
    bounded = bounded and not chosen[: SURROGATES.start].all()
    if not bounded or shortest == 0 or (opens and (chosen & ~words).any()):
        raise _unread(name, pattern)
    if opens and not alike:
        return TokenRule(words, chosen, shortest, longest)
    return TokenRule(chosen, None, shortest, longest)


def _unread(name: str, pattern: str) -> UnsupportedModelError:
    msg = f"{name}: token_pattern={pattern!r} is more than one repeated class of characters"
    return UnsupportedModelError(msg)


def _lengths(counts: list[str]) -> tuple[int, int | None]:
    """Return the shortest and longest run that quantifiers in a row allow."""
    shortest, longest = 0, 0
    endless = False
    for count in counts:
        low, comma, high = count.strip("{}").partition(",")
        if count in {"", "+"}:
            low, comma, high = "1", "," * (count == "+"), ""
        shortest += int(low)
        longest += int(high or low)
        endless = endless or bool(comma and not high)
    return shortest, None if endless else longest


@dataclass(frozen=True, slots=True)
class Folds:
    """What characters become that do not stay as they are; ``dropped`` ones become nothing."""

    became: dict[str, str]
    dropped: Mask

    def of(self, character: str) -> str:
        """Return what one character becomes."""
        return "" if self.dropped[ord(character)] else self.became.get(character, character)


@functools.cache
def folds(lowercase: bool, accents: str | None) -> Folds:
    """Return what lower case and ``strip_accents`` make of each character."""
    from sklearn.feature_extraction import text

    every = every_character()
    lower = {c: low for c in every if (low := c.lower()) != c} if lowercase else {}
    if accents is None:
        return Folds(lower, _mask(""))
    strip = text.strip_accents_ascii if accents == "ascii" else text.strip_accents_unicode
    composed = [c for c in every if not unicodedata.is_normalized("NFKD", c)]
    became = {c: strip(lower.get(c, c)) for c in {*lower, *composed}}
    dropped = _mask(c for c in every if not c.isascii() and (accents == "ascii" or _combines(c)))
    dropped[[ord(c) for c in became]] = False
    dropped[[ord(c) for c, string in became.items() if not string]] = True
    return Folds({c: string for c, string in became.items() if string}, dropped)


def _combines(character: str) -> bool:
    return unicodedata.combining(character) != 0


@functools.cache
def sigma_context() -> tuple[str, str]:
    """Return the characters that count as cased, and those that are looked through.

    ``str.lower`` writes a capital sigma as final where the next character that is not
    looked through is not cased, and the one before is.
    """
    cased, ignored = [], []
    for character in every_character():
        if (character + SIGMA).lower().endswith(FINAL_SIGMA):
            # Not after a break: a character that is looked through is not cased.
            cased.append(character)
        elif ("a" + character + SIGMA).lower().endswith(FINAL_SIGMA):
            ignored.append(character)
    return "".join(cased), "".join(ignored)


def character_class(mask: Mask) -> str:
    """Return a mask as the inside of an RE2 class; an empty one matches nothing."""
    chosen = np.flatnonzero(mask)
    if not len(chosen):
        return r"^\x{0}-\x{10ffff}"
    breaks = np.flatnonzero(np.diff(chosen) != 1)
    starts = chosen[np.concatenate([[0], breaks + 1])]
    ends = chosen[np.concatenate([breaks, [len(chosen) - 1]])]
    return "".join(
        rf"\x{{{start:x}}}" if start == end else rf"\x{{{start:x}}}-\x{{{end:x}}}"
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    )


def mask_of(characters: Iterable[str]) -> Mask:
    """Return which code points are among these characters."""
    return _mask(characters)
