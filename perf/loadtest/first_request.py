"""Send one request before the load, and say in words what is wrong with the answer."""

import socket
import ssl
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse

from perf.loadtest.request import Target
from toolkit.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidInputError,
    RequestError,
    ServerError,
)

_SHOWN = 300  # Bytes of an answer in a message.
_LARGEST_BODY = 1 << 20


def first_request(
    target: Target, request: bytes, expected: frozenset[int], timeout_seconds: float
) -> str:
    """Send one request and return the address that answered it as expected.

    ``expected`` empty stands for 200 to 299. Raises the ``RequestError`` that fits.
    """
    context = target.tls_context()
    try:
        with _connect(target, timeout_seconds, context) as connection:
            address = str(connection.getpeername()[0])
            connection.sendall(request)
            with closing(HTTPResponse(connection)) as answer:
                answer.begin()
                status, reason = answer.status, answer.reason
                body = answer.read(_LARGEST_BODY)
    except ssl.SSLError as error:
        raise _tls_failed(target, error) from error
    except TimeoutError as error:
        raise DeadlineExceededError(
            f"{target.url} did not answer the first request within {timeout_seconds:g} s",
            hint="--timeout 60s, if it may take that long",
        ) from error
    except OSError as error:
        raise ConnectionFailedError(
            f"{target.url}: the connection broke before the answer to the first request: {error}"
        ) from error
    except (HTTPException, ValueError) as error:
        raise ConnectionFailedError(
            f"{target.url} did not answer in HTTP: {type(error).__name__} {str(error)[:_SHOWN]}",
            hint="https:// in front, or another port, if this one speaks something else",
        ) from error
    if status in expected if expected else HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return address
    raise _unexpected(target, status, reason, body)


def _connect(
    target: Target, timeout_seconds: float, context: ssl.SSLContext | None
) -> socket.socket:
    try:
        plain = socket.create_connection((target.host, target.port), timeout_seconds)
    except TimeoutError:
        raise
    except socket.gaierror as error:
        raise ConnectionFailedError(f"{target.host} is not known: {error.strerror}") from error
    except OSError as error:
        raise ConnectionFailedError(
            f"nothing answers at {target.host} port {target.port}: {error.strerror or error}",
            hint="start the server, or give another URL",
        ) from error
    if context is None:
        return plain
    try:
        return context.wrap_socket(plain, server_hostname=target.host)
    except BaseException:
        plain.close()
        raise


def _tls_failed(target: Target, error: ssl.SSLError) -> RequestError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionFailedError(
            f"{target.url} shows a certificate that is not trusted: {error.verify_message}",
            hint="--cacert FILE with the authority that signed it, or --insecure",
        )
    return ConnectionFailedError(
        f"{target.url} does not speak TLS as asked: {error.reason or error}",
        hint="http:// in front, if it speaks plain HTTP",
    )


def _unexpected(target: Target, status: int, reason: str, body: bytes) -> RequestError:
    said = " ".join(body[:_SHOWN].decode("utf-8", "replace").split())
    message = f"{target.url} answered the first request with {status} {reason}: {said or 'nothing'}"
    hint = f"--expect-status {status}, if that is the answer you expect"
    kind = ServerError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else InvalidInputError
    return kind(message, hint=hint, status=status)
