"""Any object with ``predict`` to Triton's Python backend: the original serves itself."""

import contextlib
import importlib.metadata
import io
import json
import pickle
import shutil
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from converters import modules, tabular_onnx
from converters.interrupts import reraise_interrupt
from converters.options import ConversionOptions
from converters.rows import Form
from converters.source import LoadedModel
from converters.table import Converted, Question
from toolkit.errors import UnsupportedModelError
from toolkit.spec import DType, ModelSpec, TensorSpec


def to_python(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Lay the original beside the host, with how to ask it and what it needs.

    Inputs and outputs are FP64 where the original computes in it, so nothing is rounded.
    """
    inputs = tabular_onnx.inputs_of(question.rows, floats=DType.FP64)
    outputs = tuple(tabular_onnx.output_spec(out, floats=DType.FP64) for out in question.answer)
    host = workdir / "model.py"
    # The host is a file that Triton runs; it is copied by its path, never imported.
    host.write_bytes((files("python_backend") / "predictor" / "model.py").read_bytes())
    used = _modules(question.source.model)
    own = _own_modules(question.source, used, workdir)
    original = _original(question.source, workdir)
    settings = workdir / "predictor.json"
    settings.write_text(_settings(question, original.name, inputs, outputs), encoding="utf-8")
    requirements = workdir / "requirements.txt"
    requirements.write_text(
        _requirements(question, used - {path.stem for path in own}), encoding="utf-8"
    )
    spec = ModelSpec(options.name, "python", inputs, outputs)
    written = (host, original, settings, requirements, *own)
    return Converted(spec, {path.name: path for path in written})


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
    """Copy the pickle; a native XGBoost or LightGBM file becomes one, of the object it holds."""
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
    question: Question,
    original: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
) -> str:
    rows = question.rows
    if rows.form is Form.MATRIX:
        form, columns = ("frame" if rows.columns else "matrix"), list(rows.columns)
    else:
        form, columns = ("texts" if rows.form is Form.TEXTS else "frame"), list(rows.tensors)
    settings = {
        "file": original,
        "inputs": [tensor.name for tensor in inputs],
        "form": form,
        "columns": columns,
        "outputs": [
            {
                "name": tensor.name,
                "dtype": tensor.dtype.value,
                "dims": list(tensor.dims),
                "method": output.method,
            }
            for tensor, output in zip(outputs, question.answer, strict=True)
        ],
    }
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"


def _requirements(question: Question, used: set[str]) -> str:
    """Return exact versions of the distributions whose modules the object uses."""
    needed = {"numpy", "joblib"} | used
    if question.rows.columns or question.rows.form is Form.COLUMNS:
        needed.add("pandas")
    owners = importlib.metadata.packages_distributions()
    lines = set()
    for module in sorted(needed):
        for distribution in owners.get(module, ()):
            lines.add(f"{distribution}=={importlib.metadata.version(distribution)}")
        if module not in owners and not _is_standard(module):
            lines.add(f"# and the module {module}, which belongs to no installed distribution")
    return "\n".join(sorted(lines)) + "\n"


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
