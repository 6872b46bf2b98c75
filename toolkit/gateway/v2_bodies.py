"""What in a body of the V2 protocol would end Triton itself, looked for before it is passed on.

Triton 2.51 reads JSON recursively: 100,000 nested brackets end the whole server, in a
compressed body too.
"""

import zlib
from collections.abc import Mapping

from toolkit.gateway.exchange import Refused
from toolkit.gateway.guard import check_depth

_HEADER_LENGTH = b"inference-header-content-length"
_COMPRESSED = (b"gzip", b"deflate")
_EITHER = zlib.MAX_WBITS | 32  # the beginning says which of the two it is


def check_body(
    path: str, headers: Mapping[bytes, bytes], body: bytes, max_depth: int, largest_bytes: int
) -> None:
    """Raise ``Refused`` for JSON deeper than ``max_depth`` (422), or what hides its depth.

    That is a compressed body that is spoilt (400) or grows over ``largest_bytes`` (413).
    """
    if headers.get(b"content-encoding", b"").strip().lower() in _COMPRESSED:
        body = _expanded(body, largest_bytes)
    if path.endswith("/infer"):
        length = headers.get(_HEADER_LENGTH, b"")
        if length.isdigit() and len(length) < 20:  # noqa: PLR2004  digits; 0: no JSON at all
            body = body[: int(length)]
    check_depth(body, max_depth)


def _expanded(body: bytes, largest_bytes: int) -> bytes:
    reader = zlib.decompressobj(_EITHER)
    try:
        plain = reader.decompress(body, largest_bytes + 1)
    except zlib.error:
        raise Refused(400, "The body is not compressed as its Content-Encoding says") from None
    if len(plain) > largest_bytes:
        raise Refused(413, f"The body is larger than {largest_bytes} bytes when unpacked")
    if reader.unused_data:
        raise Refused(400, "More stands behind the end of the compressed body")
    return plain
