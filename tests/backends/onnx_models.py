"""Small ONNX models, each made for one rule or one behaviour."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, STRING, BFLOAT16 = (
    TensorProto.FLOAT,
    TensorProto.INT64,
    TensorProto.STRING,
    TensorProto.BFLOAT16,
)
Shape = Sequence[int | str] | None


def tensor(name: str, kind: int, shape: Shape) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def build(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    initializers: Sequence[Any] = (),
    *,
    opset: int = 18,
    ir_version: int = 9,
) -> bytes:
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(initializers))
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
    )
    return bytes(model.SerializeToString())


def classifier(batch: int | str = "N", **versions: int) -> bytes:
    """From x [N,3] to y = 3x [N,3] and to label = argmax(y) [N]."""
    nodes = [
        helper.make_node("Mul", ["x", "three"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
    ]
    return build(
        nodes,
        [tensor("x", FLOAT, [batch, 3])],
        [tensor("y", FLOAT, [batch, 3]), tensor("label", INT64, [batch])],
        [numpy_helper.from_array(np.float32(3), "three")],
        **versions,
    )


def network() -> bytes:
    """From x [N,28] through two layers to p [N,5]; sums whose order could show."""
    random = np.random.default_rng(5)
    weights = {
        "w1": random.normal(size=(28, 64)).astype(np.float32),
        "w2": random.normal(size=(64, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["c"]),
        helper.make_node("Softmax", ["c"], ["p"], axis=1),
    ]
    return build(
        nodes,
        [tensor("x", FLOAT, ["N", 28])],
        [tensor("p", FLOAT, ["N", 5])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )


def add(*, with_default: bool = False) -> bytes:
    """Add a [N,2] + b [N,2] to sum; with a default, b is [2] and may be left out."""
    inputs = [tensor("a", FLOAT, ["N", 2]), tensor("b", FLOAT, [2] if with_default else ["N", 2])]
    default = numpy_helper.from_array(np.array([10, 20], np.float32), "b")
    return build(
        [helper.make_node("Add", ["a", "b"], ["sum"])],
        inputs,
        [tensor("sum", FLOAT, ["N", 2])],
        [default] if with_default else [],
    )


def dynamic_width() -> bytes:
    return build(
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", FLOAT, ["N", "M"])],
        [tensor("y", FLOAT, ["N", "M"])],
    )


def lookup() -> bytes:
    """A table of ten rows: index [N,1] to value [N,1]; an index above 9 fails inside."""
    table = numpy_helper.from_array(np.arange(10, dtype=np.float32) * 10, "table")
    return build(
        [helper.make_node("Gather", ["table", "index"], ["value"])],
        [tensor("index", INT64, ["N", 1])],
        [tensor("value", FLOAT, ["N", 1])],
        [table],
    )


def text() -> bytes:
    """Give text back as it came: text [N,2] to same [N,2]."""
    return build(
        [helper.make_node("Identity", ["text"], ["same"])],
        [tensor("text", STRING, ["N", 2])],
        [tensor("same", STRING, ["N", 2])],
    )


def text_label() -> bytes:
    """From x [N,3] to the text of its largest column [N]."""
    words = numpy_helper.from_array(np.array(["réd", "green", "blå"], dtype=object), "words")
    nodes = [
        helper.make_node("ArgMax", ["x"], ["place"], axis=1, keepdims=0),
        helper.make_node("Gather", ["words", "place"], ["label"]),
    ]
    return build(nodes, [tensor("x", FLOAT, ["N", 3])], [tensor("label", STRING, ["N"])], [words])


def scalar() -> bytes:
    """A scalar k and a scalar 2k, neither with an axis."""
    return build(
        [helper.make_node("Add", ["k", "k"], ["twice"])],
        [tensor("k", FLOAT, [])],
        [tensor("twice", FLOAT, [])],
    )


def mixes_rows() -> bytes:
    """Drop rows: the output has as many rows as x has values above zero."""
    zero = numpy_helper.from_array(np.float32(0), "zero")
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["keep2"]),
        helper.make_node("Squeeze", ["keep2", "one"], ["keep"]),
        helper.make_node("Compress", ["x", "keep"], ["kept"], axis=0),
    ]
    one = numpy_helper.from_array(np.array([1]), "one")
    return build(
        nodes, [tensor("x", FLOAT, ["N", 1])], [tensor("kept", FLOAT, ["K", 1])], [zero, one]
    )


def sequence() -> bytes:
    """An output that is a sequence of tensors beside one that is a tensor."""
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("SequenceConstruct", ["x", "y"], ["all"]),
    ]
    several = helper.make_tensor_sequence_value_info("all", FLOAT, None)
    return build(nodes, [tensor("x", FLOAT, ["N", 3])], [tensor("y", FLOAT, ["N", 3]), several])


def half_precision() -> bytes:
    return build(
        [helper.make_node("Cast", ["x"], ["y"], to=BFLOAT16)],
        [tensor("x", FLOAT, ["N", 3])],
        [tensor("y", BFLOAT16, ["N", 3])],
    )
