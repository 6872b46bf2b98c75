"""Models asked through shared memory: what a client does with a ``Region``."""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from toolkit.client.asking import Question, ask_about
from toolkit.client.effects import Steps
from toolkit.client.options import TIMEOUT
from toolkit.client.policy import Policy
from toolkit.client.prediction import Prediction
from toolkit.client.shared_memory import Region, stale, sweep
from toolkit.client.shared_memory_calls import GetSharedMemoryStatus
from toolkit.errors import ConfigError, RequestError

Answered = TypeVar("Answered")


class SharedMemory(Generic[Answered]):
    """Inputs and room for outputs in memory that client and server share.

    New values may be written into ``inputs`` between two requests; ``outputs`` and the
    arrays of an answer lie there too, and hold the last answer. One request at a time.
    """

    def __init__(self, region: Region, ask: Callable[[Question], Answered]) -> None:
        self._region = region
        self._ask = ask

    @property
    def inputs(self) -> Mapping[str, NDArray[Any]]:
        """The inputs by name, of the shapes and data types that were given."""
        return self._region.inputs

    @property
    def outputs(self) -> Mapping[str, NDArray[Any]]:
        """The outputs by name, of the shapes and data types that were asked for."""
        return self._region.outputs

    def predict(
        self,
        model: str,
        *,
        version: int | str | None = None,
        timeout: float = TIMEOUT,
        priority: int | None = None,
        request_id: str | None = None,
    ) -> Answered:
        """Run the model on the inputs; of an ``AsyncClient``, to be awaited."""
        return self._ask(
            ask_about(
                model,
                version,
                outputs=None,
                timeout=timeout,
                priority=priority,
                request_id=request_id,
            )
        )


def share(policy: Policy, region: Region, timeout: float) -> Steps[None]:
    """Make the server map a region; what dead processes left goes first.

    Raises:
        ConfigError: there are several servers.
        PermissionDeniedError: the server wants its token.
    """
    if len(policy.replicas.all) != 1:
        msg = "memory is shared with one server on this machine, and the client has several"
        raise ConfigError(msg)
    deadline = monotonic() + timeout
    registered = yield from policy.ask(GetSharedMemoryStatus(), deadline)
    for removal in stale(registered):
        yield from policy.ask(removal, deadline)
    sweep()
    yield from policy.ask(region.registration(), deadline)


def unshare(policy: Policy, region: Region, timeout: float) -> Steps[None]:
    """Make the server let go of a region."""
    yield from policy.ask(region.removal(), monotonic() + timeout)


def predict(policy: Policy, region: Region, question: Question) -> Steps[Prediction]:
    """Run a model on the region's inputs; a server that was restarted maps it anew."""
    deadline = monotonic() + question.timeout
    call = region.request(
        question.model,
        version=question.version,
        request_id=question.request_id or policy.new_id(),
        priority=question.priority,
    )
    try:
        said = yield from policy.ask(call, deadline)
    except RequestError as error:
        # Triton 2.51 says so with 404, as of an unknown model.
        if "unable to find shared memory region" not in error.message.lower():
            raise
        yield from policy.ask(region.registration(), deadline)
        said = yield from policy.ask(call, deadline)
    return Prediction(question.model, said.version, said.request_id, region.read(said))
