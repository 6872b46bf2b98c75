"""TorchScript files, taken as they are."""

import shutil
from pathlib import Path

from converters import torchscript
from converters.options import ConversionOptions
from converters.table import Converted, Question


def to_torchscript(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Copy the file."""
    path = workdir / "model.pt"
    shutil.copyfile(question.source.path, path)
    return Converted(torchscript.spec(question, options.name), {"model.pt": path})
