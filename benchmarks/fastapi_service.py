"""The service people write by hand: FastAPI, a pydantic body, one ONNX Runtime session.

Run by ``serving.py`` as ``uvicorn fastapi_service:app``; MODEL names the ONNX file,
THREADS the threads of the session. The same answer is given by a route in each of the
styles that are common, because they differ in speed by more than a factor of two.
"""

import os
from typing import Any

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel


class Rows(BaseModel):
    """Rows of features, as JSON."""

    inputs: list[list[float]]


class Answer(BaseModel):
    """One label and one list of class probabilities a row."""

    label: list[int]
    probabilities: list[list[float]]


def _open() -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(os.environ["THREADS"])
    return ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])


app = FastAPI()
_session = _open()
_input = _session.get_inputs()[0].name


def _run(body: Rows) -> tuple[list[int], list[list[float]]]:
    rows = np.asarray(body.inputs, dtype=np.float64)
    label, probabilities = _session.run(["label", "probabilities"], {_input: rows})
    return label.tolist(), probabilities.tolist()


# The fastest: the model runs on the event loop, for handing it to a thread costs more
# than so small a model takes, and pydantic writes the declared answer.
@app.post("/async-declared")
async def async_declared(body: Rows) -> Answer:
    """Return the label and the class probabilities of each row."""
    label, probabilities = _run(body)
    return Answer(label=label, probabilities=probabilities)


@app.post("/async-dict")
async def async_dict(body: Rows):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Return the same as a dict that FastAPI knows nothing about."""
    label, probabilities = _run(body)
    return {"label": label, "probabilities": probabilities}


# What FastAPI advises for code that blocks: a thread of a pool runs it.
@app.post("/def-dict")
def def_dict(body: Rows):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Return the same dict from a thread."""
    label, probabilities = _run(body)
    return {"label": label, "probabilities": probabilities}
