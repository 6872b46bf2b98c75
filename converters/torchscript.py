"""How Triton's PyTorch backend sees a TorchScript module."""

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

from converters import reference, sizes
from converters.options import ConversionOptions
from converters.table import Question
from toolkit.spec import ModelSpec

_TENSOR = "TensorType"


def spec(question: Question, options: ConversionOptions) -> ModelSpec:
    """Return the spec: tensors go by position, ``INPUT__0`` and ``OUTPUT__0``.

    The keys of a dict keep their names, which the backend takes in their order; not so
    where one holds ``__``, after which it looks for the position.
    """
    inputs = tuple(
        dataclasses.replace(tensor, name=f"INPUT__{i}")
        for i, tensor in enumerate(sizes.inputs(question, options))
    )
    outputs = sizes.outputs(question, options)
    if not _has_keys(question) or any("__" in tensor.name for tensor in outputs):
        outputs = tuple(
            dataclasses.replace(tensor, name=f"OUTPUT__{i}") for i, tensor in enumerate(outputs)
        )
    return ModelSpec(options.name, "pytorch", inputs, outputs)


def _has_keys(question: Question) -> bool:
    return any(output.name not in {"output", f"output_{output.part}"} for output in question.answer)


def plain(scripted: Any, question: Question, options: ConversionOptions) -> Any:
    """Return a module that takes the sample's tensors and gives the chosen ones as a tuple.

    The backend loads no dict, no list of tensors and no argument that may be left out, and
    needs the rows first in a batch of one too. A module that has it so is returned as it is.
    """
    import torch

    schema = scripted.forward.schema
    arguments = [argument.type.kind() for argument in schema.arguments[1:]]
    result = schema.returns[0].type
    gives = len(result.elements()) if result.kind() == "TupleType" else 1
    fits = arguments == [_TENSOR] * len(question.rows.tensors) and result.kind() in {
        _TENSOR,
        "TupleType",
    }
    shapes = _shapes(question, options)
    if fits and not shapes and [output.part for output in question.answer] == list(range(gives)):
        return scripted
    holder = torch.nn.Module()
    holder.inner = scripted
    wrapped = torch.jit.script(holder.eval())
    wrapped.define(_source(question, result, shapes))
    return wrapped


def _shapes(question: Question, options: ConversionOptions) -> dict[str, list[int]]:
    """Return the shapes to give back to outputs that lose the rows' axis, by name."""
    outputs = sizes.outputs(question, options)
    found = sizes.squeezed(question, options, outputs)
    return {tensor.name: [-1, *tensor.dims] for tensor in found}


def _source(question: Question, result: Any, shapes: Mapping[str, list[int]]) -> str:
    """Return TorchScript that asks ``inner`` and lays its answer out."""
    names = ", ".join(f"x{i}" for i in range(len(question.rows.tensors)))
    kind = result.kind()
    if kind == "DictType":
        every = reference.ask(question.source, question.rows.take(2))
        picked = [f"given[{every[output.part or 0].name!r}]" for output in question.answer]
    elif kind == _TENSOR:
        picked = ["given"]
    else:
        picked = [f"given[{output.part or 0}]" for output in question.answer]
    picked = [
        f"{value}.reshape({shapes[output.name]})" if output.name in shapes else value
        for value, output in zip(picked, question.answer, strict=True)
    ]
    return (
        f"def forward(self, {names.replace(',', ': Tensor,')}: Tensor):\n"
        f"    given = self.inner({names})\n"
        f"    return {', '.join(picked)}\n"
    )


def tupled(module: Any, question: Question, options: ConversionOptions) -> Any:
    """Return a module around ``module`` that gives what is served as a tuple, for tracing."""
    import torch

    shapes = _shapes(question, options)
    parts = [(output.part or 0, shapes.get(output.name)) for output in question.answer]

    class Tupled(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *tensors: Any) -> Any:
            given = self.inner(*tensors)
            if isinstance(given, Mapping):
                given = tuple(given.values())
            given = given if isinstance(given, tuple | list) else (given,)
            picked = tuple(
                given[part].reshape(shape) if shape else given[part] for part, shape in parts
            )
            return picked if len(picked) > 1 else picked[0]

    return Tupled().eval()


def stored(module: Any) -> bytes:
    """Return the file of a TorchScript module."""
    import torch

    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    return buffer.getvalue()
