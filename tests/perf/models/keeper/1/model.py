"""Keep the first rows that come, one JSON object a line, in ``kept.jsonl`` beside the model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

MOST = 50


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.path = Path(args["model_repository"], "kept.jsonl")
        self.count = 0

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        rows = len(next(iter(tensors.values())))
        if not self.path.exists():  # Whoever removes it wants to see what comes next.
            self.count = 0
        if self.count < MOST:
            with self.path.open("a", encoding="utf-8") as file:
                for row in range(rows):
                    line = {name: written(array[row]) for name, array in sorted(tensors.items())}
                    file.write(json.dumps(line) + "\n")
            self.count += rows
        count = np.full((rows, 1), rows, np.int64)
        return pb_utils.InferenceResponse([pb_utils.Tensor("count", count)])


def written(array: Any) -> list[str]:
    """Return the bytes of each element in hexadecimal."""
    if array.dtype == object:
        return [item.hex() for item in array]
    return [item.tobytes().hex() for item in array]
