"""What travels beside the tensors, the same on both wires."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite

from toolkit.errors import InvalidInputError

_LARGEST = 2**62  # Triton reads 64-bit numbers


def microseconds(timeout: float) -> int:
    """Return ``timeout`` (s) as Triton's request parameter of that name, where 0 means none."""
    return min(max(int(timeout * 1e6), 1), _LARGEST)


def check_priority(priority: int) -> None:
    """Raise ``InvalidInputError`` for a priority that Triton cannot read."""
    if not 0 <= priority <= _LARGEST:
        raise InvalidInputError(f"a priority is a small number, 1 is the highest; got {priority}")


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, from now; None if it asks for none.

    It is a number of seconds or an HTTP date (RFC 9110, section 10.2.3).
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        # A date in "-0000" has no time zone; HTTP dates are in UTC.
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(seconds, 0.0) if isfinite(seconds) else None


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise ``InvalidInputError`` for a header that would break the request it travels in."""
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise InvalidInputError(
                f"{name} travels in a header and has to be printable ASCII, got {value!r}"
            )
