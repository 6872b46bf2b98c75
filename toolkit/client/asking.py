"""What a question to a model consists of: its signature, requests of a batch each, an answer.

Written once, as steps that either driver runs.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from time import monotonic
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from toolkit.client import media
from toolkit.client.effects import Steps
from toolkit.client.options import TIMEOUT
from toolkit.client.policy import Policy
from toolkit.client.prediction import Prediction
from toolkit.client.rows import check_row_counts, to_tensors
from toolkit.client.transport import (
    Answer,
    Call,
    GetModelConfig,
    GetModelMetadata,
    InferRequest,
    InferResponse,
    LoadModel,
    ModelMetadata,
    UnloadModel,
)
from toolkit.errors import (
    ConfigError,
    InvalidInputError,
    RequestError,
    ServerError,
    UnknownModelError,
)
from toolkit.pbtxt import CLASS_NAMES, FEATURE_NAMES


@dataclass(frozen=True, slots=True)
class Signature:
    """What has to be known of a model before rows can be sent to it.

    ``max_batch_size`` is 0 where the model has no batch axis. ``optional`` inputs may be
    left out. ``feature_names`` are the columns of the one input, in their order, where they
    are known, ``class_names`` what values of one a class stand for. ``scalars`` are the
    outputs with one value a row, such as a label: Triton has no empty ``dims``, they are
    declared as ``[1]`` with an empty reshape.
    """

    metadata: ModelMetadata
    config: Mapping[str, Any]
    max_batch_size: int
    optional: frozenset[str]
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    scalars: frozenset[str]


def signature_of(metadata: ModelMetadata, config: Mapping[str, Any]) -> Signature:
    """Return what a model's metadata and configuration say together."""
    largest = int(config.get("max_batch_size", 0))
    features, classes = (
        tuple(json.loads(config.get("parameters", {}).get(key, {}).get("string_value", "[]")))
        for key in (FEATURE_NAMES, CLASS_NAMES)
    )
    outputs = config.get("output", ()) if largest else ()
    return Signature(
        metadata,
        config,
        largest,
        frozenset(spec["name"] for spec in config.get("input", ()) if spec.get("optional")),
        features,
        classes,
        frozenset(
            spec["name"] for spec in outputs if spec.get("reshape", {"shape": [1]})["shape"] == []
        ),
    )


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a model beside its rows; see ``Client.predict``."""

    model: str
    version: str | None = None
    outputs: tuple[str, ...] = ()
    timeout: float = TIMEOUT
    priority: int | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What became of ``count`` neighbouring rows: one answer to them all, or the error of each.

    ``alone`` says that the answer is that of a row without an axis of rows.
    """

    count: int
    outcome: Prediction | RequestError
    alone: bool = False

    def rows(self) -> list[Prediction | RequestError]:
        """Return the answer to each row, or its error."""
        outcome = self.outcome
        if self.alone or isinstance(outcome, RequestError):
            return [outcome] * self.count
        return [outcome.row(place) for place in range(self.count)]


class Asking:
    """The questions of one client; remembers the signatures of models."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._known: dict[tuple[str, str | None], Signature] = {}

    def predict(self, question: Question, rows: object) -> Steps[Prediction]:
        """Return the answers to ``rows``; see ``Client.predict``."""
        deadline = monotonic() + question.timeout
        rows = media.gathered(rows)  # they may be needed twice
        key = (question.model, question.version)
        cached = self._known.get(key)
        signature = cached or (yield from self.signature(*key, deadline))
        try:
            return (yield from self._predict(question, rows, signature, deadline))
        except (InvalidInputError, UnknownModelError):
            # Somebody may have loaded another form of the model since we last asked.
            self.forget(question.model)
            if cached is None:
                raise
            fresh = yield from self.signature(*key, deadline)
            if fresh == cached:
                raise
            return (yield from self._predict(question, rows, fresh, deadline))

    def predict_parts(self, question: Question, rows: object, count: int) -> Steps[list[Part]]:
        """Return the answers and errors of ``count`` rows, in their order.

        A row that does not fit, or at which the model fails, takes no other with it: halves
        are asked until it is alone.
        A model without a batch axis takes one row, without an axis of rows.
        """
        unbatched = False
        try:
            known = yield from self.known(question.model, question.version, question.timeout)
            unbatched = known.max_batch_size == 0
            answer = yield from self.predict(question, first_of(rows) if unbatched else rows)
        except (InvalidInputError, ServerError) as error:
            if count == 1:
                return [Part(1, error)]
            half = count // 2
            first = yield from self.predict_parts(question, taken(rows, 0, half), half)
            rest = taken(rows, half, count)
            return first + (yield from self.predict_parts(question, rest, count - half))
        except RequestError as error:
            return [Part(count, error)]
        return [Part(count, answer, unbatched)]

    def signature(self, model: str, version: str | None, deadline: float) -> Steps[Signature]:
        """Ask what the model takes and gives, and remember it."""
        metadata = yield from self.policy.ask(GetModelMetadata(model, version), deadline)
        config = yield from self.policy.ask(GetModelConfig(model, version), deadline)
        signature = signature_of(metadata, config)
        self._known[model, version] = signature
        return signature

    def known(self, model: str, version: str | None, timeout: float) -> Steps[Signature]:
        """Return what is remembered of the model, or ask."""
        known = self._known.get((model, version))
        return known or (yield from self.signature(model, version, monotonic() + timeout))

    def control(self, call: LoadModel | UnloadModel, timeout: float) -> Steps[None]:
        """Load or unload a model, and forget what was known of it."""
        try:
            yield from self.policy.ask(call, monotonic() + timeout)
        finally:
            self.forget(call.model)

    def ask(self, call: Call[Answer], timeout: float) -> Steps[Answer]:
        """Ask anything else."""
        return (yield from self.policy.ask(call, monotonic() + timeout))

    def check(self, call: Call[bool], timeout: float) -> Steps[bool]:
        """Ask whether something is so, once; any failure means no."""
        return (yield from self.policy.check(call, monotonic() + timeout))

    def _predict(
        self, question: Question, rows: object, signature: Signature, deadline: float
    ) -> Steps[Prediction]:
        try:
            parts = self._parts(question, rows, signature)
        except InvalidInputError as error:
            given = InferRequest(question.model, {"rows": cast("Any", rows)}, question.version)
            raise self.policy.refuse(given, error) from error.__cause__
        answers = []
        for part in parts:
            answers.append((yield from self.policy.ask(part, deadline)))  # noqa: PERF401  no comprehension can yield from
        arrays = _joined(answers)
        scalars = signature.scalars
        # In the model's order: the server answers in no particular one.
        outputs = {
            name: arrays[name].reshape(-1) if name in scalars else arrays[name]
            for name in (output.name for output in signature.metadata.outputs)
            if name in arrays
        }
        return Prediction(
            question.model,
            answers[0].version,
            answers[0].request_id,
            outputs,
            class_names=signature.class_names,
        )

    def _parts(self, question: Question, rows: object, signature: Signature) -> list[InferRequest]:
        """Return the requests that carry ``rows``, none larger than the model's batch."""
        if question.outputs:
            _check_outputs(question.outputs, [spec.name for spec in signature.metadata.outputs])
        inputs = signature.metadata.inputs
        tensors = to_tensors(
            media.to_rows(rows, inputs),
            inputs,
            optional=signature.optional,
            feature_names=signature.feature_names,
        )
        return [
            InferRequest(
                question.model,
                piece,
                question.version,
                question.outputs,
                question.request_id or self.policy.new_id(),
                question.priority,
            )
            for piece in _pieces(tensors, signature.max_batch_size)
        ]

    def forget(self, model: str) -> None:
        """Ask anew what the model takes and gives when it is next needed."""
        for known in [key for key in tuple(self._known) if key[0] == model]:
            self._known.pop(known, None)


def ask_about(  # noqa: PLR0913  each is a part of Triton's request
    model: str,
    version: int | str | None,
    *,
    outputs: Sequence[str] | None,
    timeout: float,
    priority: int | None,
    request_id: str | None = None,
) -> Question:
    """Return the question with its parts as they are sent."""
    for name, value in (("model", model), ("request_id", request_id)):
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{name} is text, got {value!r}")
    if priority is not None and not isinstance(priority, int):
        raise ConfigError(f"priority is a whole number, 1 is the highest; got {priority!r}")
    names = (outputs,) if isinstance(outputs, str) else tuple(outputs or ())
    return Question(model, version_name(version), names, seconds(timeout), priority, request_id)


def version_name(version: int | str | None) -> str | None:
    """Return a version as the protocol has it: text."""
    return None if version is None else str(version)


def seconds(timeout: float) -> float:
    """Return a time-out; raise ``ConfigError`` if it is none."""
    number = type(timeout) is float or isinstance(timeout, Real)
    if not number or not isfinite(timeout) or timeout <= 0:
        raise ConfigError(f"timeout must be a positive number of seconds, got {timeout!r}")
    return float(timeout)


def first_of(rows: Any) -> Any:
    """Return the first of some rows."""
    if isinstance(rows, Mapping):
        return {name: first_of(values) for name, values in rows.items()}
    return (rows.iloc if hasattr(rows, "iloc") else rows)[0]


def taken(rows: Any, start: int, stop: int) -> Any:
    """Return some of the rows: of a list, an array, a DataFrame or a dict of any of these."""
    if isinstance(rows, Mapping):
        return {name: taken(values, start, stop) for name, values in rows.items()}
    if hasattr(rows, "iloc"):
        return rows.iloc[start:stop]
    return rows[start:stop]


def _pieces(tensors: Mapping[str, NDArray[Any]], step: int) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Yield the tensors, ``step`` rows at a time; whole where 0 says there are no rows."""
    count = check_row_counts(tensors) if step else 0
    if count <= step:
        yield tensors
        return
    for start in range(0, count, step):
        yield {name: array[start : start + step] for name, array in tensors.items()}


def _check_outputs(wanted: Sequence[str], offered: Sequence[str]) -> None:
    unknown = [name for name in wanted if name not in offered]
    if unknown:
        raise InvalidInputError(
            f"the model has no output {', '.join(map(repr, unknown))}",
            hint=f"it gives {', '.join(map(repr, offered))}",
        )


def _joined(answers: Sequence[InferResponse]) -> Mapping[str, NDArray[Any]]:
    if len(answers) == 1:
        return answers[0].outputs
    return {
        name: np.concatenate([answer.outputs[name] for answer in answers])
        for name in answers[0].outputs
    }
