"""The vocabulary: what a model takes and gives, and how Triton serves it.

Standard library only. Every object is frozen and checked when it is made: one that
exists is valid. ``dims`` never hold the batch axis; ``pbtxt.py`` alone adds it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Self

from toolkit.errors import ConfigError, RepositoryError


class DType(Enum):
    """A tensor data type; the value is its name in the V2 protocol."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def config_name(self) -> str:
        """The name in ``config.pbtxt``: ``TYPE_FP32``; strings are ``TYPE_STRING``."""
        return "TYPE_STRING" if self is DType.BYTES else f"TYPE_{self.value}"

    @property
    def numpy_name(self) -> str:
        """The name numpy gives it; strings travel as ``object``."""
        return _NUMPY_NAMES[self]

    @classmethod
    def from_config_name(cls, name: str) -> "DType":
        """Return the type that ``config.pbtxt`` calls ``name``."""
        return cls.BYTES if name == "TYPE_STRING" else cls(name.removeprefix("TYPE_"))

    @classmethod
    def from_numpy(cls, dtype: object) -> "DType":
        """Return the type for a numpy dtype; text and objects become ``BYTES``.

        Raises ``ValueError`` for a dtype Triton has no name for (complex, datetime).
        """
        name = str(dtype)
        if name == "object" or name.lstrip("<>|=")[:1] in {"U", "S"} or name.startswith("str"):
            return cls.BYTES
        for member, numpy_name in _NUMPY_NAMES.items():
            if numpy_name == name:
                return member
        msg = f"Triton has no data type for numpy's {name}"
        raise ValueError(msg)


_NUMPY_NAMES = {
    DType.BOOL: "bool",
    DType.UINT8: "uint8",
    DType.UINT16: "uint16",
    DType.UINT32: "uint32",
    DType.UINT64: "uint64",
    DType.INT8: "int8",
    DType.INT16: "int16",
    DType.INT32: "int32",
    DType.INT64: "int64",
    DType.FP16: "float16",
    DType.FP32: "float32",
    DType.FP64: "float64",
    DType.BYTES: "object",
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: ``dims`` without the batch axis, -1 for any length.

    ``dims=()`` is one value a row, such as a class label.
    """

    name: str
    dtype: DType
    dims: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("a tensor needs a name")
        if any(dim == 0 or dim < -1 for dim in self.dims):
            msg = f"tensor {self.name!r}: dims {list(self.dims)} must be positive or -1"
            raise ConfigError(msg)


# Triton takes any folder name; these survive a URL, a shell and a file system unquoted.
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def check_model_name(name: str) -> None:
    """Raise ``RepositoryError`` unless ``name`` can name a model everywhere."""
    if not _MODEL_NAME.fullmatch(name):
        msg = f"{name!r} cannot name a model"
        raise RepositoryError(
            msg,
            hint="use letters, digits, '_', '-' and '.', starting with a letter or a digit,"
            " at most 128 characters",
        )


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a model takes and gives, and which Triton backend runs it.

    ``batched`` says that the first axis of every tensor counts rows; ``feature_names``,
    what the columns of the one input are called, in their order, where that is known;
    ``class_names``, what the values of an output with one a class stand for;
    ``parameters``, what the backend is told of the model, by key.
    """

    name: str
    backend: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool = True
    feature_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def model_file(self) -> str:
        """The file that Triton looks for in a version folder."""
        kind = dict(self.parameters).get("model_type", "xgboost")
        return FIL_FILES.get(kind, kind) if self.backend == "fil" else MODEL_FILES[self.backend]

    def __post_init__(self) -> None:
        check_model_name(self.name)
        if self.backend not in MODEL_FILES:
            msg = f"model {self.name!r}: unknown backend {self.backend!r}"
            raise ConfigError(msg, hint=f"known backends: {', '.join(MODEL_FILES)}")
        if not self.inputs or not self.outputs:
            raise ConfigError(f"model {self.name!r} needs at least one input and one output")
        for kind, tensors in (("input", self.inputs), ("output", self.outputs)):
            names = [tensor.name for tensor in tensors]
            if len(set(names)) != len(names):
                raise ConfigError(f"model {self.name!r}: {kind} names repeat: {', '.join(names)}")


MODEL_FILES: Mapping[str, str] = {
    "onnxruntime": "model.onnx",
    "pytorch": "model.pt",
    "python": "model.py",
    "fil": "checkpoint.tl",
}
"""Backend name to the file that Triton looks for in a version folder."""

FIL_FILES: Mapping[str, str] = {
    "xgboost": "xgboost.model",
    "xgboost_json": "xgboost.json",
    "xgboost_ubj": "xgboost.ubj",
    "lightgbm": "model.txt",
    "treelite_checkpoint": "checkpoint.tl",
}
"""FIL's parameter ``model_type`` to the file it looks for."""


class TimeoutAction(StrEnum):
    """What happens to a request that waited longer than its time-out (Triton's names)."""

    REJECT = "REJECT"
    DELAY = "DELAY"


class InstanceKind(StrEnum):
    """Where the instances of a model run (Triton's names)."""

    KIND_AUTO = "KIND_AUTO"
    KIND_CPU = "KIND_CPU"
    KIND_GPU = "KIND_GPU"


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which versions Triton serves: ``all``, ``latest:N`` or ``specific:1,3``."""

    latest: int = 1
    specific: tuple[int, ...] = ()
    all: bool = False

    def __post_init__(self) -> None:
        if self.latest < 1 or any(version < 1 for version in self.specific):
            raise ConfigError("version_policy: version numbers and counts start at 1")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``all``, ``latest:N`` or ``specific:1,3``."""
        kind, _, rest = text.strip().partition(":")
        try:
            if kind == "all" and not rest:
                return cls(all=True)
            if kind == "latest":
                return cls(latest=int(rest or 1))
            if kind == "specific" and rest:
                return cls(specific=tuple(int(version) for version in rest.split(",")))
        except ValueError:
            pass
        raise ConfigError(f"version_policy {text!r} is not one of all, latest:N, specific:1,3")

    def __str__(self) -> str:
        if self.all:
            return "all"
        if self.specific:
            return "specific:" + ",".join(str(version) for version in self.specific)
        return f"latest:{self.latest}"


def _option(default: object, help_text: str) -> Any:
    """Declare one serving option: its default and the help line of its flag."""
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, slots=True)
class ServingConfig:
    """How Triton serves a model: batching, queue, instances, cache, warm-up, versions.

    Every field is a key of the options file and, with dashes, a flag of ``convert``.
    Names and meanings are those of Triton's ``model_config.proto``.
    """

    max_batch_size: int = _option(256, "Most rows in one execution; 0: no batching.")
    dynamic_batching: bool = _option(True, "Join waiting requests into one execution.")
    max_queue_delay_microseconds: int = _option(
        0, "How long a request may wait for others to join; 0 keeps a lone caller fast."
    )
    preferred_batch_size: tuple[int, ...] = _option(
        (), "Batch sizes to send off at once, e.g. 8,32."
    )
    preserve_ordering: bool = _option(False, "Answer in the order of the requests.")
    max_queue_size: int = _option(0, "Most requests that may wait; 0: no limit.")
    # Any limit on the queue makes Triton 2.51 lose wake-ups of its batcher: with one instance
    # and 32 callers, answers wait for half a second again and again, so none is a default. One
    # such fault was mended in July 2026 (triton-inference-server/core, pull request 509).
    default_timeout_microseconds: int = _option(
        0, "Longest wait in the queue; 0: no limit, and no request can set one."
    )
    timeout_action: TimeoutAction = _option(
        TimeoutAction.REJECT, "What to do with a request that waited too long."
    )
    allow_timeout_override: bool = _option(
        False, "Drop a request from the queue once its caller's own time is over."
    )
    priority_levels: int = _option(0, "Number of priorities, 1 the highest; 0: none.")
    default_priority_level: int = _option(
        0, "Priority of a request that names none; 0: the middle one."
    )
    instance_count: int = _option(1, "Copies of the model that run side by side.")
    instance_kind: InstanceKind = _option(InstanceKind.KIND_CPU, "Where the copies run.")
    gpus: tuple[int, ...] = _option((), "GPU numbers for KIND_GPU; none: all.")
    version_policy: VersionPolicy = _option(
        VersionPolicy(), "Versions to serve: all, latest:N or specific:1,3."
    )
    response_cache: bool = _option(False, "Answer repeated requests from Triton's cache.")
    warmup_batch_sizes: tuple[int, ...] = _option(
        (1,), "Batch sizes to run before the model counts as ready; none: no warm-up."
    )
    intra_op_thread_count: int | None = _option(
        None, "Threads inside one operator; unset: 1 for tabular models, else the library's."
    )
    inter_op_thread_count: int | None = _option(
        None, "Threads between operators (ONNX Runtime, with execution_mode 1)."
    )
    execution_mode: int | None = _option(
        None, "ONNX Runtime: 0 runs operators in turn, 1 side by side."
    )

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_batching()
        self._check_queue()
        self._check_instances()

    def _check_numbers(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            numbers = value if isinstance(value, tuple) else (value,)
            for number in numbers:
                if isinstance(number, int) and number > _MOST:
                    raise ConfigError(f"{option.name} must be at most {_MOST}, got {number}")
                if isinstance(number, int) and number < 0:
                    raise ConfigError(f"{option.name} must not be negative, got {number}")
        for name in ("intra_op_thread_count", "inter_op_thread_count"):
            if getattr(self, name) == 0:
                msg = f"{name} must be at least 1; leave it out for the library's own choice"
                raise ConfigError(msg)
        if self.execution_mode not in {None, 0, 1}:
            raise ConfigError(f"execution_mode must be 0 or 1, got {self.execution_mode}")

    def _check_batching(self) -> None:
        limit = max(self.max_batch_size, 1)
        for name in ("preferred_batch_size", "warmup_batch_sizes"):
            sizes: tuple[int, ...] = getattr(self, name)
            if 0 in sizes:
                raise ConfigError(f"{name} holds 0; sizes start at 1")
            # A warm-up above max_batch_size crashed tritonserver with a C++ backend (25.11).
            if sizes and max(sizes) > limit:
                msg = f"{name} holds {max(sizes)}, above max_batch_size {self.max_batch_size}"
                raise ConfigError(msg, hint="raise max_batch_size or lower the sizes")

    def _check_queue(self) -> None:
        if self.default_priority_level > self.priority_levels:
            msg = (
                f"default_priority_level {self.default_priority_level} is above"
                f" priority_levels {self.priority_levels}"
            )
            raise ConfigError(msg)
        if self.priority_levels > 1 and self.preserve_ordering:
            raise ConfigError("preserve_ordering leaves room for one priority level only")
        if self.priority_levels and not self.default_priority_level:
            middle = (self.priority_levels + 1) // 2
            object.__setattr__(self, "default_priority_level", middle)
        if self.max_batch_size == 0:
            object.__setattr__(self, "dynamic_batching", False)
        wanted = [name for name in _NEEDS_BATCHER if getattr(self, name)]
        if wanted and not self.dynamic_batching:
            names = " and ".join(wanted)
            msg = f"only with dynamic_batching and a max_batch_size above 0 is there {names}"
            raise ConfigError(msg, hint="Triton's queue settings belong to its dynamic batcher")

    def _check_instances(self) -> None:
        if self.instance_count < 1:
            raise ConfigError("instance_count must be at least 1")
        if self.gpus and self.instance_kind is not InstanceKind.KIND_GPU:
            raise ConfigError(f"gpus need instance_kind KIND_GPU, not {self.instance_kind}")


_MOST = 2**31 - 1
_NEEDS_BATCHER = (
    "max_queue_delay_microseconds",
    "preferred_batch_size",
    "preserve_ordering",
    "max_queue_size",
    "default_timeout_microseconds",
    "allow_timeout_override",
    "priority_levels",
)


class Road(StrEnum):
    """The form in which Triton gets a model."""

    ONNX = "onnx"
    TORCHSCRIPT = "torchscript"
    PYTHON = "python"
    FIL = "fil"


@dataclass(frozen=True, slots=True)
class RepositoryEntry:
    """A model as it stands in a repository."""

    name: str
    path: Path
    versions: tuple[int, ...]

    @property
    def latest(self) -> Path:
        """The folder of the highest version."""
        return self.path / str(self.versions[-1])
