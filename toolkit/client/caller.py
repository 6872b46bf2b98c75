"""What clients of threads and of asyncio have in common: servers, policy and questions."""

from collections.abc import Callable, Sequence
from typing import Any

from toolkit.client.addresses import Address, parse_all
from toolkit.client.asking import Asking, Question, ask_about, seconds
from toolkit.client.options import ClientOptions
from toolkit.client.policy import Policy
from toolkit.client.records import Hook
from toolkit.client.replicas import Replicas
from toolkit.errors import ConfigError


class Caller:
    """One client's policy and what it remembers of models.

    ``connect`` opens the wire to a server, ``leave`` gives back a place in flight.
    """

    def __init__(  # noqa: PLR0913  what a client is given, and what its style adds
        self,
        url: str | Sequence[str],
        token: str | None,
        timeout: float,
        options: ClientOptions,
        hooks: Sequence[Hook],
        *,
        connect: Callable[[Address, str | None, ClientOptions], Any],
        leave: Callable[[], None],
    ) -> None:
        self._timeout = seconds(timeout)
        addresses = parse_all(url)
        _check_token(token)
        replicas = Replicas(addresses, lambda address: connect(address, token, options), options)
        self._policy = Policy(replicas, options, hooks, leave)
        self._asking = Asking(self._policy)

    @property
    def url(self) -> str:
        """The server's URL, the first one's of several."""
        return self._policy.url

    def forget(self, model: str) -> None:
        """Ask anew what the model takes and gives when it is next needed.

        For who knows that somebody else loaded it in another form.
        """
        self._asking.forget(model)

    def _question(  # noqa: PLR0913, PLR0917  each is a part of Triton's request
        self,
        model: str,
        version: int | str | None,
        outputs: Sequence[str] | None,
        timeout: float | None,
        priority: int | None,
        request_id: str | None = None,
    ) -> Question:
        return ask_about(
            model,
            version,
            outputs=outputs,
            timeout=self._seconds(timeout),
            priority=priority,
            request_id=request_id,
        )

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else seconds(timeout)


def _check_token(token: str | None) -> None:
    """Raise ``ConfigError`` for a token that no header can carry."""
    if token is not None and not (token.isascii() and token.isprintable() and token):
        raise ConfigError("a token is printable ASCII text, as it travels in a header")
