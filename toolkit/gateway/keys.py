"""Who may ask: API keys from the environment and from a file that may change at any time.

The file is YAML or JSON, a list with one entry a key::

    - id: reports                 # a name for logs and metrics
      sha256: 5e884898da28…       # of the key; the key itself is written nowhere
      rate: 100/60                # optional: requests / seconds
      models: [churn, "fraud-*"]  # optional: names or patterns; default all
      expires: 2027-01-31         # optional: a date or time, UTC unless it says otherwise

One plain SHA-256 is the right hash here and would be wrong for passwords: a key of ``new_key``
has 256 random bits, so there is nothing to guess and nothing that salt or slowness would add.
"""

import hashlib
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from typing import Any

from toolkit.errors import ConfigError
from toolkit.gateway.exchange import Refused
from toolkit.gateway.rates import Rate
from toolkit.gateway.settings import Settings

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_FIELDS = frozenset({"id", "sha256", "rate", "models", "expires"})
_HOW = 'write sha256: followed by what printf %s "$KEY" | sha256sum prints, never the key'
_ASK: tuple[tuple[bytes, bytes], ...] = ((b"www-authenticate", b"Bearer"),)


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key that was presented; never the key.

    ``models`` are names and patterns, empty for all; ``rate`` None for the gateway's own;
    ``expires`` is in seconds since the epoch.
    """

    id: str
    models: tuple[str, ...] = ()
    rate: Rate | None = None
    expires: float | None = None

    def check_model(self, model: str) -> None:
        """Raise ``Refused`` with 403 unless the key may use ``model``."""
        if self.models and _pattern(self.models).match(model) is None:
            raise Refused(403, f"API key {self.id} may not use model {model}")


class Keys:
    """All keys that count now; a changed file is taken in at most a second later.

    A file that became unreadable or wrong changes nothing and is logged once. ``required``
    False: nobody is asked for a key. Raises ``ConfigError`` for a file that is wrong at the
    start, and when keys are required and there are none.
    """

    def __init__(
        self,
        plain: Iterable[str] = (),
        file: Path | None = None,
        *,
        required: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.required = required
        self._plain = {
            _digest(key.encode()): Key(f"env-{place}") for place, key in enumerate(plain, 1) if key
        }
        self._file = file
        self._clock = clock
        self._look_at = clock() + _LOOK_SECONDS
        self._stamp = _stamp(file) if file else None
        self._known = self._plain
        if not required:
            return
        if file:
            self._known = _joined(self._plain, read(file), file)
        if not self._known:
            raise ConfigError(
                "REQUIRE_API_KEY is on and there is no API key",
                hint="set API_KEYS, or API_KEYS_FILE to a file of hashed keys",
            )

    @classmethod
    def of(cls, settings: Settings) -> "Keys":
        """Return the keys of the gateway's settings."""
        plain = (key.get_secret_value() for key in settings.api_keys)
        return cls(plain, settings.api_keys_file, required=settings.require_api_key)

    def __len__(self) -> int:
        """How many keys count now."""
        return len(self._known)

    def identify(self, headers: Mapping[bytes, bytes]) -> Key | None:
        """Return whose request this is; None where nobody is asked.

        ``headers`` have names in lower case. ``X-API-Key`` goes before ``Authorization:
        Bearer``. ``Refused`` with 401 without a key, with 403 for a wrong or expired one.
        """
        if not self.required:
            return None
        presented = headers.get(b"x-api-key") or _bearer(headers.get(b"authorization", b""))
        if not presented:
            raise Refused(401, "Missing API key", _ASK)
        if self._file and self._clock() >= self._look_at:
            self._look(self._file)
        # Found by its digest, in a dictionary. How long that takes may depend on the digest,
        # but not on the key in any way a caller could use: to choose a digest's first bytes
        # is to break SHA-256. Nothing is compared with a key itself, so there is no need to
        # go through all of them, and the time does not tell how many there are.
        key = self._known.get(_digest(presented))
        if key is None:
            raise Refused(403, "Invalid API key")
        if key.expires is not None and time.time() >= key.expires:
            raise Refused(403, "API key expired")
        return key

    def _look(self, file: Path) -> None:
        """Read the file again if it is another one than the last time."""
        self._look_at = self._clock() + _LOOK_SECONDS
        stamp = _stamp(file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._known = _joined(self._plain, read(file), file)
        except ConfigError as error:
            _log.error("%s; the former keys stay", error.message)
        else:
            _log.info("API keys are read again: there are %d", len(self._known))


def new_key(
    key_id: str,
    *,
    rate: str | None = None,
    models: Iterable[str] = (),
    expires: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """Return a new random key and the entry for the file; the key is kept nowhere else.

    Raises ``ConfigError`` for an entry that the file could not hold.
    """
    key = f"tk_{secrets.token_urlsafe(32)}"
    entry: dict[str, Any] = {"id": key_id, "sha256": _digest(key.encode()).hex()}
    given = {"rate": rate, "models": list(models), "expires": expires}
    entry |= {name: value for name, value in given.items() if value}
    _entry(entry, "the new key")
    return key, entry


def read(file: Path) -> dict[bytes, Key]:
    """Return the keys of a file by their digests; ``ConfigError`` where it is not right.

    Nothing of the file's text is in a message: it may hold a key where none belongs.
    """
    try:
        content = _parsed(file)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read: {error.strerror}", hint="API_KEYS_FILE"
        ) from None
    if not isinstance(content, list):
        raise ConfigError(f"{file} is not a list of API keys", hint=_HOW)
    known: dict[bytes, Key] = {}
    for place, entry in enumerate(content, 1):
        digest, key = _entry(entry, f"{file}, entry {place}")
        known = _joined(known, {digest: key}, file)
    return known


def _parsed(file: Path) -> object:
    # The messages of both parsers quote the file, so only the line is taken from them.
    text = file.read_bytes()
    if file.suffix == ".json":
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            line: int | None = error.lineno
        except ValueError:
            line = None
    else:
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark is not None else None
        except ValueError:  # a date such as 2027-02-30
            line = None
    where = f", line {line}" if line is not None else ""
    form = "JSON" if file.suffix == ".json" else "YAML"
    raise ConfigError(f"{file}{where}: not {form}", hint=_HOW)


def _entry(entry: object, where: str) -> tuple[bytes, Key]:
    if not isinstance(entry, dict) or not _FIELDS.issuperset(entry):
        raise ConfigError(f"{where}: fields are {', '.join(sorted(_FIELDS))}", hint=_HOW)
    key_id, digest, rate = entry.get("id"), entry.get("sha256"), entry.get("rate")
    models = entry.get("models", [])
    if not isinstance(key_id, str) or not _ID.fullmatch(key_id):
        raise ConfigError(
            f"{where}: id is a name of at most 64 letters, digits, dots, dashes, underscores",
            hint="it appears in logs and metrics, so it must not be the key",
        )
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ConfigError(f"{where}: sha256 is 64 hexadecimal digits", hint=_HOW)
    if not isinstance(models, list) or not all(isinstance(one, str) and one for one in models):
        raise ConfigError(
            f"{where}: models is a list of names", hint='such as [churn, "fraud-*"]; leave out: all'
        )
    if "models" in entry and not models:
        raise ConfigError(f"{where}: models is empty", hint="leave it out to allow all models")
    try:
        parsed = Rate.parse(str(rate)) if rate is not None else None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None
    expires = _moment(entry.get("expires"), where)
    return bytes.fromhex(digest), Key(key_id, tuple(models), parsed, expires)


def _moment(given: object, where: str) -> float | None:
    """Return seconds since the epoch; a date is its first moment, and UTC where nothing is said."""
    if given is None:
        return None
    try:
        if isinstance(given, str):
            given = datetime.fromisoformat(given)
        if isinstance(given, date) and not isinstance(given, datetime):
            given = datetime(given.year, given.month, given.day, tzinfo=UTC)
        if isinstance(given, datetime):
            return (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        pass
    raise ConfigError(f"{where}: expires is a date or a time", hint="such as 2027-01-31")


def _joined(former: dict[bytes, Key], more: dict[bytes, Key], file: Path) -> dict[bytes, Key]:
    ids = {key.id for key in former.values()}
    for digest, key in more.items():
        if digest in former or key.id in ids:
            raise ConfigError(
                f"{file}: two API keys are the same, or have the id {key.id}",
                hint="each key is listed once, in API_KEYS or in the file, with an id of its own",
            )
    return former | more


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _bearer(authorization: bytes) -> bytes:
    scheme, _, key = authorization.partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else b""


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@lru_cache(maxsize=1024)
def _pattern(models: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(model) for model in models))
