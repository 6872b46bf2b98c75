"""What Triton's own PyTorch backend accepts and reads from a config.

The rules are those of ``src/libtorch.cc`` in triton-inference-server/pytorch_backend, so
that a model which loads here loads on the C++ backend of the container too. Standard
library only.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

_TYPES = {
    "TYPE_BOOL",
    "TYPE_UINT8",
    "TYPE_INT8",
    "TYPE_INT16",
    "TYPE_INT32",
    "TYPE_INT64",
    "TYPE_FP16",
    "TYPE_FP32",
    "TYPE_FP64",
    "TYPE_STRING",
}

_FLAGS = (
    "DISABLE_OPTIMIZED_EXECUTION",
    "INFERENCE_MODE",
    "ENABLE_CACHE_CLEANING",
    "ENABLE_JIT_EXECUTOR",
    "ENABLE_JIT_PROFILING",
    "ENABLE_NVFUSER",
    "ENABLE_TENSOR_FUSER",
    "ENABLE_WEIGHT_SHARING",
)

_INDEXED = re.compile(r".*?__([0-9]*)", re.DOTALL)


class RefusedError(Exception):
    """The C++ backend would refuse, misread or not survive this model or config."""


class Argument(NamedTuple):
    """An argument of ``forward``: its name and TorchScript's kind, such as ``TensorType``."""

    name: str
    kind: str


class Signature(NamedTuple):
    """The arguments of ``forward`` without ``self``, the kind and the text of its result.

    ``outputs`` is the number of results where TorchScript knows it.
    """

    arguments: tuple[Argument, ...]
    result_kind: str
    result: str
    outputs: int | None


class Settings(NamedTuple):
    """What the parameters of a config ask for; ``None``: torch's own choice."""

    threads: int | None
    optimized: bool
    inference_mode: bool


class Plan(NamedTuple):
    """Where each input goes and each output comes from, by position.

    ``keys`` names the inputs of a model whose one argument is a dictionary.
    """

    inputs: dict[str, int]
    outputs: dict[str, int]
    keys: tuple[str, ...] | None


def describe(module: Any) -> Signature:
    """Read the signature of the ``forward`` of a TorchScript module."""
    schema = module.forward.schema
    arguments = tuple(
        Argument(argument.name, argument.type.kind())
        for argument in schema.arguments
        if argument.type.kind() != "ClassType"
    )
    result = schema.returns[0].type
    kind = result.kind()
    if kind == "TupleType":
        count: int | None = len(result.elements())
    else:
        count = 1 if kind in {"TensorType", "ListType"} else None
    return Signature(arguments, kind, result.annotation_str, count)


def check(config: Mapping[str, Any], signature: Signature) -> Plan:
    """Return the places of inputs and outputs, or raise ``RefusedError`` with all reasons."""
    problems = list(_unsupported(config))
    dictionary = [argument.kind for argument in signature.arguments] == ["DictType"]
    if not dictionary:
        problems += _wrong_arguments(config, signature)
    problems += _wrong_result(signature)
    for kind in ("input", "output"):
        for entry in config[kind]:
            problems += _wrong_type(kind, entry, config["max_batch_size"])
    refuse(config, *problems)
    names = [entry["name"] for entry in config["input"]]
    results = [entry["name"] for entry in config["output"]]
    if dictionary:
        inputs = {name: place for place, name in enumerate(names)}
    else:
        inputs = _input_places(names, signature)
        refuse(config, *_wrong_places(inputs, signature))
    outputs = _places(results)
    refuse(config, *_wrong_outputs(outputs, signature))
    return Plan(inputs, outputs, tuple(names) if dictionary else None)


def refuse(config: Mapping[str, Any], *problems: str) -> None:
    """Raise ``RefusedError`` if there is any problem."""
    if problems:
        raise RefusedError(f"model '{config['name']}': " + "; ".join(problems))


def _unsupported(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what only the C++ backend does: refused here rather than done wrongly."""
    ours = "is not supported by the Python-based PyTorch backend, only by Triton's own"
    for key in ("sequence_batching", "batch_input", "batch_output"):
        if config.get(key):
            yield f"{key} {ours}; leave it out"
    if config.get("model_transaction_policy", {}).get("decoupled"):
        yield f"decoupled {ours}; leave it out"
    for entry in config["input"]:
        for key in ("allow_ragged_batch", "optional"):
            if entry.get(key):
                yield f"input '{entry['name']}': {key} {ours}; leave it out"


def _missing(config: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("input", "output"):
        if not config[kind]:
            yield (
                f"the config lists no {kind}, and a TorchScript file does not tell them; write"
                f' {kind} [ {{ name: "{kind.upper()}__0" data_type: ... dims: [ ... ] }} ] in'
                " config.pbtxt"
            )


def _wrong_arguments(config: Mapping[str, Any], signature: Signature) -> Iterator[str]:
    for argument in signature.arguments:
        if argument.kind not in {"TensorType", "ListType"}:
            yield (
                f"argument '{argument.name}' of forward is a {argument.kind}, and Triton feeds"
                " only tensors, lists of text or one dictionary of tensors; wrap the model"
            )
    given, taken = len(config["input"]), len(signature.arguments)
    if config["input"] and given != taken:
        names = ", ".join(argument.name for argument in signature.arguments)
        yield f"the config lists {given} inputs, and forward takes {taken} ({names}); list each"


def _wrong_result(signature: Signature) -> Iterator[str]:
    if signature.result_kind in {"DictType", "IntType", "FloatType", "BoolType", "StringType"} or (
        signature.result_kind == "ListType" and signature.result != "List[str]"
    ):
        yield (
            f"forward returns {signature.result}, and Triton takes a tensor, a list of text or a"
            " tuple of these; wrap the model so that it returns a tuple"
        )


def _wrong_type(kind: str, entry: Mapping[str, Any], max_batch_size: int) -> Iterator[str]:
    if entry["data_type"] not in _TYPES:
        yield (
            f"{kind} '{entry['name']}' is {entry['data_type']}, which the PyTorch backend does"
            f" not have; write one of {', '.join(sorted(_TYPES))}"
        )
    if entry["data_type"] == "TYPE_STRING":
        dims = entry["reshape"]["shape"] if "reshape" in entry else entry["dims"]
        if len(dims) + (max_batch_size > 0) > 1:
            right = "dims: [1] reshape { shape: [] }" if max_batch_size > 0 else "dims: [-1]"
            yield f"{kind} '{entry['name']}' is text, which must be a list; write {right}"


def _input_places(names: Sequence[str], signature: Signature) -> dict[str, int]:
    arguments = [argument.name for argument in signature.arguments]
    if all(name in arguments for name in names):
        return {name: arguments.index(name) for name in names}
    return _places(names)


def _places(names: Sequence[str]) -> dict[str, int]:
    """Read ``NAME__0``; if one name is not so, the order of the config counts."""
    found = [_INDEXED.fullmatch(name) for name in names]
    if all(found):
        return {name: int(match[1] or 0) for name, match in zip(names, found, strict=True) if match}
    return {name: place for place, name in enumerate(names)}


def _wrong_places(inputs: Mapping[str, int], signature: Signature) -> Iterator[str]:
    if sorted(inputs.values()) != list(range(len(signature.arguments))):
        places = ", ".join(f"'{name}' is number {place}" for name, place in inputs.items())
        right = ", ".join(f"INPUT__{place}" for place in range(len(signature.arguments)))
        yield f"{places}, and forward takes numbers 0 to {len(inputs) - 1}; write {right}"


def _wrong_outputs(outputs: Mapping[str, int], signature: Signature) -> Iterator[str]:
    count = signature.outputs
    for name, place in outputs.items():
        if count is not None and place >= count:
            yield (
                f"output '{name}' is number {place}, and forward returns {count}; write"
                f" {', '.join(f'OUTPUT__{index}' for index in range(count))}"
            )


def settings(config: Mapping[str, Any]) -> Settings:
    """Read the parameters; raise ``RefusedError`` for what no model file could mend."""
    texts = {
        key: value.get("string_value", "") for key, value in config.get("parameters", {}).items()
    }
    problems = []
    if "INTER_OP_THREAD_COUNT" in texts:
        problems.append(
            "parameter INTER_OP_THREAD_COUNT ends Triton's own PyTorch backend, and with it the"
            " whole server, as soon as a second model sets it; remove it"
        )
    threads = texts.get("INTRA_OP_THREAD_COUNT")
    if threads is not None and not re.fullmatch(r"\s*[+-]?[0-9]+", threads):
        problems.append(f"parameter INTRA_OP_THREAD_COUNT is '{threads}'; write a whole number")
    flags = {key: texts[key].lower() for key in _FLAGS if key in texts}
    problems += [
        f"parameter {key} is '{texts[key]}'; write true or false"
        for key, text in flags.items()
        if text not in {"1", "0", "true", "false"}
    ]
    refuse(config, *problems, *_missing(config))
    return Settings(
        threads=int(threads) if threads is not None and int(threads) > 0 else None,
        optimized=flags.get("DISABLE_OPTIMIZED_EXECUTION", "false") in {"0", "false"},
        inference_mode=flags.get("INFERENCE_MODE", "true") in {"1", "true"},
    )
