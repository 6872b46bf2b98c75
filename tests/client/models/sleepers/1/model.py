"""Answer after as many seconds as the first row says."""

from threading import Event
from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        seconds = pb_utils.get_input_tensor_by_name(request, "seconds").as_numpy()
        Event().wait(float(seconds[0, 0]))
        return pb_utils.InferenceResponse([pb_utils.Tensor("seconds", seconds)])
