"""The binary form of tensors is the protocol's, and damaged ones are noticed."""

import numpy as np
import pytest
import tritonclient.utils

from toolkit.client.tensors import from_binary, to_binary

TEXTS = np.array(["", "a\0", "ü", "x" * 300], dtype=object)


def test_texts_are_written_as_tritonclient_writes_them() -> None:
    theirs = tritonclient.utils.serialize_byte_tensor(TEXTS).item()

    assert to_binary(TEXTS) == theirs


def test_arrays_of_any_layout_are_written_row_by_row() -> None:
    rows = np.arange(6, dtype=np.int32).reshape(2, 3)

    assert to_binary(np.asfortranarray(rows)) == rows.tobytes()
    assert to_binary(rows[:, ::2]) == rows[:, ::2].copy().tobytes()


@pytest.mark.parametrize(
    ("data", "datatype", "shape"),
    [
        (b"\0\0\0", "FP32", (1,)),
        (b"\0" * 8, "FP32", (1,)),
        (b"", "FP32", (1,)),
        (b"\x05\0\0\0abc", "BYTES", (1,)),
        (b"\x05\0", "BYTES", (1,)),
        (b"\x01\0\0\0a", "BYTES", (2,)),
        (b"\0\0", "BF16", (1,)),
    ],
)
def test_a_tensor_that_does_not_fill_its_shape_is_refused(
    data: bytes, datatype: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError):
        from_binary(data, datatype, shape)


def test_texts_read_back_as_they_were_written() -> None:
    assert from_binary(to_binary(TEXTS), "BYTES", (2, 2)).ravel().tolist() == TEXTS.tolist()
