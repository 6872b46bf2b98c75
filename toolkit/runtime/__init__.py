"""The embedded Triton: a real tritonserver that pip can fetch, kept apart in a cache."""

from toolkit.runtime.machine import Problem, check_machine, check_runtime
from toolkit.runtime.wheels import Runtime, install, installed, remove, require

__all__ = [
    "Problem",
    "Runtime",
    "check_machine",
    "check_runtime",
    "install",
    "installed",
    "remove",
    "require",
]
