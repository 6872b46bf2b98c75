"""The model as its author saved it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model file.

    ``model`` is the framework's object; for ``onnx`` the parsed protobuf. ``pickled``
    says that the file itself unpickles to an object with ``predict``.
    """

    framework: str
    model: Any
    path: Path
    pickled: bool = False

    @property
    def class_name(self) -> str:
        """The name of the model's class, as its author would write it."""
        return type(self.model).__name__
