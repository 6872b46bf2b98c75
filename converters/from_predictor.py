"""Any object with ``predict`` or ``transform`` to the Python backend: it serves itself."""

import contextlib
import functools
import importlib.metadata
import io
import json
import pickle
import shutil
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from converters import intake, modules, tabular_onnx
from converters.interrupts import reraise_interrupt
from converters.options import ConversionOptions
from converters.rows import Form, Rows
from converters.source import LoadedModel
from converters.table import Converted, Question
from toolkit.errors import UnsupportedModelError
from toolkit.spec import DType, ModelSpec, TensorSpec


def to_python(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Lay the original beside the host, with how to ask it and what it needs.

    Inputs and outputs are FP64 where the original computes in it, so nothing is rounded.
    """
    spec = ModelSpec(
        options.name,
        "python",
        tabular_onnx.inputs_of(question.rows, floats=DType.FP64)
        if question.rows.form is not Form.TENSORS
        else _tensors(question.rows),
        tuple(tabular_onnx.output_spec(out, floats=DType.FP64) for out in question.answer),
    )
    asked = intake.as_settings(intake.of(question.source.model, question.rows))
    return lay_out(question, spec, workdir, asked)


def lay_out(
    question: Question, spec: ModelSpec, workdir: Path, asked: Mapping[str, Any]
) -> Converted:
    """Lay the original beside the host; ``asked`` is the part of the settings on the rows.

    With ``{"form": "tensors"}`` the original is a torch module, called with the inputs in
    their order; its answer is a tensor, several by position, or several by name.

    Raises:
        UnsupportedModelError: a module of the object's own has the name of the host.
    """
    host = workdir / "model.py"
    # The host is a file that Triton runs; it is copied by its path, never imported.
    host.write_bytes((files("python_backend") / "predictor" / "model.py").read_bytes())
    used = _modules(question.source.model)
    own = _own_modules(question.source, used, workdir)
    original = _original(question.source, workdir)
    settings = workdir / "predictor.json"
    document = _settings(question, original.name, asked, spec)
    settings.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    requirements = workdir / "requirements.txt"
    needed = (used | _host_modules(asked["form"])) - {path.stem for path in own}
    requirements.write_text(_requirements(needed), encoding="utf-8")
    written = (host, original, settings, requirements, *own)
    return Converted(spec, {path.name: path for path in written})


def _tensors(rows: Rows) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, DType.from_numpy(array.dtype), array.shape[1:])
        for name, array in rows.tensors.items()
    )


def _host_modules(form: str) -> set[str]:
    """Return the modules that the host itself imports for this form."""
    of_form = {"frame": {"pandas", "joblib"}, "tensors": {"torch"}}
    return {"numpy"} | of_form.get(form, {"joblib"})


def _own_modules(source: LoadedModel, used: set[str], workdir: Path) -> list[Path]:
    """Copy the modules beside the model file that the object needs."""
    copies = []
    for name, path in modules.beside(source.path.parent, used).items():
        copy = workdir / path.name
        if copy.exists():  # Triton looks for the host under this name.
            msg = f"the object needs {path}, and {path.name} is the name of Triton's own file"
            raise UnsupportedModelError(msg, hint=f"rename the module {name} and save it again")
        shutil.copyfile(path, copy)
        copies.append(copy)
    return copies


def _original(source: LoadedModel, workdir: Path) -> Path:
    """Copy the pickle or torch file; a booster's own file becomes a pickle of what it holds."""
    if source.framework == "torch":
        original = workdir / "predictor.pt"
        shutil.copyfile(source.path, original)
        return original
    if source.pickled:
        suffix = ".pkl" if source.path.suffix in {".pkl", ".pickle"} else ".joblib"
        original = workdir / f"predictor{suffix}"
        shutil.copyfile(source.path, original)
        return original
    original = workdir / "predictor.pkl"
    try:
        original.write_bytes(pickle.dumps(source.model, protocol=5))
    except Exception as error:  # Pickling runs the code of the object.
        reraise_interrupt(error)
        msg = f"a {source.class_name} from {source.path.name} cannot be stored for the Python road"
        raise UnsupportedModelError(msg) from error
    return original


def _settings(
    question: Question, original: str, asked: Mapping[str, Any], spec: ModelSpec
) -> dict[str, Any]:
    return {
        "file": original,
        "inputs": [tensor.name for tensor in spec.inputs],
        **asked,
        "alone": any(output.alone for output in question.answer),
        "outputs": [
            {
                "name": tensor.name,
                "dtype": tensor.dtype.value,
                "dims": list(tensor.dims),
                "method": output.method,
                "part": output.part,
            }
            for tensor, output in zip(spec.outputs, question.answer, strict=True)
        ],
    }


def _requirements(needed: set[str]) -> str:
    """Return exact versions of the distributions whose modules the object uses."""
    owners = _owners()
    lines = set()
    for module in sorted(needed):
        for distribution in owners.get(module, ()):
            # What stands behind a plus is a build's own and on no index: torch's 2.13.0+cpu.
            version = importlib.metadata.version(distribution).partition("+")[0]
            lines.add(f"{distribution}=={version}")
        if module not in owners and not _is_standard(module):
            lines.add(f"# and the module {module}, which belongs to no installed distribution")
    return "\n".join(sorted(lines)) + "\n"


@functools.cache
def _owners() -> Mapping[str, list[str]]:
    """Return which distributions each module belongs to: reading them all takes a while."""
    return importlib.metadata.packages_distributions()


def _is_standard(module: str) -> bool:
    return module in sys.stdlib_module_names or module == "__main__"


class _ModuleFinder(pickle.Pickler):
    """Note the top-level modules of everything an object is made of."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), protocol=5)
        self.found: set[str] = set()

    def persistent_id(self, obj: Any) -> None:
        for owner in (obj, *type(obj).__mro__):
            module = getattr(owner, "__module__", None)
            if isinstance(module, str):
                self.found.add(module.partition(".")[0])


def _modules(model: Any) -> set[str]:
    finder = _ModuleFinder()
    # An object that cannot be pickled again still shows most of what it is made of.
    with contextlib.suppress(Exception):
        finder.dump(model)
    return finder.found
