"""Write ``city:age`` for each row."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        age = pb_utils.get_input_tensor_by_name(request, "age").as_numpy()
        city = pb_utils.get_input_tensor_by_name(request, "city").as_numpy()
        pairs = zip(city.ravel(), age.ravel(), strict=True)
        line = np.array([b"%s:%d" % pair for pair in pairs], dtype=object).reshape(age.shape)
        return pb_utils.InferenceResponse([pb_utils.Tensor("line", line)])
