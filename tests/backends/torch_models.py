"""Small TorchScript models, each made for one rule or one behaviour."""

# mypy: disable-error-code="misc"
# torch is not followed by mypy, so that its Module is Any here.

import io
from typing import Any

import torch


class TwoOutputs(torch.nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return left + right, left - right


class OneOutput(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)
        )

    def forward(self, x: torch.Tensor) -> Any:
        return self.layers(x)


class Dictionary(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": x}


class FromDictionary(torch.nn.Module):
    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        return features["a"] - features["b"]


class WithNumber(torch.nn.Module):
    def forward(self, x: torch.Tensor, times: int) -> torch.Tensor:
        return x * times


class Shout(torch.nn.Module):
    def forward(self, words: list[str]) -> list[str]:
        return [word + "!" for word in words]


class Pick(torch.nn.Module):
    """Ten times the index; one above 9 fails inside."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(10.0) * 10)

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        table: torch.Tensor = self.table
        return torch.index_select(table, 0, index.squeeze(1)).unsqueeze(1)


def script(module: torch.nn.Module) -> bytes:
    """Return ``module`` as the bytes of a TorchScript file."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module.eval()), buffer)
    return buffer.getvalue()


def trace(module: torch.nn.Module, *example: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(module.eval(), example), buffer)
    return buffer.getvalue()


def pickled(module: torch.nn.Module) -> bytes:
    """Return what ``torch.save`` writes: not TorchScript."""
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    return buffer.getvalue()
