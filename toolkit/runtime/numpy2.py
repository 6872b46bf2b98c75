"""Let the Python backend of Triton 2.51.0 exchange tensors with numpy 2.

Its stub was built with a pybind11 that knows only numpy 1. numpy 2 moved the size of
an element inside its data type object from byte 32 to byte 40, so that the unchanged
stub reads 0: every input arrives as copies of its first element, every output leaves
empty, and a text input ends the process. Five instructions read that place, each with
the offset in one byte; changing those five bytes in a copy of the stub mends all of it,
for every Python model, without a cost at run time.
"""

import hashlib

from toolkit.errors import RuntimeNotReadyError

_NUMPY_1, _NUMPY_2 = 0x20, 0x28

# SHA-256 of the stub in nvidia-pytriton 0.7.0 (Python 3.11, 3.12, 3.13) to the places of
# the offset: four in the constructors of PbTensor, one in that of pybind11::array.
_OFFSETS = {
    "a302adf6396501ac139da06f965aea1bf61929c99bf799f6b8797e071cd268f4": (
        (0xA4BFC, 0xA4E41, 0xA55B4, 0xA5819, 0xAB24B)
    ),
    "41a7758c6f44520b846e90a5bf8b063f99aee01698c3e32113ce352fe8369921": (
        (0xA6C74, 0xA6E90, 0xA7664, 0xA78A9, 0xACA2B)
    ),
    "7b701b4b4bc01ca7af0350eaffa4f2aed92f02b465b3494a265059e4d3ca6cf8": (
        (0xA6C74, 0xA6E90, 0xA7664, 0xA78A9, 0xACA2B)
    ),
}


def stub_for_numpy(stub: bytes, numpy_version: str) -> bytes:
    """Return the stub program that fits ``numpy_version``, such as ``2.4.6``.

    ``stub`` is the program as the wheel carries it. Raises ``RuntimeNotReadyError`` for
    numpy 2 and a stub other than the three known ones, which would answer wrongly.
    """
    if int(numpy_version.partition(".")[0]) < 2:  # noqa: PLR2004 - the major version
        return stub
    offsets = _OFFSETS.get(hashlib.sha256(stub).hexdigest())
    if offsets is None:
        raise RuntimeNotReadyError(
            "this stub of Triton's Python backend is not one that is known to fit numpy 2",
            hint="toolkit runtime remove && toolkit runtime install",
        )
    fitting = bytearray(stub)
    for offset in offsets:
        assert fitting[offset] == _NUMPY_1
        fitting[offset] = _NUMPY_2
    return bytes(fitting)
