"""What the ONNX Runtime of each container release reads.

The limits were found by loading tiny models in each ONNX Runtime version: the highest
default-domain opset, the highest ``ai.onnx.ml`` opset whose operators run, and the
highest IR version it does not refuse.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from toolkit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Limits:
    """The newest model one ONNX Runtime version reads."""

    opset: int
    ml_opset: int
    ir_version: int

    def admits(self, opsets: Mapping[str, int], ir_version: int) -> bool:
        """Say whether a model of these opsets (by domain) and IR version is readable."""
        return (
            opsets.get("", 1) <= self.opset
            and opsets.get("ai.onnx.ml", 1) <= self.ml_opset
            and ir_version <= self.ir_version
        )


@dataclass(frozen=True, slots=True)
class Release:
    """A container release, its ONNX Runtime and what that reads."""

    name: str
    onnxruntime: str
    limits: Limits


# 1.20.1 accepts ai.onnx.ml 5 and then has no kernel for its TreeEnsemble: 4 it is.
_LIMITS = {
    "1.19.2": Limits(opset=21, ml_opset=4, ir_version=10),
    "1.20.1": Limits(opset=21, ml_opset=4, ir_version=10),
    "1.21.0": Limits(opset=22, ml_opset=5, ir_version=10),
    "1.22.0": Limits(opset=22, ml_opset=5, ir_version=10),
    "1.23.0": Limits(opset=23, ml_opset=5, ir_version=11),
    "1.23.1": Limits(opset=23, ml_opset=5, ir_version=11),
    "1.23.2": Limits(opset=23, ml_opset=5, ir_version=11),
    "1.24.1": Limits(opset=25, ml_opset=5, ir_version=13),
    "1.24.2": Limits(opset=25, ml_opset=5, ir_version=13),
    "1.24.4": Limits(opset=25, ml_opset=5, ir_version=13),
    "1.27.0": Limits(opset=26, ml_opset=5, ir_version=13),
}

_SHIPPED: tuple[tuple[str, str], ...] = (
    ("24.09 24.10 24.11", "1.19.2"),
    ("24.12 25.01 25.02", "1.20.1"),
    ("25.03 25.04", "1.21.0"),
    ("25.05 25.06 25.07", "1.22.0"),
    ("25.08 25.09", "1.23.0"),
    ("25.10", "1.23.1"),
    ("25.11 25.12 26.01", "1.23.2"),
    ("26.02", "1.24.1"),
    ("26.03", "1.24.2"),
    ("26.04 26.05 26.06", "1.24.4"),
    ("26.07", "1.27.0"),
)

RELEASES: Mapping[str, Release] = {
    name: Release(name, version, _LIMITS[version])
    for names, version in _SHIPPED
    for name in names.split()
}
"""Container releases, oldest first."""


def find(name: str) -> Release:
    """Return the release called ``name``; raise ``ConfigError`` for an unknown one."""
    release = RELEASES.get(name)
    if release is None:
        msg = f"unknown container release {name!r}"
        known = f"known releases: {', '.join(RELEASES)}"
        quoted = "25.10 without quotes is a number to YAML; " if f"{name}0" in RELEASES else ""
        raise ConfigError(msg, hint=quoted + known)
    return release


def first_that_reads(opsets: Mapping[str, int], ir_version: int) -> Release | None:
    """Return the oldest release that reads a model, ``None`` if no known one does."""
    return next(_readers(opsets, ir_version), None)


def _readers(opsets: Mapping[str, int], ir_version: int) -> Iterator[Release]:
    return (r for r in RELEASES.values() if r.limits.admits(opsets, ir_version))
