"""URLs of servers, as people write them."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from toolkit.errors import ConfigError

_PORTS = {"http": 8000, "https": 443, "grpc": 8001, "grpcs": 443}
_RESOLVED = {"dns": "grpc", "dns+grpc": "grpc", "dns+http": "http"}
_HINT = "for example http://localhost:8000 or grpc://localhost:8001"


@dataclass(frozen=True, slots=True)
class Address:
    """One server, or with ``resolved`` each address that the host's name has."""

    scheme: str
    host: str
    port: int
    path: str = ""
    resolved: bool = False

    @property
    def url(self) -> str:
        """The URL with nothing left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return SplitResult(self.scheme, f"{host}:{self.port}", self.path, "", "").geturl()

    @property
    def protocol(self) -> str:
        """``http`` or ``grpc``, with or without TLS."""
        return "grpc" if self.scheme.startswith("grpc") else "http"


def parse_all(urls: str | Sequence[str]) -> tuple[Address, ...]:
    """Return the servers; several must speak one protocol.

    Raises ``ConfigError`` for what is not the URL of a server.
    """
    given = (urls,) if isinstance(urls, str) else tuple(urls or ())
    if not given:
        raise ConfigError("no URL of a server was given", hint=_HINT)
    found = tuple(dict.fromkeys(parse(url) for url in given))
    if len({address.protocol for address in found}) > 1:
        raise ConfigError(
            f"replicas are asked over one protocol, got {', '.join(map(str, given))}",
            hint="all HTTP or all gRPC",
        )
    return found


def parse(url: str) -> Address:
    """Return the URL in its parts, with scheme and port filled in.

    ``dns:///name:8001`` (gRPC's own way to write it) and ``dns+http:///name:8000`` mean
    every address of the name.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        resolved = parts.scheme in _RESOLVED
        if resolved:
            target = parts.netloc or parts.path.strip("/")
            parts = urlsplit(f"{_RESOLVED[parts.scheme]}://{target}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is not a URL: {error}", hint=_HINT) from error
    if parts.scheme not in _PORTS or not host or any(map(str.isspace, host)):
        raise ConfigError(f"{url!r} is not the URL of a server", hint=_HINT)
    if parts.username is not None or parts.password is not None:
        raise ConfigError("a URL with a user name is not understood", hint="pass token=…")
    if parts.query or parts.fragment:
        raise ConfigError(f"{url!r} holds more than scheme, host, port and path", hint=_HINT)
    if parts.scheme.startswith("grpc") and parts.path.strip("/"):
        raise ConfigError(f"{url!r} has a path, and gRPC knows none", hint=_HINT)
    path = parts.path.rstrip("/")
    return Address(parts.scheme, host, port or _PORTS[parts.scheme], path, resolved)
