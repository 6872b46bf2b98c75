"""Answer with one word after the other, a pause of as many seconds as is asked for between them."""

from threading import Event
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            self.answer(request)

    def answer(self, request: Any) -> None:
        sender = request.get_response_sender()
        text = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()[0]
        pause = pb_utils.get_input_tensor_by_name(request, "pause")
        for word in text.split():
            tensor = pb_utils.Tensor("word", np.array([word], np.object_))
            sender.send(pb_utils.InferenceResponse([tensor]))
            if pause is not None:
                Event().wait(float(pause.as_numpy()[0]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
