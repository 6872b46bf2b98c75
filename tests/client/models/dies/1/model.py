"""Give each row back; a negative one ends the process, as a crash would."""

import os
from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        if x[0, 0] < 0:
            os._exit(3)
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", x)])
