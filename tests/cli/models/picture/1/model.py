"""Give the mean colour of each picture."""

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("colour", image.mean(axis=(2, 3)))])
