"""What goes in and out of every road through the gateway, whatever serves it."""

from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from toolkit.gateway.keys import Key

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True, eq=False)
class Asked:
    """One request, and what became known of it on its way.

    ``headers`` have names in lower case; of a repeated header the last one counts.
    ``began`` is a reading of ``time.perf_counter``. ``key`` says whose request it is, None where
    nobody is asked for one; ``rows`` counts the rows asked about. ``inference_seconds`` is what
    the call to Triton took, ``error`` what the caller was told of a failure.
    """

    method: str
    path: str
    headers: dict[bytes, bytes]
    query: bytes = b""
    client: str = ""
    request_id: str = ""
    body: bytes = b""
    began: float = field(default_factory=perf_counter)
    endpoint: str = ""
    model: str = ""
    version: str = ""
    key: "Key | None" = None
    rows: int = 0
    inference_seconds: float | None = None
    error: str = ""

    @property
    def key_id(self) -> str:
        """The name of the API key, never the key itself; empty without one."""
        return self.key.id if self.key is not None else ""


class Reply(NamedTuple):
    """What goes back."""

    status: int
    body: bytes
    media: bytes = b"application/json"
    headers: Headers = ()


class Refused(Exception):  # noqa: N818  not every refusal is a fault
    """What was asked is not done; ``status`` says why in HTTP's words, ``detail`` in ours."""

    def __init__(self, status: int, detail: str, headers: Headers = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
