"""TorchScript files, taken as they are; wrapped where the backend would refuse them."""

import shutil
from pathlib import Path

from converters import torchscript
from converters.options import ConversionOptions
from converters.reference import quiet
from converters.table import Converted, Question


def to_torchscript(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Copy the file, or write one around it that gives a tuple in place of a dict or list."""
    path = workdir / "model.pt"
    with quiet():  # torch 2.13 calls TorchScript deprecated; Triton reads nothing else.
        module = torchscript.plain(question.source.model, question, options)
        if module is question.source.model:
            shutil.copyfile(question.source.path, path)
        else:
            path.write_bytes(torchscript.stored(module))
    return Converted(torchscript.spec(question, options), {"model.pt": path})
