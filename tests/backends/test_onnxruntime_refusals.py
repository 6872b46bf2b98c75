"""What Triton's own ONNX Runtime backend refuses at load is refused here, in clear words."""

from types import ModuleType
from typing import Any, NamedTuple

import onnxruntime as ort
import pytest

from tests.backends import onnx_models as models
from tests.backends.conftest import ONE_INSTANCE, Triton, parsed, rules

X = 'input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } ] '
Y = 'output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] } ] '
A = 'input [ { name: "a" data_type: TYPE_FP32 dims: [ 2 ] } ] '
SUM = 'output [ { name: "sum" data_type: TYPE_FP32 dims: [ 2 ] } ] '


class Case(NamedTuple):
    model: bytes | None
    config: str
    words: tuple[str, ...]


def _label(dims: str) -> str:
    return f'output [ {{ name: "label" data_type: TYPE_INT64 {dims} }} ] '


def _parameter(key: str, value: str) -> str:
    return f'parameters [ {{ key: "{key}" value: {{ string_value: "{value}" }} }} ] '


CLASSIFIER = models.classifier()
BATCHED = "max_batch_size: 8 "
CASES = {
    "an_input_of_another_width": Case(
        CLASSIFIER,
        BATCHED + X.replace("[ 3 ]", "[ 4 ]") + Y,
        ("input 'x' has the shape [-1, 3] in the model", "dims: [4]", "write dims: [3]"),
    ),
    "a_fixed_input_called_dynamic": Case(
        CLASSIFIER, BATCHED + X.replace("[ 3 ]", "[ -1 ]") + Y, ("input 'x'", "write dims: [3]")
    ),
    "a_fixed_output_called_dynamic": Case(
        CLASSIFIER, BATCHED + X + Y.replace("[ 3 ]", "[ -1 ]"), ("output 'y'", "write dims: [3]")
    ),
    "a_dynamic_output_called_fixed": Case(
        models.dynamic_width(), BATCHED + X + Y, ("output 'y'", "write dims: [-1]")
    ),
    "the_batch_axis_written_in_dims": Case(
        CLASSIFIER, BATCHED + X.replace("[ 3 ]", "[ -1, 3 ]") + Y, ("input 'x'", "write dims: [3]")
    ),
    "a_label_without_reshape": Case(
        CLASSIFIER,
        BATCHED + X + _label("dims: [ 1 ]"),
        ("output 'label' has the shape [-1]", "write dims: [1] reshape { shape: [] }"),
    ),
    "a_label_as_one_without_batching": Case(
        CLASSIFIER,
        X.replace("[ 3 ]", "[ -1, 3 ]") + _label("dims: [ 1 ]"),
        ("output 'label'", "max_batch_size: 0", "write dims: [-1]"),
    ),
    "another_input_type": Case(
        CLASSIFIER,
        BATCHED + X.replace("FP32", "FP64") + Y,
        ("input 'x' is TYPE_FP32 in the model and TYPE_FP64", "write data_type: TYPE_FP32"),
    ),
    "another_output_type": Case(
        CLASSIFIER, BATCHED + X + Y.replace("FP32", "INT64"), ("write data_type: TYPE_FP32",)
    ),
    "an_input_left_out": Case(
        models.add(),
        BATCHED + A + SUM,
        ("input 'b' of the model is missing", 'name: "b" data_type: TYPE_FP32 dims: [2]'),
    ),
    "an_input_too_many": Case(
        CLASSIFIER, BATCHED + X + X.replace('"x"', '"z"') + Y, ("input 'z' is not in the model",)
    ),
    "an_output_that_is_not_there": Case(
        CLASSIFIER,
        BATCHED + X + Y.replace('"y"', '"z"'),
        ("output 'z' is not in the model, which has 'y', 'label'",),
    ),
    "an_initializer_as_input": Case(
        models.add(with_default=True),
        A.replace("[ 2 ]", "[ -1, 2 ]")
        + A.replace('"a"', '"b"')
        + SUM.replace("[ 2 ]", "[ -1, 2 ]"),
        ("input 'b' has a default in the model; leave it out",),
    ),
    "batching_of_a_fixed_batch": Case(
        models.classifier(1),
        BATCHED + X + Y,
        ("[1, 3] in the model, whose first dimension must be dynamic", "max_batch_size: 0"),
    ),
    "batching_of_a_fixed_batch_to_fill_in": Case(
        models.classifier(1), BATCHED, ("max_batch_size is 8", "write max_batch_size: 0")
    ),
    "batching_of_a_scalar": Case(
        models.scalar(),
        BATCHED + X.replace('"x"', '"k"').replace("[ 3 ]", "[ 1 ]"),
        ("max_batch_size is 8", "write max_batch_size: 0"),
    ),
    "a_sequence_output_even_if_not_listed": Case(
        models.sequence(), BATCHED + X + Y, ("output 'all' is a seq(tensor(float))", "ZipMap off")
    ),
    "a_type_triton_lacks": Case(
        models.half_precision(), BATCHED + X + Y, ("tensor(bfloat16)", "cast it")
    ),
    "threads_that_are_no_number": Case(
        CLASSIFIER,
        BATCHED + X + Y + _parameter("intra_op_thread_count", "two"),
        ("parameter intra_op_thread_count is 'two'; write a whole number",),
    ),
    "an_unknown_execution_mode": Case(
        CLASSIFIER,
        BATCHED + X + Y + _parameter("execution_mode", "2"),
        ("parameter execution_mode is 2; write 0 or 1",),
    ),
    "a_flag_that_is_none": Case(
        CLASSIFIER,
        BATCHED + X + Y + _parameter("enable_mem_arena", "maybe"),
        ("parameter enable_mem_arena is 'maybe'; write true or false",),
    ),
    "an_unknown_accelerator": Case(
        CLASSIFIER,
        BATCHED
        + X
        + Y
        + "optimization { execution_accelerators { "
        + 'cpu_execution_accelerator [ { name: "no" } ] } } ',
        ("cpu_execution_accelerator 'no'", "leave it out"),
    ),
    "sequences": Case(
        CLASSIFIER, BATCHED + X + Y + "sequence_batching { }", ("sequence_batching", "Triton's own")
    ),
    "streams_of_answers": Case(
        CLASSIFIER,
        BATCHED + X + Y + "model_transaction_policy { decoupled: true }",
        ("decoupled", "Triton's own"),
    ),
    "an_ir_version_too_new": Case(
        models.classifier(ir_version=99),
        BATCHED + X + Y,
        ("Unsupported model IR version: 99", "export the model with a lower opset"),
    ),
    "an_opset_too_new": Case(
        models.classifier(opset=99),
        BATCHED + X + Y,
        ("Opset 99 is under development", "export the model with a lower opset"),
    ),
    "a_corrupt_file": Case(
        b"this is no model", BATCHED + X + Y, ("ONNX Runtime", "cannot load model.onnx")
    ),
    "a_missing_file": Case(None, BATCHED + X + Y, ("there is no", "model.onnx")),
    "two_faults_at_once": Case(
        CLASSIFIER,
        BATCHED + X.replace("FP32", "FP64") + Y.replace("[ 3 ]", "[ 4 ]"),
        ("input 'x' is TYPE_FP32", "; output 'y' has the shape [-1, 3]"),
    ),
}


# A load starts processes; the cases that only another rule tells apart are asked of the
# rules themselves, on a real session.
SERVED = (
    "an_input_of_another_width",
    "a_label_without_reshape",
    "an_input_left_out",
    "batching_of_a_fixed_batch_to_fill_in",
    "a_sequence_output_even_if_not_listed",
    "threads_that_are_no_number",
    "an_unknown_accelerator",
    "sequences",
    "an_ir_version_too_new",
    "an_opset_too_new",
    "a_corrupt_file",
    "a_missing_file",
    "two_faults_at_once",
)


@pytest.fixture(scope="module")
def refusals(triton: Triton) -> dict[str, str]:
    """Load the served cases side by side; return the words of each refusal."""
    for name in SERVED:
        config = f'backend: "onnxruntime" {ONE_INSTANCE}{CASES[name].config}'
        triton.add(name, "model.onnx", CASES[name].model, config)
    return triton.load_all(SERVED)


@pytest.mark.parametrize("name", SERVED)
def test_triton_does_not_load(name: str, refusals: dict[str, str]) -> None:
    assert refusals[name], "it loaded"
    for words in CASES[name].words:
        assert words in refusals[name]


@pytest.mark.parametrize("name", [name for name in CASES if name not in SERVED])
def test_the_rules_refuse(name: str) -> None:
    own = rules("onnxruntime")
    model, config, words = CASES[name]
    described = own.describe(ort.InferenceSession(model))
    with pytest.raises(own.RefusedError) as refusal:
        _check(own, parsed(config), described)
    for part in words:
        assert part in str(refusal.value)


def _check(own: ModuleType, config: dict[str, Any], described: Any) -> None:
    own.settings(config)
    own.complete(config, described)
    own.check(config, described)
