"""Give every input back under its own name, one for each data type."""

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(tensor.name(), tensor.as_numpy()) for tensor in request.inputs()]
        )
