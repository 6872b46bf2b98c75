"""Arrays to and from the binary tensors of the V2 protocol, the same on both wires.

Numbers are little-endian and row-major. A text is its length as a 4-byte little-endian
integer and then its bytes (https://github.com/kserve/open-inference-protocol, "binary
tensor data"), so zero bytes at its end and text in any language survive.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.spec import DType

_LENGTH = Struct("<I")
_BIG = 2**16  # bytes; below, a copy costs less than a view

DTYPES: dict[str, np.dtype[Any]] = {
    dtype.value: np.dtype(dtype.numpy_name).newbyteorder("<") for dtype in DType
}
"""Name in the protocol to numpy dtype; text is ``object``."""

_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}


def datatype_of(array: NDArray[Any]) -> str:
    """Return the protocol's name for the array's dtype; ``KeyError`` if it has none."""
    return _DATATYPES[array.dtype]


def to_binary(array: NDArray[Any]) -> bytes | memoryview:
    """Return the array's elements as the protocol writes them; a big array is not copied."""
    if array.dtype.kind != "O":
        if array.nbytes < _BIG or not array.flags.c_contiguous:
            return array.tobytes()
        return array.reshape(-1).view(np.uint8).data
    items = array.ravel().tolist()
    try:
        texts = list(map(str.encode, items))
    except TypeError:
        texts = [item.encode() if isinstance(item, str) else item for item in items]
    lengths = map(_LENGTH.pack, map(len, texts))
    return b"".join(chain.from_iterable(zip(lengths, texts, strict=True)))


def from_binary(data: bytes | memoryview, datatype: str, shape: Sequence[int]) -> NDArray[Any]:
    """Return a writable array of ``shape``; raises ``ValueError`` if ``data`` does not fill it.

    A text tensor holds ``str``; if one element is not UTF-8, all of them stay ``bytes``.
    """
    dtype = DTYPES.get(datatype)
    if dtype is None:
        msg = f"numpy has no data type for {datatype}"
        raise ValueError(msg)
    if dtype.kind != "O":
        try:
            # One copy, as the protocol's buffer cannot be written to.
            array: NDArray[Any] = np.ndarray(shape, dtype, bytearray(data))
        except TypeError as error:
            raise ValueError("a tensor is shorter than its shape") from error
        if array.nbytes != len(data):
            raise ValueError("a tensor is longer than its shape")
        return array
    items: list[Any] = list(_texts(bytes(data)))
    with suppress(UnicodeDecodeError):
        items = [item.decode() for item in items]
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)


def _texts(data: bytes) -> Iterator[bytes]:
    end, position = len(data), 0
    while position < end:
        start = position + _LENGTH.size
        position = start + int.from_bytes(data[position:start], "little")
        if position > end:
            msg = "a text reaches beyond the end of its tensor"
            raise ValueError(msg)
        yield data[start:position]
