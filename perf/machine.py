"""What a measurement was made on, for whoever compares figures later."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from toolkit.client import Client


def machine() -> Mapping[str, Any]:
    """Return the processor, its cores that may be used, the memory and the system."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def server(client: Client) -> Mapping[str, Any]:
    """Return the name and the version of the server."""
    about = client.server_metadata()
    return {"name": about.name, "version": about.version}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
