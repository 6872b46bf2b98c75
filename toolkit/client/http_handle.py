"""One libcurl handle: how a request is put into it and what comes out, on either HTTP wire."""

import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import pycurl

from toolkit.client.http_codec import HttpReply, HttpRequest, parse_headers
from toolkit.client.metadata import check_headers
from toolkit.client.refusals import too_late
from toolkit.client.transport import TOKEN_HEADER
from toolkit.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidInputError,
    RequestError,
    ServerError,
    UnexpectedError,
)

IDLE_SECONDS = 60.0
"""Age at which an unused connection is not trusted any more; load balancers drop theirs too."""

# CURLOPT_QUICK_EXIT (libcurl 7.87), unnamed in pycurl 7.49: a handle that gave up on a name
# does not wait for the thread that still asks for it.
_QUICK_EXIT = 322
_HAS_QUICK_EXIT = pycurl.version_info()[2] >= 0x075700  # noqa: PLR2004
_LONGEST = 2**31 - 1  # ms; libcurl refuses more

# What libcurl calls the reasons why an HTTP exchange failed; other codes are our own fault.
ERRORS: Mapping[int, type[RequestError]] = {
    pycurl.E_UNSUPPORTED_PROTOCOL: ConnectionFailedError,  # "Received HTTP/0.9 when not allowed"
    pycurl.E_FTP_WEIRD_SERVER_REPLY: ConnectionFailedError,
    pycurl.E_URL_MALFORMAT: InvalidInputError,
    pycurl.E_COULDNT_RESOLVE_HOST: ConnectionFailedError,
    pycurl.E_COULDNT_RESOLVE_PROXY: ConnectionFailedError,
    pycurl.E_COULDNT_CONNECT: ConnectionFailedError,
    pycurl.E_NO_CONNECTION_AVAILABLE: ConnectionFailedError,
    pycurl.E_REMOTE_ACCESS_DENIED: ConnectionFailedError,
    pycurl.E_INTERFACE_FAILED: ConnectionFailedError,
    pycurl.E_PARTIAL_FILE: ConnectionFailedError,
    pycurl.E_GOT_NOTHING: ConnectionFailedError,
    pycurl.E_SEND_ERROR: ConnectionFailedError,
    pycurl.E_RECV_ERROR: ConnectionFailedError,
    pycurl.E_SEND_FAIL_REWIND: ConnectionFailedError,
    pycurl.E_READ_ERROR: ConnectionFailedError,
    pycurl.E_UPLOAD_FAILED: ConnectionFailedError,
    pycurl.E_HTTP_POST_ERROR: ConnectionFailedError,
    pycurl.E_HTTP2: ConnectionFailedError,
    pycurl.E_AGAIN: ConnectionFailedError,
    pycurl.E_OPERATION_TIMEDOUT: DeadlineExceededError,
    pycurl.E_BAD_CONTENT_ENCODING: ServerError,
    pycurl.E_TOO_MANY_REDIRECTS: ServerError,
    pycurl.E_HTTP_RETURNED_ERROR: ServerError,
    pycurl.E_SSL_CONNECT_ERROR: ConnectionFailedError,
    pycurl.E_SSL_CERTPROBLEM: ConnectionFailedError,
    pycurl.E_SSL_CIPHER: ConnectionFailedError,
    pycurl.E_PEER_FAILED_VERIFICATION: ConnectionFailedError,
    pycurl.E_SSL_CACERT_BADFILE: ConnectionFailedError,
    pycurl.E_SSL_CRL_BADFILE: ConnectionFailedError,
    pycurl.E_SSL_ISSUER_ERROR: ConnectionFailedError,
    pycurl.E_SSL_INVALIDCERTSTATUS: ConnectionFailedError,
    pycurl.E_SSL_PINNEDPUBKEYNOTMATCH: ConnectionFailedError,
    pycurl.E_SSL_SHUTDOWN_FAILED: ConnectionFailedError,
    pycurl.E_SSL_ENGINE_NOTFOUND: ConnectionFailedError,
    pycurl.E_SSL_ENGINE_SETFAILED: ConnectionFailedError,
    pycurl.E_SSL_ENGINE_INITFAILED: ConnectionFailedError,
    pycurl.E_USE_SSL_FAILED: ConnectionFailedError,
}

_OTHER_PROTOCOL = (pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_FTP_WEIRD_SERVER_REPLY)
_UNTRUSTED = (pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE)


class Handle:
    """A libcurl easy handle for one server; it belongs to one request at a time.

    libcurl itself sends a request anew if the kept connection turns out to be dead before
    a byte of the answer came; the body is in memory, so it can be sent twice.
    """

    __slots__ = ("_chunks", "_has_spoken", "_lines", "_path", "_token", "_url", "curl")

    def __init__(
        self,
        url: str,
        token: str | None,
        idle_seconds: float,
        is_over: Callable[[], bool] | None = None,
    ) -> None:
        self.curl = pycurl.Curl()
        self._url = url.rstrip("/")
        self._token = (f"{TOKEN_HEADER}: {token}",) if token else ()
        self._path: str | None = None
        self._has_spoken = False
        self._lines: list[bytes] = []
        self._chunks: list[bytes] = []
        for option, value in _options(url, idle_seconds):
            self.curl.setopt(option, value)
        if is_over is not None:
            # Asked as bytes move, and each second; it is where Python handles Ctrl-C too.
            self.curl.setopt(pycurl.XFERINFOFUNCTION, lambda *_: is_over())
            self.curl.setopt(pycurl.NOPROGRESS, 0)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._chunks.append)

    def prepare(self, request: HttpRequest, timeout: float, headers: Mapping[str, str]) -> None:
        """Put ``request`` in; ``timeout`` is for all of it, names and connection included."""
        curl = self.curl
        self._lines.clear()
        self._chunks.clear()
        lines = ["expect:", *self._token, *request.headers]
        if headers:
            check_headers(headers)
            lines += [f"{name}: {value}" for name, value in headers.items()]
        if request.path != self._path:
            curl.setopt(pycurl.URL, self._url + request.path)
            self._path = request.path
        curl.setopt(pycurl.HTTPHEADER, lines)
        if request.body is None:
            curl.setopt(pycurl.HTTPGET, 1)
        else:
            curl.setopt(pycurl.POST, 1)
            curl.setopt(pycurl.POSTFIELDS, request.body)
        curl.setopt(pycurl.TIMEOUT_MS, min(max(int(timeout * 1000), 1), _LONGEST))

    def perform(self) -> None:
        """Do what was prepared, and wait for it."""
        self.curl.perform()

    def reply(self) -> HttpReply:
        """Return what came back."""
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        status = self.curl.getinfo(pycurl.RESPONSE_CODE)
        self._has_spoken = True
        return HttpReply(status, parse_headers(self._lines), body)

    def error(self, error: pycurl.error, timeout: float) -> RequestError:
        """Return what ``error`` of libcurl means."""
        arguments: tuple[Any, ...] = error.args
        code, text = arguments[:2]
        kind = ERRORS.get(code, UnexpectedError)
        if kind is DeadlineExceededError:
            return too_late(timeout)
        if code == pycurl.E_ABORTED_BY_CALLBACK:
            return ConnectionFailedError("the client was closed")
        if code in _OTHER_PROTOCOL and not self._has_spoken:
            host = urlsplit(self._url).netloc
            other = kind(
                "what answers there does not speak HTTP",
                hint=f"if it is Triton's gRPC port, use grpc://{host}; HTTP is on 8000 by default",
            )
            other.retryable = False
            return other
        if code in _OTHER_PROTOCOL:
            text = "what came back is not HTTP"
        elif code == pycurl.E_COULDNT_RESOLVE_HOST:
            text = "the host's name cannot be resolved"
        elif code in (pycurl.E_COULDNT_CONNECT, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR):
            number = self.curl.getinfo(pycurl.OS_ERRNO)
            text = os.strerror(number).lower() if number else text
        if code in _UNTRUSTED:
            hint = "a certificate of your own is trusted with SSL_CERT_FILE=…"
        else:
            hint = "is the server running? see: toolkit status"
        return kind(text.rstrip("."), hint=hint)

    def close(self) -> None:
        """Give back the handle and its connection."""
        self.curl.close()


def _options(url: str, idle_seconds: float) -> list[tuple[int, object]]:
    """Return what stays the same for all requests."""
    options: list[tuple[int, object]] = [
        (pycurl.NOSIGNAL, 1),
        (pycurl.PROXY, ""),  # not even one that the environment names
        (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
        (pycurl.FOLLOWLOCATION, 0),
        (pycurl.USERAGENT, "triton-companion"),
        (pycurl.PATH_AS_IS, 1),
        (pycurl.TCP_NODELAY, 1),
        (pycurl.TCP_KEEPALIVE, 1),
        (pycurl.MAXAGE_CONN, max(int(idle_seconds), 1)),
        (pycurl.BUFFERSIZE, 2**19),
    ]
    if _HAS_QUICK_EXIT:
        options.append((_QUICK_EXIT, 1))
    if url.startswith("https:"):
        import ssl

        # pycurl's wheels know where their own builder kept the certificates.
        places = ssl.get_default_verify_paths()
        options += [
            (option, place)
            for option, place in ((pycurl.CAINFO, places.cafile), (pycurl.CAPATH, places.capath))
            if place
        ]
    return options
