"""The models by their names: what is served, and predictions at once or joined by Triton.

``/predict/{model}`` takes any number of rows, ``/predict_batched/{model}`` exactly one and is
limited in its rate; both give ``{"model": …, "predictions": [[…], …]}``, one list a row. A
model with more outputs than one tells the others under ``outputs``, by name.
"""

from html import escape
from typing import TYPE_CHECKING, Any

import orjson

from toolkit.errors import UnknownModelError
from toolkit.gateway import caches, features, predicting
from toolkit.gateway.exchange import Asked, Refused, Reply
from toolkit.gateway.replies import json_reply

if TYPE_CHECKING:
    from toolkit.gateway.models import Known
    from toolkit.gateway.service import Gateway

PREDICT = "/predict/"
PREDICT_BATCHED = "/predict_batched/"


async def predict(gateway: "Gateway", asked: Asked) -> Reply:
    """Answer ``POST /predict/{model}``."""
    return await _predict(gateway, asked, asked.path[len(PREDICT) :], "predict")


async def predict_batched(gateway: "Gateway", asked: Asked) -> Reply:
    """Answer ``POST /predict_batched/{model}``: one row, which may wait for others."""
    name = asked.path[len(PREDICT_BATCHED) :]
    return await _predict(gateway, asked, name, "predict_batched")


async def _predict(gateway: "Gateway", asked: Asked, name: str, endpoint: str) -> Reply:
    asked.endpoint = endpoint
    known = await found(gateway, name)
    asked.model, asked.version = known.name, known.version
    gateway.admit(asked)
    tensors = _tensors(gateway, known, asked.body)
    asked.rows = rows = features.row_count(tensors, known.signature)
    if endpoint == "predict_batched" and rows != 1:
        raise Refused(
            422, f"{PREDICT_BATCHED}{name} takes one row, got {rows}: send them to {PREDICT}{name}"
        )
    async with gateway.pressure:
        answer = await predicting.predict(
            gateway,
            known,
            tensors,
            timeout=gateway.settings.predict_timeout_seconds,
            cached=known.cached,
        )
    asked.inference_seconds, asked.version = answer.inference_seconds, answer.version
    content: dict[str, Any] = {
        "model": name,
        "predictions": features.predictions(answer.outputs),
    }
    if len(answer.outputs) > 1:
        content["outputs"] = features.others(answer.outputs)
    return json_reply(content)


async def found(gateway: "Gateway", name: str) -> "Known":
    """Return what is known of a served model; ``Refused`` with 404 for any other name."""
    try:
        return await gateway.models.get(name)
    except UnknownModelError as error:
        raise Refused(404, f"Model not found: {name}") from error


def _tensors(gateway: "Gateway", known: "Known", body: bytes) -> features.Tensors:
    def made() -> features.Tensors:
        return features.tensors(_features(body), known.signature)

    converted = gateway.converted if known.cached else None
    if converted is None:
        return made()
    key = caches.body_key(known.name, known.version, body)
    return converted.made(key, known.version, made)


def _features(body: bytes) -> object:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(422, f"the body is not JSON: {error}") from error
    if type(content) is not dict or "features" not in content:
        raise Refused(422, 'the body is {"features": [[…], …]}, one list of values a row')
    return content["features"]


async def available(gateway: "Gateway") -> list[dict[str, Any]]:
    """Return what is served: name, version, backend, and the first input and output."""
    described = []
    for served in await gateway.models.index():
        known = await gateway.models.get(served.name)
        described.append(_described(known))
    return described


def _described(known: "Known") -> dict[str, Any]:
    signature = known.signature
    takes, gives = signature.metadata.inputs[0], signature.metadata.outputs[0]
    return {
        "name": known.name,
        "version": known.version,
        "backend": signature.config.get("backend") or signature.metadata.platform,
        "dtype": takes.datatype,
        "input_shape": list(takes.shape),
        "output_shape": list(gives.shape),
        "features": list(signature.feature_names),
        "classes": list(signature.class_names),
    }


def page(models: list[dict[str, Any]]) -> str:
    """Return the list of models for a browser."""
    rows = "".join(
        f"<tr><td>{escape(one['name'])}</td><td>{escape(one['version'])}</td>"
        f"<td>{escape(one['backend'])}</td><td>{escape(one['dtype'])}</td>"
        f"<td>{one['input_shape']}</td><td>{one['output_shape']}</td></tr>"
        for one in models
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Available models'
        "</title><style>body{font:16px system-ui;margin:2rem}table{border-collapse:collapse}"
        "td,th{padding:.4rem .8rem;border-bottom:1px solid #ccc;text-align:left}</style></head>"
        "<body><h1>Available models</h1><table><thead><tr><th>Name</th><th>Version</th>"
        "<th>Backend</th><th>Dtype</th><th>Input shape</th><th>Output shape</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></body></html>"
    )
