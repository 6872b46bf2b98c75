"""Are the ports a server needs free, and who has them if not?"""

import errno
import socket
from contextlib import suppress

import psutil

from toolkit.errors import DeployError, PortInUseError


def require_free(address: str, ports: tuple[int, int, int]) -> None:
    """Raise ``PortInUseError`` that names every one of ``ports`` that is taken.

    ``ports`` are those for HTTP, gRPC and metrics.
    """
    if len(set(ports)) != len(ports):
        raise PortInUseError(f"HTTP, gRPC and metrics need three different ports, not {ports}")
    taken = [port for port in ports if not _is_free(address, port)]
    if taken:
        owners = _owners(taken)
        named = ", ".join(f"{port}{owners.get(port, '')}" for port in taken)
        raise PortInUseError(
            f"port{'s' * (len(taken) > 1)} {named} on {address} already in use",
            hint="stop what runs there, or choose others:"
            " toolkit deploy --http-port 9000 --grpc-port 9001 --metrics-port 9002",
        )


def require_one_free(address: str, port: int, hint: str) -> None:
    """Raise ``PortInUseError`` that says who has ``port``, with the caller's ``hint``."""
    if not _is_free(address, port):
        owner = _owners([port]).get(port, "")
        raise PortInUseError(f"port {port}{owner} on {address} already in use", hint=hint)


def unused(address: str) -> tuple[int, int, int]:
    """Return three ports of ``address`` that nobody listens on, for HTTP, gRPC and metrics."""
    with socket.socket() as http, socket.socket() as grpc, socket.socket() as metrics:
        for probe in (http, grpc, metrics):
            probe.bind((address, 0))
        return http.getsockname()[1], grpc.getsockname()[1], metrics.getsockname()[1]


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except PermissionError as error:
            raise PortInUseError(
                f"port {port} needs more rights than you have", hint="choose ports above 1023"
            ) from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise DeployError(
                f"cannot listen on {address}: {error.strerror}",
                hint="--address takes an address of this machine: 127.0.0.1, or 0.0.0.0 for all",
            ) from error
    return True


def _owners(ports: list[int]) -> dict[int, str]:
    """Say which programs listen on ``ports``, as far as this user may know."""
    owners = {}
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            port = connection.laddr.port if connection.laddr else None
            if port in ports and connection.status == psutil.CONN_LISTEN and connection.pid:
                with suppress(psutil.Error):
                    name = psutil.Process(connection.pid).name()
                    owners[port] = f" ({name}, pid {connection.pid})"
    return owners
