"""What is sent, and to whom: made once, as bytes, before the load begins."""

import json
import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from toolkit.errors import ConfigError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SHOWN = 60  # Characters of a body in a message.


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go. ``path`` is ready for the request line."""

    host: str
    port: int
    path: str
    tls: bool = False
    verify: bool = True
    cacert: str | None = None

    @property
    def authority(self) -> str:
        """The host, and the port where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL, as it is asked for."""
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.path}"

    def tls_context(self) -> ssl.SSLContext | None:
        """Return how to speak TLS, or None for plain HTTP."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.cacert)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"--cacert {self.cacert} cannot be read: {error}",
                hint="a PEM file of the certificates to trust",
            ) from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def parse_url(url: str, *, verify: bool = True, cacert: str | None = None) -> Target:
    """Read an ``http://`` or ``https://`` URL; ``ConfigError`` says what is wrong with it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _bad_url(url, str(error)) from error
    if parts.scheme not in {"http", "https"}:
        raise _bad_url(url, "it does not begin with http:// or https://")
    if not parts.hostname or not parts.hostname.isprintable() or " " in parts.hostname:
        raise _bad_url(url, "it names no host")
    if parts.username is not None:
        raise ConfigError(
            "a URL with a password is shown and stored with the results",
            hint="--header 'Authorization: Basic …'",
        )
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        path += "?" + quote(parts.query, safe="/?%:@!$&'()*+,;=~-._[]")
    if port == 0:
        raise _bad_url(url, "port 0 cannot be called")
    tls = parts.scheme == "https"
    port = port or (443 if tls else 80)
    return Target(_ascii_host(url, parts.hostname), port, path, tls, verify, cacert)


def _ascii_host(url: str, host: str) -> str:
    try:
        return host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError as error:
        raise _bad_url(url, f"{host!r} is no name of a host") from error


def _bad_url(url: str, why: str) -> ConfigError:
    return ConfigError(
        f"{url!r} is no URL to call: {why}", hint="http://localhost:8000/v2/models/NAME/infer"
    )


def read_bodies(given: Sequence[str]) -> tuple[bytes, ...]:
    """Return the bodies that ``--data`` names: JSON texts and files.

    A file of JSON Lines gives one body a line, any other file is one body.
    """
    return tuple(body for text in given for body in _bodies(text))


def _bodies(text: str) -> Iterator[bytes]:
    if text.lstrip()[:1] in {"{", "[", '"'}:
        try:
            json.loads(text)
        except ValueError as error:
            raise ConfigError(f"--data {text[:_SHOWN]!r} is no JSON: {error}") from error
        yield text.encode()
        return
    path = Path(text.removeprefix("@"))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"--data {str(path)[:_SHOWN]} cannot be read: {error.strerror}",
            hint="--data takes a file, or JSON as it is: --data '{\"inputs\": …}'",
        ) from error
    if path.suffix not in {".jsonl", ".ndjson"}:
        yield content
        return
    lines = [line for line in content.splitlines() if line.strip()]
    if not lines:
        raise ConfigError(f"--data {path} holds no line", hint="one JSON body a line")
    yield from lines


def build_requests(
    target: Target, method: str | None, headers: Sequence[str], bodies: Sequence[bytes]
) -> tuple[bytes, ...]:
    """Return each request as the bytes of its head and body.

    ``headers`` are lines ``Name: value``. Without ``method`` it is POST where there is a
    body and GET where there is none.
    """
    chosen = (method or ("POST" if bodies else "GET")).upper()
    if chosen not in _METHODS:
        raise ConfigError(f"--method {chosen}: it is one of {', '.join(sorted(_METHODS))}")
    fields = [_header(line) for line in headers]
    names = {name.lower() for name, _ in fields}
    if taken := names & {"content-length", "transfer-encoding", "connection"}:
        raise ConfigError(
            f"--header {', '.join(sorted(taken))} is written by the load generator itself"
        )
    if "host" not in names:
        fields.insert(0, ("Host", target.authority))
    if "user-agent" not in names:
        fields.append(("User-Agent", "triton-companion-loadtest"))
    if bodies and "content-type" not in names:
        fields.append(("Content-Type", _content_type(bodies)))
    lines = [f"{chosen} {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    head = "\r\n".join(lines).encode("latin-1")
    if not bodies:
        length = b"" if chosen in {"GET", "OPTIONS"} else b"\r\nContent-Length: 0"
        return (head + length + b"\r\n\r\n",)
    return tuple(head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body for body in bodies)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    value = value.strip()
    printable = value.isprintable() and all(ord(letter) < 256 for letter in value)  # noqa: PLR2004
    if not colon or not _TOKEN.fullmatch(name) or not printable:
        raise ConfigError(f"--header {line!r} is no header", hint="--header 'Name: value'")
    return name, value


def _content_type(bodies: Sequence[bytes]) -> str:
    begins = {body.lstrip()[:1] for body in bodies}
    return "application/json" if begins <= {b"{", b"[", b'"'} else "application/octet-stream"
