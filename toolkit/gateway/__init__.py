"""The REST front of a Triton: plain JSON, keys, limits, jobs and explanations."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.gateway.app import GatewayApp
    from toolkit.gateway.settings import Settings

__all__ = ["create_app"]


def create_app(settings: "Settings | None" = None) -> "GatewayApp":
    """Return the application; ``settings`` None: those of the environment and of ``.env``."""
    from toolkit.gateway.app import GatewayApp
    from toolkit.gateway.settings import read

    return GatewayApp(settings or read())
