"""How both backends answer what Triton hands them at once; a copy stands beside each.

Plain on purpose: joining the inputs, running once and slicing is what pays, and nothing
cleverer was measurably faster.
"""

from collections.abc import Callable, Sequence
from typing import Any

import triton_python_backend_utils as pb_utils

Run = Callable[[Sequence[Any]], list[Any]]


def answer(requests: Sequence[Any], run: Run, *, batched: bool) -> list[Any]:
    """Return one response a request: joined in one ``run``, each by itself if that fails."""
    if batched and len(requests) > 1:
        try:
            return run(requests)
        except Exception as error:  # noqa: BLE001 - whatever it is, only one may be at fault
            pb_utils.Logger.log_verbose(f"{len(requests)} requests run apart: {error}")
    return [_answer_alone(request, run) for request in requests]


def _answer_alone(request: Any, run: Run) -> Any:
    try:
        return run([request])[0]
    except UnicodeDecodeError as error:
        problem = f"a BYTES input of this model must hold UTF-8 text: {error}"
        code = pb_utils.TritonError.INVALID_ARG
    except Exception as error:  # noqa: BLE001 - the caller must hear of it, whatever it is
        problem, code = str(error), pb_utils.TritonError.INTERNAL
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(problem, code))


def split(
    wanted: Sequence[Sequence[str]], outputs: dict[str, Any], rows: Sequence[int]
) -> list[Any]:
    """Give each request its rows of ``outputs``; text leaves as str, which Triton encodes.

    ``rows`` counts the rows of each request, ``wanted`` names the outputs it asked for.
    """
    total = sum(rows)
    for name, array in outputs.items():
        if len(array) != total:
            raise ValueError(
                f"output '{name}' has {len(array)} rows for {total} rows of input, so the model"
                " does not answer row by row; serve it with max_batch_size: 0"
            )
    if len(rows) == 1:
        return [response(wanted[0], outputs)]
    responses = []
    start = 0
    for names, count in zip(wanted, rows, strict=True):
        stop = start + count
        responses.append(
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, outputs[name][start:stop]) for name in names]
            )
        )
        start = stop
    return responses


def response(names: Sequence[str], outputs: dict[str, Any]) -> Any:
    """Return the whole of the named outputs as one response."""
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, outputs[name]) for name in names])
