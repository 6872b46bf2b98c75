"""The Python-based PyTorch backend takes and refuses what Triton's own does."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.backends.conftest import ONE_INSTANCE, Triton, at_once, floats, parsed, rules

torch = pytest.importorskip("torch")
from tests.backends import torch_models as models  # noqa: E402 - it needs torch

# torch 2.13 warns that TorchScript is deprecated; it is what Triton's PyTorch backend loads.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.*:DeprecationWarning")

BATCHED = "max_batch_size: 8 "
JOIN = "dynamic_batching { max_queue_delay_microseconds: 300000 preferred_batch_size: [ 4 ] } "


def _tensor(kind: str, name: str, width: int, data_type: str = "TYPE_FP32") -> str:
    return f'{kind} [ {{ name: "{name}" data_type: {data_type} dims: [ {width} ] }} ] '


def _parameter(key: str, value: str) -> str:
    return f'parameters [ {{ key: "{key}" value: {{ string_value: "{value}" }} }} ] '


def _two_outputs(*names: str) -> str:
    kinds = ("input", "input", "output", "output")
    return BATCHED + "".join(
        _tensor(kind, name, 2) for kind, name in zip(kinds, names, strict=True)
    )


def _one_output() -> bytes:
    return models.trace(models.OneOutput(), torch.zeros(2, 4))


X, Y = _tensor("input", "INPUT__0", 4), _tensor("output", "OUTPUT__0", 2)
TEXT = "data_type: TYPE_STRING dims: [ 1 ] reshape { shape: [ ] } } ] "
MODELS: dict[str, tuple[Callable[[], bytes], str]] = {
    "pt_index": (_one_output, BATCHED + X + Y + _parameter("INTRA_OP_THREAD_COUNT", "1")),
    "pt_arguments": (
        lambda: models.script(models.TwoOutputs()),
        _two_outputs("right", "left", "sum", "difference"),
    ),
    "pt_dictionary": (
        lambda: models.script(models.FromDictionary()),
        BATCHED + _tensor("input", "b", 2) + _tensor("input", "a", 2) + Y,
    ),
    "pt_text": (
        lambda: models.script(models.Shout()),
        BATCHED + 'input [ { name: "words" ' + TEXT + 'output [ { name: "OUTPUT__0" ' + TEXT,
    ),
    "pt_pick": (
        lambda: models.script(models.Pick()),
        BATCHED
        + JOIN
        + _tensor("input", "index", 1, "TYPE_INT64")
        + _tensor("output", "OUTPUT__0", 1),
    ),
    "pt_other_type": (_one_output, BATCHED + X + Y.replace("FP32", "FP64")),
}
REFUSED: dict[str, tuple[Callable[[], bytes], str | None, tuple[str, ...]]] = {
    "pt_inter_op": (
        _one_output,
        BATCHED + X + Y + _parameter("INTER_OP_THREAD_COUNT", "1"),
        ("INTER_OP_THREAD_COUNT ends Triton's own PyTorch backend", "remove it"),
    ),
    "pt_threads": (
        _one_output,
        BATCHED + X + Y + _parameter("INTRA_OP_THREAD_COUNT", "many"),
        ("INTRA_OP_THREAD_COUNT is 'many'; write a whole number",),
    ),
    "pt_flag": (
        _one_output,
        BATCHED + X + Y + _parameter("INFERENCE_MODE", "often"),
        ("INFERENCE_MODE is 'often'; write true or false",),
    ),
    "pt_bare": (_one_output, None, ("the config lists no input", "OUTPUT__0", "config.pbtxt")),
    "pt_dictionary_out": (
        lambda: models.script(models.Dictionary()),
        BATCHED + X + Y,
        ("forward returns Dict[str, Tensor]", "returns a tuple"),
    ),
    "pt_number": (
        lambda: models.script(models.WithNumber()),
        BATCHED + X + _tensor("input", "INPUT__1", 1, "TYPE_INT64") + Y,
        ("argument 'times' of forward is a IntType",),
    ),
    "pt_input_missing": (
        lambda: models.script(models.TwoOutputs()),
        BATCHED + X + Y,
        ("the config lists 1 inputs, and forward takes 2 (left, right)",),
    ),
    "pt_input_number": (
        _one_output,
        BATCHED + X.replace("__0", "__1") + Y,
        ("'INPUT__1' is number 1", "write INPUT__0"),
    ),
    "pt_output_number": (
        _one_output,
        BATCHED + X + Y.replace("__0", "__3"),
        ("output 'OUTPUT__3' is number 3, and forward returns 1", "write OUTPUT__0"),
    ),
    "pt_type": (
        _one_output,
        BATCHED + X.replace("FP32", "UINT32") + Y,
        ("input 'INPUT__0' is TYPE_UINT32, which the PyTorch backend does not have",),
    ),
    "pt_pickled": (
        lambda: models.pickled(models.OneOutput()),
        BATCHED + X + Y,
        ("cannot load model.pt as TorchScript", "torch.jit.trace"),
    ),
}


# A load imports torch in a new process; the other cases are asked of the rules themselves.
SERVED = ("pt_inter_op", "pt_threads", "pt_bare", "pt_pickled")


@pytest.fixture(scope="module")
def loaded(triton: Triton) -> Iterator[dict[str, str]]:
    """Load every model side by side; return the words of each refusal."""
    table = {**MODELS, **{name: case[:2] for name, case in REFUSED.items() if name in SERVED}}
    for name, (model, config) in table.items():
        text = None if config is None else f'backend: "pytorch" {ONE_INSTANCE}{config}'
        triton.add(name, "model.pt", model(), text)
    yield triton.load_all(list(table))
    for name in MODELS:
        triton.unload(name)


@pytest.fixture
def served(triton: Triton, loaded: dict[str, str]) -> Triton:
    assert not {name: loaded[name] for name in MODELS if loaded[name]}
    return triton


@pytest.mark.parametrize("name", SERVED)
def test_triton_does_not_load(name: str, loaded: dict[str, str]) -> None:
    assert loaded[name], "it loaded"
    for words in REFUSED[name][2]:
        assert words in loaded[name]


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in SERVED])
def test_the_rules_refuse(name: str) -> None:
    own = rules("pytorch")
    model, config, words = REFUSED[name]
    module = torch.jit.load(io.BytesIO(model()))
    with pytest.raises(own.RefusedError) as refusal:
        _check(own, parsed(config or ""), module)
    for part in words:
        assert part in str(refusal.value)


def _check(own: ModuleType, config: dict[str, Any], module: Any) -> None:
    own.settings(config)
    own.check(config, own.describe(module))


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_answers_equal_those_of_torch_bit_for_bit(served: Triton, batch: int) -> None:
    rows = np.random.default_rng(batch).normal(size=(batch, 4)).astype(np.float32)
    with torch.inference_mode():
        offline = models.OneOutput().eval()(torch.from_numpy(rows)).numpy()
    answer = served.infer("pt_index", {"INPUT__0": rows})["OUTPUT__0"]
    assert answer.tobytes() == offline.tobytes()


def test_arguments_of_forward_are_fed_by_name(served: Triton) -> None:
    feed = {"left": floats([[5, 7]]), "right": floats([[1, 2]])}
    answer = served.infer("pt_arguments", feed)
    assert answer["sum"].tolist() == [[6, 9]]
    assert answer["difference"].tolist() == [[4, 5]]


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (("INPUT__1", "INPUT__0", "OUTPUT__1", "OUTPUT__0"), (1, 0, 1, 0)),
        (("right", "left", "any__1", "any__0"), (1, 0, 1, 0)),
        (("first", "INPUT__0", "sum", "OUTPUT__0"), (0, 1, 0, 1)),
    ],
)
def test_names_tell_the_place_or_else_the_order_does(
    names: tuple[str, ...], places: tuple[int, ...]
) -> None:
    own = rules("pytorch")
    module = torch.jit.load(io.BytesIO(models.script(models.TwoOutputs())))
    plan = own.check(parsed(_two_outputs(*names)), own.describe(module))
    assert {**plan.inputs, **plan.outputs} == dict(zip(names, places, strict=True))


def test_a_dictionary_is_fed_by_name(served: Triton) -> None:
    feed = {"a": floats([[5, 7]]), "b": floats([[1, 2]])}
    assert served.infer("pt_dictionary", feed)["OUTPUT__0"].tolist() == [[4, 5]]


def test_text_becomes_a_list(served: Triton) -> None:
    words = np.array([["grün"], ["日本"]], dtype=object)
    answer = served.infer("pt_text", {"words": words})["OUTPUT__0"]
    assert answer.tolist() == [["grün!"], ["日本!"]]


def test_a_request_that_fails_inside_the_model_fails_alone(served: Triton) -> None:
    calls = [
        partial(served.infer, "pt_pick", {"index": np.array([[index]])}) for index in (1, 99, 3, 4)
    ]
    outcomes: list[Any] = at_once(calls)
    assert served.executions("pt_pick", rows=4) < 4, "the requests were not joined"
    assert "index out of range" in str(outcomes.pop(1))
    assert [answer["OUTPUT__0"].item() for answer in outcomes] == [10, 30, 40]


def test_an_output_of_another_type_is_an_error(served: Triton) -> None:
    with pytest.raises(RuntimeError, match="float32 in the model and TYPE_FP64 in the config"):
        served.infer("pt_other_type", {"INPUT__0": np.zeros((1, 4), np.float32)})


def test_the_parameters_reach_torch(served: Triton) -> None:
    (line,) = (line for line in served.log().splitlines() if "pytorch: pt_index_0_0" in line)
    assert "intra_op=1 inference_mode=True optimized=True device=cpu" in line
