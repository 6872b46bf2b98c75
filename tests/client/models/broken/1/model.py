"""Fail to load."""

from typing import Any


class TritonPythonModel:
    def initialize(self, _: dict[str, str]) -> None:
        raise FileNotFoundError("weights.bin is missing")

    def execute(self, _: list[Any]) -> list[Any]:
        raise NotImplementedError
