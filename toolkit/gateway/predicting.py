"""One prediction, whichever road it came by: from arrays to arrays."""

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.gateway import caches
from toolkit.gateway.features import Tensors, row_count
from toolkit.gateway.joining import Group

if TYPE_CHECKING:
    from toolkit.gateway.models import Known
    from toolkit.gateway.service import Gateway


@dataclass(slots=True)
class Answer:
    """A model's answer; ``inference_seconds`` is what its call to Triton took."""

    outputs: Tensors
    version: str
    inference_seconds: float = 0.0
    cached: bool = False


async def predict(  # noqa: PLR0913  each is a part of the request
    gateway: "Gateway",
    known: "Known",
    tensors: Tensors,
    *,
    timeout: float,
    version: str | None = None,
    priority: int | None = None,
    cached: bool = False,
) -> Answer:
    """Return the model's answer to ``tensors`` within ``timeout`` seconds.

    ``cached`` lets an answer be one that was given before to the same arrays, and joins
    equal requests that are under way. Raises ``RequestError``s.
    """
    kept = gateway.results
    if not cached or kept is None:
        return await _asked(gateway, known, tensors, timeout, version, priority)
    key = caches.key(known.name, known.version, tensors)
    found = kept.get(key)
    if found is not None:
        return Answer(found.tensors, found.version, 0.0, True)

    epoch = kept.epoch

    async def ask_and_keep() -> Answer:
        answer = await _asked(gateway, known, tensors, timeout, version, priority)
        kept.put(key, answer.outputs, answer.version, epoch)
        return answer

    return await gateway.flights.once((epoch, key), ask_and_keep)


async def _asked(  # noqa: PLR0913, PLR0917  as predict
    gateway: "Gateway",
    known: "Known",
    tensors: Tensors,
    timeout: float,
    version: str | None,
    priority: int | None,
) -> Answer:
    signature = known.signature
    most = signature.max_batch_size
    rows = row_count(tensors, signature)
    if not most:
        group = Group(known.name, version, priority, timeout, None)
        began = monotonic()
        outputs, answered = await gateway.infer(group, tensors, timeout)
        return Answer(outputs, answered, monotonic() - began)
    group = Group(known.name, version, priority, timeout, _form(tensors, known))
    if rows <= most:
        found = await gateway.joiner.ask(group, tensors, rows, most)
        return Answer(found.outputs, found.version, found.seconds)
    parts = [
        {name: array[start : start + most] for name, array in tensors.items()}
        for start in range(0, rows, most)
    ]
    answers = await asyncio.gather(
        *(gateway.joiner.ask(group, part, row_count(part, signature), most) for part in parts)
    )
    return Answer(
        {
            name: np.concatenate([answer.outputs[name] for answer in answers])
            for name in answers[0].outputs
        },
        answers[0].version,
        sum(answer.seconds for answer in answers),
    )


def _form(tensors: Tensors, known: "Known") -> Any:
    """Return what arrays must share to be rows of one call; None where all are alike."""
    if known.fixed:
        return None
    return tuple((name, array.shape[1:]) for name, array in tensors.items())
