"""How Triton's PyTorch backend sees a TorchScript module."""

from converters.rows import Rows
from converters.table import Question
from toolkit.errors import UnsupportedModelError
from toolkit.spec import DType, ModelSpec, TensorSpec


def spec(question: Question, name: str) -> ModelSpec:
    """Return the spec: tensors go by position, ``INPUT__0`` and ``OUTPUT__0``.

    Raises:
        UnsupportedModelError: the module gives a dict, which the backend refuses.
    """
    if any(not output.name.startswith("output") for output in question.answer):
        msg = "its forward gives a dict, which Triton's PyTorch backend refuses"
        raise UnsupportedModelError(msg, hint="let forward give a tuple of tensors")
    outputs = tuple(
        TensorSpec(f"OUTPUT__{i}", DType.from_numpy(output.values.dtype), output.dims)
        for i, output in enumerate(question.answer)
    )
    return ModelSpec(name, "pytorch", inputs(question.rows), outputs)


def inputs(rows: Rows) -> tuple[TensorSpec, ...]:
    """Return the inputs for these rows."""
    return tuple(
        TensorSpec(f"INPUT__{i}", DType.from_numpy(array.dtype), tuple(array.shape[1:]))
        for i, array in enumerate(rows.tensors.values())
    )
