"""Small torch modules; in a module of their own so that a pickle finds them."""

import torch


class Perceptron(torch.nn.Module):  # type: ignore[misc]
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layers(features)


class Memory(torch.nn.Module):  # type: ignore[misc]
    """An LSTM whose last state is the answer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = torch.nn.LSTM(4, 5, batch_first=True)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        return self.lstm(steps)[0][:, -1]


class Pair(torch.nn.Module):  # type: ignore[misc]
    """Two inputs, two outputs."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return left + right, left * right


class Lookup(torch.nn.Module):  # type: ignore[misc]
    """Python numbers inside, which no exporter can follow."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[max(row)] for row in features.tolist()])


class Interrupted(torch.nn.Module):  # type: ignore[misc]
    """Ctrl-C while it is exported, wrapped in another exception as torch does."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_exporting():
            raise RuntimeError("export failed") from KeyboardInterrupt()
        return features * 2


class Centred(torch.nn.Module):  # type: ignore[misc]
    """Every answer depends on all rows of the batch."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features - features.mean()
