"""How close reconstructed pictures come to the data as a pretrained network sees them."""

from __future__ import annotations

import torch
from torch import Tensor

from narrows.layers.feature_networks import FeatureNetwork
from narrows.losses.perceptual import in_unit_range, perceptual_distance
from narrows.tasks.measures.frechet_distance import frechet
from narrows.tasks.measures.standard_errors import with_error
from narrows.types import DataSpec


class SeenByNetwork:
    """Gathers, over batches and by method, the perceptual distance of guesses to the data, and the last layer's mean
    over positions, of which the Fréchet distance is taken (rFID; it falls with the number of examples).

    Figures have the network's name, because those of others are on other scales. Values are held to the data's range,
    as in a picture.
    """

    def __init__(self, network: FeatureNetwork, spec: DataSpec, device: torch.device) -> None:
        self.network, self.spec = network.to(device), spec
        self.distances: dict[str, list[Tensor]] = {}
        self.means: dict[str, list[Tensor]] = {}
        self.data: list[Tensor] = []

    @torch.no_grad()
    def add(self, truth: Tensor, guesses: dict[str, Tensor]) -> None:
        """Take a batch `[B, C, H, W]` and, by method, what it was reconstructed as."""
        wanted = self._seen(truth)
        self.data.append(_means(wanted))
        for method, guess in guesses.items():
            found = self._seen(guess.to(truth))
            self.distances.setdefault(method, []).append(perceptual_distance(wanted, found).cpu())
            self.means.setdefault(method, []).append(_means(found))

    def _seen(self, x: Tensor) -> list[Tensor]:
        return self.network(in_unit_range(x, self.spec).clamp(0, 1))

    def figures(self) -> dict[str, dict[str, float]]:
        """By method `perceptual_NETWORK` with its standard error and, of two examples and more, `rfid_NETWORK`."""
        found = {
            method: with_error(f"perceptual_{self.network.label}", torch.cat(parts))
            for method, parts in self.distances.items()
        }
        if not self.data:
            return {}
        data = torch.cat(self.data)
        for method, parts in self.means.items() if len(data) > 1 else ():
            found[method][f"rfid_{self.network.label}"] = frechet(data, torch.cat(parts))
        return found


def _means(seen: list[Tensor]) -> Tensor:
    """`[B, C]` of the last layer."""
    return seen[-1].flatten(2).mean(2).double().cpu()
