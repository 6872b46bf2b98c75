"""Predictions of the engine's model: one request, or a batch of them."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from time import perf_counter
from typing import Any
from uuid import uuid4

import numpy as np

from toolkit.errors import (
    InvalidInputError,
    PermissionDeniedError,
    RequestError,
    ToolkitError,
    UnavailableError,
    UnknownModelError,
)
from toolkit.gateway.engine.model import Model
from toolkit.gateway.engine.state import Engine
from toolkit.gateway.engine.surroundings import Told
from toolkit.gateway.exchange import Refused
from toolkit.gateway.replies import told as in_words

_THROTTLED = "Request throttled due to high load"


def now() -> str:
    """Return the local time as all answers of the engine give it."""
    return datetime.now().isoformat()  # noqa: DTZ005  so it is documented


async def predict(engine: Engine, features: list[Any], request_id: str | None) -> dict[str, Any]:
    """Return the answer to one request; a failure of the model is an answer too.

    Raises ``Refused`` for a request that cannot be asked, and the ``RequestError``s of a
    Triton that does not answer.
    """
    model = engine.require_model()
    if engine.throttled:
        return _failed(request_id, _THROTTLED, {"error": _THROTTLED, "throttled": True})
    require_rectangular(features)
    began = perf_counter()
    try:
        told = await asked(engine, model, features, request_id=request_id)
    except InvalidInputError as error:
        raise invalid(error) from error
    except RequestError as error:
        if is_outage(error):
            raise
        return _failed(request_id, in_words(error), {"error": error.message})
    return _succeeded(request_id, told.predictions, _metadata(model, told, began, len(features)))


async def predict_batch(
    engine: Engine, batch: Sequence[list[Any]], request_ids: Sequence[str] | None
) -> dict[str, Any]:
    """Return one answer for each item: in one call where all rows have one form.

    One item that fails does not fail the others. Raises as ``predict``.
    """
    model = engine.require_model()
    for features in batch:
        require_rectangular(features)
    began = perf_counter()
    names = list(request_ids or [str(uuid4()) for _ in batch])
    results = await _together(engine, model, batch, names)
    if results is None:
        results = await asyncio.gather(
            *(_alone(engine, features, name) for features, name in zip(batch, names, strict=True))
        )
    for place, result in enumerate(results):
        result["metadata"] |= {"batch_index": place, "batch_size": len(batch)}
    total = (perf_counter() - began) * 1e3
    return {
        "batch_id": str(uuid4()),
        "results": results,
        "metadata": {
            "total_time_ms": total,
            "batch_size": len(batch),
            "success_rate": sum(result["success"] for result in results) / len(batch),
            "avg_time_per_item_ms": total / len(batch),
        },
        "timestamp": now(),
    }


async def asked(
    engine: Engine,
    model: Model,
    features: list[Any],
    *,
    request_id: str | None = None,
    cached: bool = True,
) -> Told:
    """Ask the model for ``features``, however many rows they are; count what is under way.

    Raises ``RequestError``s.
    """
    with engine.counting():
        generation = engine.generation
        try:
            told = await _split(engine, model, features, request_id, cached)
        except (InvalidInputError, UnknownModelError) as error:
            # It may have been asked as it was served until a moment ago.
            if not await engine.changed_since(generation):
                if isinstance(error, InvalidInputError):
                    raise
                engine.lost(model)
                raise UnavailableError(f"Triton does not serve {model.name} now") from error
            current = engine.require_model()
            told = await _split(engine, current, features, request_id, cached)
    if not told.cached:
        engine.took(told.seconds)
    return told


async def _split(
    engine: Engine, model: Model, features: list[Any], request_id: str | None, cached: bool
) -> Told:
    """Ask in pieces that Triton takes: it refuses more rows than the model's largest batch."""
    most = engine.config.max_batch_size
    cached = cached and engine.config.enable_cache
    rows = model.batched and isinstance(features[0], list | dict | str)
    if not rows or len(features) <= most:
        return await engine.around.ask(model.name, features, request_id=request_id, cached=cached)
    pieces = [features[start : start + most] for start in range(0, len(features), most)]
    answers = await asyncio.gather(
        *(
            engine.around.ask(model.name, piece, request_id=request_id, cached=cached)
            for piece in pieces
        )
    )
    return Told(
        [row for answer in answers for row in answer.predictions],
        {
            name: np.concatenate([answer.outputs[name] for answer in answers])
            for name in answers[0].outputs
        },
        max(answer.seconds for answer in answers),
        all(answer.cached for answer in answers),
    )


def require_rectangular(features: list[Any]) -> None:
    """Refuse with 400 lists within lists that are not all of one length."""
    if not features:
        raise Refused(400, "Invalid feature format: features cannot be empty")
    try:
        _shape(features)
    except ValueError as error:
        raise Refused(400, f"Invalid feature format: {error}") from None


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    shapes = {_shape(each) for each in value}
    if len(shapes) > 1:
        raise ValueError("its rows differ in length")
    return (len(value), *(shapes.pop() if shapes else ()))


def invalid(error: ToolkitError) -> Refused:
    """Return the refusal of features that do not fit the model."""
    return Refused(400, f"Invalid feature format: {in_words(error)}")


def is_outage(error: RequestError) -> bool:
    """Whether Triton failed, not the model: a matter of HTTP's 502, 503 and 504."""
    return error.retryable or isinstance(error, PermissionDeniedError)


async def _together(
    engine: Engine, model: Model, batch: Sequence[list[Any]], names: Sequence[str]
) -> list[dict[str, Any]] | None:
    """Ask for all rows at once; None where that cannot be, or failed for one of them."""
    flat = any(not isinstance(features[0], list | dict | str) for features in batch)
    if flat or not model.batched or len({_shape(features)[1:] for features in batch}) > 1:
        return None
    if engine.throttled:
        failure = {"error": _THROTTLED, "throttled": True}
        return [_failed(name, _THROTTLED, dict(failure)) for name in names]
    began = perf_counter()
    rows = [row for features in batch for row in features]
    try:
        told = await asked(engine, model, rows)
    except RequestError as error:
        if is_outage(error):
            raise
        return None
    metadata = _metadata(model, told, began, len(rows))
    results, start = [], 0
    for features, name in zip(batch, names, strict=True):
        part = told.predictions[start : start + len(features)]
        results.append(_succeeded(name, part, dict(metadata)))
        start += len(features)
    return results


async def _alone(engine: Engine, features: list[Any], name: str) -> dict[str, Any]:
    try:
        return await predict(engine, features, name)
    except Refused as error:
        return _failed(name, error.detail, {"error": error.detail})


def _metadata(model: Model, told: Told, began: float, rows: int) -> dict[str, Any]:
    hit = {"cached": True, "cache_hit": True} if told.cached else {}
    return {
        "inference_time_ms": told.seconds * 1e3,
        "total_time_ms": (perf_counter() - began) * 1e3,
        "batch_size": rows,
        "compiled_model_used": model.compiled,
        "model": model.name,
        "version": model.version,
        **hit,
    }


def _succeeded(
    request_id: str | None, predictions: Any, metadata: dict[str, Any]
) -> dict[str, Any]:
    return {
        "request_id": request_id or str(uuid4()),
        "success": True,
        "predictions": predictions,
        "error": None,
        "metadata": metadata,
        "timestamp": now(),
    }


def _failed(request_id: str | None, error: str, metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        "request_id": request_id or str(uuid4()),
        "success": False,
        "predictions": None,
        "error": error,
        "metadata": metadata,
        "timestamp": now(),
    }
