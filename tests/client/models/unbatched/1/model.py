"""Add up each row, without a batch axis of Triton's."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        total = x.astype(np.float64).sum(axis=1)
        return pb_utils.InferenceResponse([pb_utils.Tensor("total", total)])
