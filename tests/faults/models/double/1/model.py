"""Double the value of each row after its seconds, and say which replica did it."""

import json
from threading import Event
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        self.replica = int(parameters["replica"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        rows = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        seconds = float(rows[:, 1].max())
        if seconds > 0:
            Event().wait(seconds)
        doubled = pb_utils.Tensor("y", rows[:, 0] * np.float32(2))
        replica = pb_utils.Tensor("replica", np.full(len(rows), self.replica, np.int32))
        return pb_utils.InferenceResponse([doubled, replica])
