"""Small torch modules; in a module of their own so that a pickle finds them."""

from typing import Any

import numpy as np
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


class Numpy(torch.nn.Module):  # type: ignore[misc]
    """Works in numpy, and gives tensors of two types by name."""

    def forward(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        numbers = features.numpy()
        order = np.argsort(numbers, axis=1)
        return {"sorted": torch.from_numpy(np.sort(numbers, axis=1)), "order": torch.tensor(order)}


class Encoder(torch.nn.Module):  # type: ignore[misc]
    """Reads sequences of any length beside their mask; gives a dict."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(11, 8)
        self.layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, ids: torch.Tensor, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        states = self.layer(self.embedding(ids), src_key_padding_mask=hidden)
        return {"states": states, "pooled": states.mean(1)}


class Pooled(torch.nn.Module):  # type: ignore[misc]
    """A small network for images of any size."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(3, width, 3, padding=1)
        self.second = torch.nn.Conv2d(width, width, 3)
        self.last = torch.nn.Linear(width, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        seen = torch.relu(self.second(torch.relu(self.first(image))))
        return self.last(seen.mean((2, 3)))


class Flat(torch.nn.Module):  # type: ignore[misc]
    """Takes images of one size only, because it flattens them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.last = torch.nn.Linear(36, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.last(image.flatten(1))


class Branch(torch.nn.Module):  # type: ignore[misc]
    """Goes another way for each row, by its numbers."""

    def forward(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        rows = []
        for row in features:
            if bool(row.sum() > 0):
                rows.append(row * 2)
            else:
                rows.append(row - 1)
        return {"z": torch.stack(rows), "a": features.sum(1)}


class Squeezed(torch.nn.Module):  # type: ignore[misc]
    """Squeezes a batch of one away with the column."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.sum(1, keepdim=True).squeeze()


class Sloppy(torch.nn.Module):  # type: ignore[misc]
    """Cannot be scripted, and a trace would write its branch down as it was."""

    def forward(self, features: torch.Tensor, **_: Any) -> torch.Tensor:
        return features * 2 if features.max().item() > 0 else features - 1


class Kept(torch.nn.Module):  # type: ignore[misc]
    """Cannot be scripted, and traces well."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = Perceptron()

    def forward(self, features: torch.Tensor, **_: Any) -> list[torch.Tensor]:
        return [self.inner(features), features.sum(1)]


class StepsFirst(torch.nn.Module):  # type: ignore[misc]
    """Gives its last state with the layers first, as torch's LSTM does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = torch.nn.LSTM(4, 5, batch_first=True)

    def forward(self, steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        every, (last, _) = self.lstm(steps)
        return every, last
