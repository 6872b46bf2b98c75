"""Every error this project raises on purpose.

    ToolkitError
    ├── MissingDependencyError      a library that an extra installs is not there
    ├── ConversionError             from a model file to an artifact
    │   ├── UntrustedModelError     loading the file would run code inside it
    │   ├── ModelFileError          the file is missing, empty or does not load
    │   ├── UnsupportedModelError   no road leads from this model to Triton
    │   ├── SampleError             the sample does not fit the model
    │   └── ParityError             the converted model answers differently
    ├── ConfigError                 a serving option, or a file of them, is invalid
    ├── RepositoryError             the model repository cannot be read or written
    ├── RuntimeNotReadyError        the embedded Triton is missing or cannot run here
    ├── DeployError                 a server did not do what was asked of it
    │   ├── PortInUseError          one or more ports are taken
    │   ├── ServerNotRunningError   nothing to talk to
    │   ├── ServerDiedError         the server ended by itself
    │   └── ModelNotServedError     Triton refused to load a model
    ├── VerificationError           a served answer differs from the offline one
    └── RequestError                a call to a running server failed
        ├── ConnectionFailedError   no connection, or it broke             (retry)
        ├── DeadlineExceededError   no answer in time                      (retry)
        ├── UnavailableError        the server or the model is not ready   (retry)
        ├── UnknownModelError       no such model or version
        ├── InvalidInputError       the request does not fit the model
        ├── PermissionDeniedError   a restricted API without its token
        ├── ServerError             the model or the server failed inside
        └── UnexpectedError         anything else, which is a fault of this tool

A message says what happened and to what; ``hint`` holds the next command.
"""

from typing import ClassVar, Literal

Kind = Literal["HTTP", "REQUEST", "TIMEOUT", "UNKNOWN"]


class ToolkitError(Exception):
    """Base of the tree.

    ``retryable`` says whether sending the same thing again can help.
    """

    retryable: bool = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class MissingDependencyError(ToolkitError):
    """A library that one of the pip extras installs is not there."""


class ConversionError(ToolkitError):
    """A model file could not be turned into a proven artifact."""


class UntrustedModelError(ConversionError):
    """Loading the file would run the code inside it, and nobody said that is fine."""


class ModelFileError(ConversionError):
    """The model file is missing, empty, corrupt or does not load."""


class UnsupportedModelError(ConversionError):
    """No road leads from this model to Triton."""


class SampleError(ConversionError):
    """The sample cannot be read or does not fit the model."""


class ParityError(ConversionError):
    """The converted model answers differently from the original."""


class ConfigError(ToolkitError):
    """A serving option, or a file of serving options, is invalid."""


class RepositoryError(ToolkitError):
    """The model repository cannot be read or written."""


class RuntimeNotReadyError(ToolkitError):
    """The embedded Triton is not installed or cannot run on this machine."""


class DeployError(ToolkitError):
    """A server did not do what was asked of it."""


class PortInUseError(DeployError):
    """One or more ports that the server needs are taken."""


class ServerNotRunningError(DeployError):
    """No server is running for this repository."""


class ServerDiedError(DeployError):
    """The server ended by itself."""


class ModelNotServedError(DeployError):
    """Triton refused to load a model, or the model does not answer."""


class VerificationError(ToolkitError):
    """A served answer differs from the offline answer."""


class RequestError(ToolkitError):
    """A call to a running server failed.

    ``kind`` is ``HTTP`` where a server or proxy answered with an error, ``REQUEST`` where
    the request could not be sent or does not fit the model, ``TIMEOUT`` and ``UNKNOWN``.
    ``status`` is the HTTP status or the name of the gRPC code, ``retry_after`` the seconds
    that the server asked to be left alone; both None where it said nothing. The client
    fills in ``model``, ``url``, ``request_id``, ``attempts`` and ``elapsed`` (seconds).
    """

    kind: ClassVar[Kind] = "HTTP"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int | str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retry_after = retry_after
        self.model: str | None = None
        self.url: str | None = None
        self.request_id: str | None = None
        self.attempts = 0
        self.elapsed = 0.0


class ConnectionFailedError(RequestError):
    """The server could not be reached, or the connection broke."""

    retryable = True
    kind = "REQUEST"


class DeadlineExceededError(RequestError):
    """No answer arrived in time."""

    retryable = True
    kind = "TIMEOUT"


class UnavailableError(RequestError):
    """The server or the model is not ready, or a queue is full."""

    retryable = True


class UnknownModelError(RequestError):
    """The server has no such model, or not this version of it."""


class InvalidInputError(RequestError):
    """The request does not fit the model."""

    kind = "REQUEST"


class PermissionDeniedError(RequestError):
    """A restricted API was called without its token."""


class ServerError(RequestError):
    """The model or the server failed inside."""


class UnexpectedError(RequestError):
    """Anything else, which is a fault of this tool."""

    kind = "UNKNOWN"
