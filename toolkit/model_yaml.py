"""What a model's YAML file says, checked key by key: one model, or one clear complaint."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from toolkit.errors import ConfigError, RepositoryError
from toolkit.spec import DType, InstanceKind, ServingConfig, check_model_name


class Backend(StrEnum):
    """What runs a model, in the words of the YAML."""

    SKLEARN = "sklearn"
    PYTHON = "python"
    ONNX = "onnx"
    TORCH = "torch"


_PLANNED = ("tensorflow", "jax")
_FILES: Mapping[Backend, tuple[str, ...]] = {
    Backend.SKLEARN: (".pkl", ".pickle", ".joblib"),
    Backend.ONNX: (".onnx",),
    Backend.TORCH: (".pt", ".pth"),
}
_DTYPES: Mapping[str, DType] = {
    "float32": DType.FP32,
    "float64": DType.FP64,
    "float": DType.FP64,
    "int32": DType.INT32,
    "int64": DType.INT64,
    "integer": DType.INT64,
    "uint8": DType.UINT8,
    "uint16": DType.UINT16,
    "string": DType.BYTES,
    "str": DType.BYTES,
}
_DEVICES: Mapping[str, InstanceKind | None] = {
    "cpu": None,
    "cuda": InstanceKind.KIND_GPU,
    "tensorrt": InstanceKind.KIND_GPU,
}
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_KNOWN = frozenset(
    {
        "name",
        "version",
        "description",
        "backend",
        "caching",
        "model_args",
        "input",
        "output",
        "preferred_batch_size",
        "max_batch_delay_ms",
        "rush_batch_size",
    }
)


@dataclass(frozen=True, slots=True)
class Declared:
    """An input or output as the YAML has it; the first number of ``shape`` counts rows."""

    dtype: DType
    shape: tuple[int, ...]

    def fits(self, dims: tuple[int, ...], *, batched: bool) -> bool:
        """Say whether a tensor has these dims; -1 is any length, ``[-1]`` is ``[-1, 1]``."""
        own = self.shape[1:] if batched else self.shape
        own, other = own or (1,), dims or (1,)
        return len(own) == len(other) and all(
            -1 in pair or pair[0] == pair[1] for pair in zip(own, other, strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderModel:
    """One model of the folder ``root``, as its YAML file ``path`` describes it.

    ``preferred_batch_size`` rises, and its last entry is the usual capacity of a batch.
    ``target`` is ``module:Class`` and ``kwargs`` what it is made with; ``sample``, rows that
    lie beside the YAML; ``notes``, what its author ought to know.
    """

    path: Path
    root: Path
    name: str
    backend: Backend
    input: Declared
    output: Declared
    preferred_batch_size: tuple[int, ...]
    max_batch_delay_ms: int
    rush_batch_size: int
    model_file: Path | None = None
    target: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    version: str = ""
    description: str = ""
    caching: bool = False
    sample: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def serving(self) -> dict[str, Any]:
        """The fields of ``ServingConfig`` that the YAML decides.

        Triton takes the largest preferred size that the queue fills, so a
        ``rush_batch_size`` above the others is used while more than one batch waits.
        """
        sizes = self.preferred_batch_size
        if self.rush_batch_size > sizes[-1]:
            sizes = (*sizes, self.rush_batch_size)
        said: dict[str, Any] = {
            "max_batch_size": sizes[-1],
            "preferred_batch_size": sizes,
            "max_queue_delay_microseconds": self.max_batch_delay_ms * 1000,
        }
        if self.caching:
            said["response_cache"] = True
        if kind := _DEVICES[self.device]:
            said["instance_kind"] = kind
        return said


def is_inside(path: Path, folder: Path) -> bool:
    """Say whether ``path`` exists and, its links followed, is in ``folder``."""
    try:
        # realpath, because Path.resolve has another error for a circle of links (3.11, 3.12).
        real = os.path.realpath(path, strict=True)
    except (OSError, ValueError):
        return False
    return Path(real).is_relative_to(os.path.realpath(folder))


def parse(said: object, path: Path, root: Path) -> FolderModel:
    """Return the model that the mapping under ``model`` in the file ``path`` describes.

    ``root`` is the folder that its files have to be in. Raises ``ConfigError``, with the name
    of the key.
    """
    if not isinstance(said, dict):
        raise ConfigError(
            "model must be a mapping", hint="write 'model:' and its keys, indented, below it"
        )
    model = _model(said, path, root)
    try:
        check_model_name(model.name)
    except RepositoryError as error:
        raise ConfigError(error.message, hint=error.hint) from error
    ServingConfig(**model.serving)  # Numbers that no server takes are told now.
    return replace(model, notes=(*_remarks(model), *_strange(said)))


def _model(said: Mapping[str, Any], path: Path, root: Path) -> FolderModel:
    backend = _backend(said)
    args = _mapping(said, "model_args")
    kwargs = args.get("kwargs") or {}
    if not isinstance(kwargs, dict) or not all(isinstance(key, str) for key in kwargs):
        raise ConfigError("Invalid kwargs format: expected names and values")
    sizes = _sizes(_needed(said, "preferred_batch_size"))
    return FolderModel(
        path=path,
        root=root,
        name=_text(said, "name"),
        backend=backend,
        input=_declared(said, "input"),
        output=_declared(said, "output"),
        preferred_batch_size=sizes,
        max_batch_delay_ms=_whole(said, "max_batch_delay_ms", least=0),
        rush_batch_size=_whole(said, "rush_batch_size", least=1),
        model_file=_model_file(args, backend, path, root),
        target=_target(args, backend, path),
        kwargs=kwargs,
        device=_device(args, backend),
        version=str(said.get("version") or ""),
        description=str(said.get("description") or "").strip(),
        caching=_switch(said, "caching"),
        sample=_sample(path, root),
    )


def missing(key: str) -> ConfigError:
    """Return the complaint about a key that has to be there."""
    return ConfigError(
        f"Missing required key in model_signature: {key}",
        hint="docs/convert.md shows a whole file under 'A folder of models'",
    )


def _needed(said: Mapping[str, Any], key: str, where: str = "") -> Any:
    if said.get(key) is None:
        raise missing(where + key)
    return said[key]


def _mapping(said: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = _needed(said, key)
    if not isinstance(value, dict):
        raise ConfigError(f"Invalid {key} format: expected keys and values, got {value!r}")
    return value


def _text(said: Mapping[str, Any], key: str) -> str:
    value = _needed(said, key)
    if not isinstance(value, str):
        raise ConfigError(f"Invalid {key} format: expected text, got {value!r}", hint="quote it")
    return value


def _whole(said: Mapping[str, Any], key: str, *, least: int) -> int:
    value = _needed(said, key)
    if type(value) is not int or value < least:
        raise ConfigError(
            f"Invalid {key} format: expected a whole number from {least} on, got {value!r}"
        )
    return value


def _switch(said: Mapping[str, Any], key: str) -> bool:
    value = said.get(key)
    if not isinstance(value, bool | None):
        raise ConfigError(f"Invalid {key} format: expected true or false, got {value!r}")
    return bool(value)


def _sizes(value: object) -> tuple[int, ...]:
    sizes = tuple(value) if isinstance(value, list) else ()
    if not sizes or any(type(size) is not int or size < 1 for size in sizes):
        raise ConfigError(
            "Invalid preferred_batch_size format: expected a list of whole numbers from 1 on,"
            f" got {value!r}",
            hint="preferred_batch_size: [16, 32, 64]",
        )
    if list(sizes) != sorted(set(sizes)):
        raise ConfigError(
            "Invalid preferred_batch_size format: the last entry is the most that a batch"
            f" holds, so sizes rise, got {value!r}",
            hint=f"preferred_batch_size: {sorted(set(sizes))}",
        )
    return sizes


def _backend(said: Mapping[str, Any]) -> Backend:
    name = _text(said, "backend")
    if name in _PLANNED:
        raise ConfigError(
            f"Backend {name} is not implemented yet.",
            hint="export the model to ONNX and say backend: onnx",
        )
    try:
        return Backend(name)
    except ValueError:
        raise ConfigError(
            f"Unsupported backend type: {name}", hint=f"known: {', '.join(Backend)}"
        ) from None


def _declared(said: Mapping[str, Any], key: str) -> Declared:
    told = _mapping(said, key)
    for name in ("type", "shape", "dtype"):
        _needed(told, name, f"{key}.")
    shape, dtype = told["shape"], told["dtype"]
    sizes = shape if isinstance(shape, list) else []
    if not sizes or any(type(size) is not int or size < -1 or size == 0 for size in sizes):
        raise ConfigError(
            f"Invalid {key}.shape format: expected a list such as [-1, 4], rows first,"
            f" got {shape!r}"
        )
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ConfigError(
            f"Invalid {key}.dtype: {dtype}", hint=f"known: {', '.join(sorted(_DTYPES))}"
        )
    return Declared(_DTYPES[dtype], tuple(sizes))


def _device(args: Mapping[str, Any], backend: Backend) -> str:
    if backend is Backend.ONNX:
        _needed(args, "device", "model_args.")
    device = args.get("device") or "cpu"
    if not isinstance(device, str) or device not in _DEVICES:
        raise ConfigError(f"Invalid device: {device}", hint=f"known: {', '.join(_DEVICES)}")
    return device if backend in {Backend.ONNX, Backend.TORCH} else "cpu"


def _model_file(args: Mapping[str, Any], backend: Backend, path: Path, root: Path) -> Path | None:
    suffixes = _FILES.get(backend)
    if suffixes is None and args.get("model_file") is None:
        return None  # A class may need no file.
    name = _needed(args, "model_file", "model_args.")
    if not isinstance(name, str):
        raise ConfigError(f"Invalid model_file: {name!r} is not the name of a file")
    if suffixes and Path(name).suffix.lower() not in suffixes:
        raise ConfigError(
            f"Invalid model_file extension, expected {' or '.join(suffixes)}: {name}",
            hint=f"a model of backend {backend} is such a file",
        )
    file = path.parent / name
    if not file.is_file() and not file.is_symlink():
        raise ConfigError(f"model_file {name} is not there", hint=f"put it in {path.parent}")
    if not is_inside(file, root):
        raise ConfigError(f"model_file {name} is outside {root}", hint=f"put it in {path.parent}")
    return file


def _target(args: Mapping[str, Any], backend: Backend, path: Path) -> str | None:
    """Return ``module:Class``; a module named from further up is found beside the YAML too."""
    text = args.get("class")
    if backend not in {Backend.PYTHON, Backend.TORCH} or (
        text is None and backend is Backend.TORCH
    ):
        return None
    text = _needed(args, "class", "model_args.")
    if not isinstance(text, str) or not _CLASS.fullmatch(text):
        raise ConfigError(
            f"Invalid class: {text!r}, expected module:Class",
            hint="class: predictor:Predictor, with predictor.py beside the YAML",
        )
    module, _, name = text.partition(":")
    *above, last = module.split(".")
    trail = list(path.parent.resolve().parts)
    if (path.parent / f"{last}.py").is_file() and above == trail[len(trail) - len(above) :]:
        module = last
    if (path.parent / module.partition(".")[0]).is_dir():
        raise ConfigError(
            f"class {text}: {module.partition('.')[0]} is a folder, and only plain .py files"
            " go into an entry",
            hint="put the class in a .py file beside the YAML, or install its package",
        )
    return f"{module}:{name}"


def _sample(path: Path, root: Path) -> Path | None:
    """Return the file called ``sample`` beside the YAML, whatever its kind."""
    found = sorted(p for p in path.parent.glob("sample.*") if p.is_file() or p.is_symlink())
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ConfigError(f"there are several samples: {names}", hint="leave one of them")
    if found and not is_inside(found[0], root):
        raise ConfigError(f"{found[0].name} leads out of {root}", hint="copy it there")
    return found[0] if found else None


def _remarks(model: FolderModel) -> Iterator[str]:
    if model.rush_batch_size < model.preferred_batch_size[-1]:
        yield (
            f"rush_batch_size {model.rush_batch_size} is below the last"
            f" preferred_batch_size, {model.preferred_batch_size[-1]}, and changes nothing"
        )
    if model.device == "tensorrt":
        yield "device tensorrt: it runs on the GPU by ONNX Runtime's CUDA, not by TensorRT"


def _strange(said: Mapping[str, Any]) -> Iterator[str]:
    for key in said:
        if key not in _KNOWN:
            yield f"the key {key!r} is unknown and ignored"
