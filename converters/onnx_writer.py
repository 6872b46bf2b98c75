"""Write ONNX graphs with arithmetic that reads like numpy.

A ``Tensor`` knows its data type and shape, so that a wrong one is noticed where it is
written and not when ONNX Runtime loads it. Only what the outputs need is kept.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from converters.onnx_assembly import assembled, opened
from converters.releases import Limits

Array = npt.NDArray[Any]
Shape = tuple[int | None, ...]
Operand = Union["Tensor", Array, float, int, str, bool]

_STRING = np.dtype(object)
_FLOAT64 = np.dtype(np.float64)
_INT64 = np.dtype(np.int64)
_BOOL = np.dtype(np.bool_)


class Graph:
    """One ONNX graph being written for the ONNX Runtime of a release.

    ``written`` is where writers note what is in the graph already.
    """

    def __init__(self, limits: Limits, prefix: str = "") -> None:
        self.limits = limits
        self._prefix = prefix  # A loop's body may not use a name of the graph around it.
        self._inputs: list[Tensor] = []
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self.written: dict[Any, Any] = {}

    def input(self, name: str, dtype: npt.DTypeLike, width: int) -> "Tensor":
        """Add an input of shape ``(rows, width)``; texts have dtype ``object``."""
        tensor = Tensor(self, name, np.dtype(dtype), (None, width))
        self._inputs.append(tensor)
        return tensor

    def constant(self, value: Any, dtype: npt.DTypeLike | None = None) -> "Tensor":
        """Return a constant; equal ones are stored once.

        Without ``dtype`` numbers with a fraction become float64 and whole ones int64.
        """
        array = _as_array(value, dtype)
        content = repr(array.tolist()).encode() if array.dtype == _STRING else array.tobytes()
        digest = hashlib.sha256(content).hexdigest()[:16]
        kind = f"{array.dtype.kind}{array.dtype.itemsize}_{'x'.join(map(str, array.shape))}"
        name = f"{self._prefix}c_{kind}_{digest}"
        if name not in self._constants:
            self._constants[name] = _proto(array, name)
        return Tensor(self, name, array.dtype, array.shape)

    def node(
        self,
        op_type: str,
        inputs: Sequence[Operand | None],
        shape: Shape | None = None,
        *,
        dtype: npt.DTypeLike | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> "Tensor":
        """Add a node of one output; its shape and dtype are the first input's unless given."""
        first = next(tensor for tensor in inputs if isinstance(tensor, Tensor))
        shape = first.shape if shape is None else shape
        of = first.dtype if dtype is None else np.dtype(dtype)
        return self.nodes(op_type, inputs, [(of, shape)], domain=domain, **attributes)[0]

    def nodes(
        self,
        op_type: str,
        inputs: Sequence[Operand | None],
        outputs: Sequence[tuple[npt.DTypeLike, Shape]],
        *,
        domain: str = "",
        **attributes: Any,
    ) -> "tuple[Tensor, ...]":
        """Add a node of outputs given as (dtype, shape); ``None`` inputs are left out."""
        from onnx import helper

        names = ["" if each is None else self.tensor(each).name for each in inputs]
        name = f"{self._prefix}{op_type}_{len(self._nodes)}"
        made = tuple(
            Tensor(self, name + (f"_{i}" if i else ""), np.dtype(dtype), shape)
            for i, (dtype, shape) in enumerate(outputs)
        )
        self._nodes.append(
            helper.make_node(op_type, names, [t.name for t in made], domain=domain, **attributes)
        )
        return made

    def tensor(self, value: Operand, like: "Tensor | None" = None) -> "Tensor":
        """Return ``value`` as a tensor of this graph; numbers take the dtype of ``like``."""
        if isinstance(value, Tensor):
            return value
        return self.constant(value, None if like is None else like.dtype)

    def concat(self, tensors: Sequence["Tensor"], axis: int = 1) -> "Tensor":
        """Join tensors of one dtype."""
        if len(tensors) == 1:
            return tensors[0]
        shape = list(tensors[0].shape)
        lengths = [tensor.shape[axis] for tensor in tensors]
        shape[axis] = None if None in lengths else sum(length or 0 for length in lengths)
        return self.node("Concat", list(tensors), tuple(shape), axis=axis)

    def where(self, condition: "Tensor", yes: Operand, no: Operand) -> "Tensor":
        """Choose cell by cell."""
        like = yes if isinstance(yes, Tensor) else no if isinstance(no, Tensor) else None
        first, second = self.tensor(yes, like), self.tensor(no, like)
        shape = _broadcast(condition.shape, _broadcast(first.shape, second.shape))
        return self.node("Where", [condition, first, second], shape, dtype=first.dtype)

    def loop(
        self,
        times: "int | Tensor",
        states: Sequence["Tensor"],
        step: Callable[..., tuple["Tensor", list["Tensor"]]],
    ) -> "tuple[Tensor, ...]":
        """Repeat ``step(body, *states)``, which returns whether to go on and new states."""
        prefix = f"{self._prefix}loop{len(self._nodes)}_"
        body = Graph(self.limits, prefix)
        for name, dtype in (("turn", _INT64), ("going", _BOOL)):
            body._inputs.append(Tensor(body, prefix + name, dtype, ()))
        inner = [Tensor(body, f"{prefix}{i}", t.dtype, t.shape) for i, t in enumerate(states)]
        body._inputs.extend(inner)
        going, after = step(body, *inner)
        outputs = {f"{prefix}out_{i}": tensor for i, tensor in enumerate(after)}
        graph = body.model(f"{prefix}body", {f"{prefix}on": going, **outputs}).graph
        inputs = [self.tensor(times), self.constant(np.array(True)), *states]
        kinds = [(tensor.dtype, tensor.shape) for tensor in states]
        return self.nodes("Loop", inputs, kinds, body=graph)

    def model(self, name: str, outputs: Mapping[str, "Tensor"]) -> Any:
        """Return the model with these outputs, without what none of them needs."""
        from onnx import helper

        inputs = [_value_info(tensor.name, tensor) for tensor in self._inputs]
        declared = [_value_info(output, tensor) for output, tensor in outputs.items()]
        made = {output: tensor.name for output, tensor in outputs.items()}
        shell = helper.make_graph([], name, inputs, declared)
        return opened(assembled(shell, self._nodes, self._constants, made), self.limits)


class Tensor:
    """A tensor of a graph. Its first axis counts rows where ``shape[0]`` is ``None``."""

    __array_ufunc__ = None  # So that numpy leaves ``array * tensor`` to this class.

    def __init__(self, graph: Graph, name: str, dtype: np.dtype[Any], shape: Shape) -> None:
        self.graph = graph
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.before: Tensor | None = None  # The one that this is a reshaping of.

    @property
    def width(self) -> int:
        """The length of the last axis."""
        length = self.shape[-1]
        if length is None:
            msg = f"{self.name} has no fixed width"
            raise ValueError(msg)
        return length

    @property
    def is_text(self) -> bool:
        """Whether it holds texts."""
        return self.dtype == _STRING

    def seen_by(self, graph: Graph) -> "Tensor":
        """Return it for use in a graph inside its own: a branch or the body of a loop."""
        return Tensor(graph, self.name, self.dtype, self.shape)

    def _with(self, op_type: str, other: Operand, dtype: npt.DTypeLike | None = None) -> "Tensor":
        right = self.graph.tensor(other, self)
        shape = _broadcast(self.shape, right.shape)
        return self.graph.node(op_type, [self, right], shape, dtype=dtype)

    def _after(self, op_type: str, other: Operand) -> "Tensor":
        left = self.graph.tensor(other, self)
        return self.graph.node(op_type, [left, self], _broadcast(left.shape, self.shape))

    def __add__(self, other: Operand) -> "Tensor":
        return self._with("Add", other)

    def __radd__(self, other: Operand) -> "Tensor":
        return self._after("Add", other)

    def __sub__(self, other: Operand) -> "Tensor":
        return self._with("Sub", other)

    def __rsub__(self, other: Operand) -> "Tensor":
        return self._after("Sub", other)

    def __mul__(self, other: Operand) -> "Tensor":
        return self._with("Mul", other)

    def __rmul__(self, other: Operand) -> "Tensor":
        return self._after("Mul", other)

    def __truediv__(self, other: Operand) -> "Tensor":
        return self._with("Div", other)

    def __rtruediv__(self, other: Operand) -> "Tensor":
        return self._after("Div", other)

    def __pow__(self, other: Operand) -> "Tensor":
        return self._with("Pow", other)

    def __neg__(self) -> "Tensor":
        return self.graph.node("Neg", [self])

    def __matmul__(self, other: Operand) -> "Tensor":
        right = self.graph.tensor(other, self)
        shape = (*self.shape[:-1], right.shape[-1])
        # ONNX Runtime 1.31 folds a constant factor into a MatMul, rounded to float32.
        flat = len(self.shape) == len(right.shape) == 2  # noqa: PLR2004
        return self.graph.node("Gemm" if flat else "MatMul", [self, right], shape)

    def __lt__(self, other: Any) -> "Tensor":
        return self._with("Less", other, _BOOL)

    def __le__(self, other: Any) -> "Tensor":
        return self._with("LessOrEqual", other, _BOOL)

    def __gt__(self, other: Any) -> "Tensor":
        return self._with("Greater", other, _BOOL)

    def __ge__(self, other: Any) -> "Tensor":
        return self._with("GreaterOrEqual", other, _BOOL)

    def eq(self, other: Operand) -> "Tensor":
        """Compare for equality, cell by cell."""
        return self._with("Equal", other, _BOOL)

    def __and__(self, other: "Tensor") -> "Tensor":
        return self._with("And", other)

    def __or__(self, other: "Tensor") -> "Tensor":
        return self._with("Or", other)

    def __invert__(self) -> "Tensor":
        return self.graph.node("Not", [self])

    def cast(self, dtype: npt.DTypeLike) -> "Tensor":
        """Change the dtype; nothing is added when it is that already."""
        from onnx import TensorProto, helper

        wanted = np.dtype(dtype)
        if wanted == self.dtype:
            return self
        to = TensorProto.STRING if wanted == _STRING else helper.np_dtype_to_tensor_dtype(wanted)
        return self.graph.node("Cast", [self], dtype=wanted, to=to)

    def reshape(self, *dims: int) -> "Tensor":
        """Reshape; -1 is the axis of rows. What was reshaped before is done at once."""
        shape = tuple(None if dim == -1 else dim for dim in dims)
        if shape == self.shape:
            return self
        if self.before is not None:
            return self.before.reshape(*dims)
        made = self.graph.node("Reshape", [self, np.array(dims, dtype=np.int64)], shape)
        made.before = self
        return made

    def transpose(self, *axes: int) -> "Tensor":
        """Change the order of the axes."""
        shape = tuple(self.shape[axis] for axis in axes)
        return self.graph.node("Transpose", [self], shape, perm=list(axes))

    def take(self, indices: Iterable[int], axis: int = 1) -> "Tensor":
        """Pick columns, in this order."""
        chosen = np.array(list(indices), dtype=np.int64)
        if axis == 1 and self.shape[1] == len(chosen) and (chosen == np.arange(len(chosen))).all():
            return self
        shape = (*self.shape[:axis], len(chosen), *self.shape[axis + 1 :])
        return self.graph.node("Gather", [self, chosen], shape, axis=axis)

    def apply(
        self, op_type: str, dtype: npt.DTypeLike | None = None, **attributes: Any
    ) -> "Tensor":
        """Add an operator that keeps the shape: Exp, Log, Sqrt, Abs, Tanh, Sigmoid, IsNaN."""
        return self.graph.node(op_type, [self], dtype=dtype, **attributes)

    def is_nan(self) -> "Tensor":
        """Say of each cell whether it is NaN."""
        return self.apply("IsNaN", _BOOL)

    def clip(self, low: float | None, high: float | None) -> "Tensor":
        """Limit each cell; NaN stays NaN."""
        bounds = [None if b is None else self.graph.constant(b, self.dtype) for b in (low, high)]
        return self.graph.node("Clip", [self, *bounds])

    def reduce(self, op_type: str, axis: int = 1, *, keepdims: bool = True) -> "Tensor":
        """Reduce one axis: ReduceSum, ReduceMax, ReduceMin, ReduceMean, ReduceSumSquare."""
        axes = np.array([axis], dtype=np.int64)
        return self.graph.node(
            op_type, [self, axes], _reduced(self.shape, axis, keepdims), keepdims=int(keepdims)
        )

    def sum(self, axis: int = 1, *, keepdims: bool = True) -> "Tensor":
        """Add up one axis."""
        return self.reduce("ReduceSum", axis, keepdims=keepdims)

    def sum_in_order(self, axis: int = 1) -> "Tensor":
        """Add up one axis, one entry after the other, as ReduceSum does not."""
        running = self.graph.node("CumSum", [self, np.array(axis, dtype=np.int64)])
        shape = _reduced(self.shape, axis, keepdims=False)
        return self.graph.node("Gather", [running, np.array(-1, dtype=np.int64)], shape, axis=axis)

    def argmax(self, axis: int = 1, *, last: bool = False) -> "Tensor":
        """Return the index of the first or the last largest, int64, without that axis."""
        shape = _reduced(self.shape, axis, keepdims=False)
        at = int(last)
        return self.graph.node(
            "ArgMax", [self], shape, dtype=_INT64, axis=axis, keepdims=0, select_last_index=at
        )

    def lookup(self, values: Any, failing: str = "") -> "Tensor":
        """Return ``values[self]``: rows of a constant by int64 index.

        An index out of range fails the request; ONNX Runtime then tells ``failing``.
        """
        table = self.graph.tensor(values)
        shape = (*self.shape, *table.shape[1:])
        told = {"name": failing} if failing else {}
        return self.graph.node("Gather", [table, self], shape, dtype=table.dtype, axis=0, **told)


def _reduced(shape: Shape, axis: int, keepdims: bool) -> Shape:
    return (*shape[:axis], *((1,) if keepdims else ()), *shape[axis + 1 :])


def _broadcast(left: Shape, right: Shape) -> Shape:
    longest = max(len(left), len(right))
    padded = [(1,) * (longest - len(shape)) + tuple(shape) for shape in (left, right)]
    shape: list[int | None] = []
    for one, other in zip(*padded, strict=True):
        if one is not None and other is not None and one != other and 1 not in (one, other):
            msg = f"shapes {left} and {right} do not go together"
            raise ValueError(msg)
        shape.append(other if one == 1 else one)
    return tuple(shape)


def _as_array(value: Any, dtype: npt.DTypeLike | None) -> Array:
    array = np.asarray(value)
    if array.dtype.kind in "UO":
        return np.array([str(text) for text in array.ravel()], dtype=object).reshape(array.shape)
    if dtype is None:
        dtype = {"f": _FLOAT64, "i": _INT64, "u": _INT64}.get(array.dtype.kind, array.dtype)
    return np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)


def _proto(array: Array, name: str) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    if array.dtype == _STRING:
        texts = [text.encode("utf-8") for text in array.ravel().tolist()]
        return helper.make_tensor(name, TensorProto.STRING, array.shape, texts)
    return numpy_helper.from_array(array, name)


def _value_info(name: str, tensor: Tensor) -> Any:
    from onnx import TensorProto, helper

    text = tensor.dtype == _STRING
    kind = TensorProto.STRING if text else helper.np_dtype_to_tensor_dtype(tensor.dtype)
    shape = ["batch" if dim is None else dim for dim in tensor.shape]
    return helper.make_tensor_value_info(name, kind, shape)
