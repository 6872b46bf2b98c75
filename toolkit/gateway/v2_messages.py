"""What a gateway has to know of V2 messages in protobuf, read without parsing tensors."""

from collections.abc import Mapping

from toolkit.gateway.exchange import Refused

STREAM = "ModelStreamInfer"

# Numbers of the fields that hold a model's name and its version (grpc_service.proto).
_NAMES: Mapping[str, tuple[int, int]] = {
    "ModelInfer": (1, 2),
    STREAM: (1, 2),
    "ModelReady": (1, 2),
    "ModelMetadata": (1, 2),
    "ModelConfig": (1, 2),
    "ModelStatistics": (1, 2),
    "RepositoryModelLoad": (2, 0),
    "RepositoryModelUnload": (2, 0),
    "TraceSetting": (2, 0),
}
_CONTROLS = ("RepositoryModel", "SystemSharedMemory", "CudaSharedMemory")
_SETTINGS = ("TraceSetting", "LogSettings")
_CHANGES = 1  # the field of those two that says what to change; without it they read

_MOST_FIELDS = 10_000
_MOST_DIGITS = 10  # bytes of a number
_MOST_TAG_DIGITS = 5  # bytes of a tag or a length, as protobuf's own reader has it
_NUMBER, _LENGTH = 0, 2  # kinds of a field
_FIXED: Mapping[int, int] = {1: 8, 5: 4}  # kind to size


def model_of(method: str, message: bytes) -> tuple[str, str] | None:
    """Return the model and the version ("" for none) that a message to ``method`` is about.

    Raises ``Refused`` (400) for what is no message.
    """
    if method not in _NAMES:
        return None
    name, version = _NAMES[method]
    found = fields(message, name, version)
    try:
        model = found.get(name, b"").decode()
        return (model, found.get(version, b"").decode()) if model else None
    except UnicodeDecodeError:
        raise _no_message() from None


def is_control(method: str, message: bytes) -> bool:
    """Return whether a call changes how Triton serves, or registers memory with it."""
    if method in _SETTINGS:
        return _CHANGES in fields(message, _CHANGES)
    return method.startswith(_CONTROLS)


def fields(message: bytes, *wanted: int) -> dict[int, bytes]:
    """Return those fields of a message that have a length; of a repeated one the last counts.

    Only the first level is walked over, so the size of tensors costs nothing. Raises
    ``Refused`` (400) for what is no message, or has over 10,000 fields.
    """
    found: dict[int, bytes] = {}
    position, size = 0, len(message)
    try:
        for _ in range(_MOST_FIELDS):
            if position >= size:
                break
            tag, position = _varint(message, position, _MOST_TAG_DIGITS)
            kind = tag & 7
            if kind == _LENGTH:
                length, begin = _varint(message, position, _MOST_TAG_DIGITS)
                position = begin + length
                if tag >> 3 in wanted:
                    found[tag >> 3] = message[begin:position]
            elif kind == _NUMBER:
                _, position = _varint(message, position, _MOST_DIGITS)
            else:
                position += _FIXED[kind]
    except LookupError:
        raise _no_message() from None
    if position != size:
        raise _no_message()
    return found


def _varint(message: bytes, position: int, most: int) -> tuple[int, int]:
    """Return a number, written seven bits a byte with the lowest first, and where it ends."""
    value = 0
    for place in range(most):
        byte = message[position + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:  # noqa: PLR2004
            return value, position + place + 1
    raise LookupError


def _no_message() -> Refused:
    return Refused(400, "What was sent is no message of the V2 protocol")
