"""Units of the user's data: names of columns, and bounds of the reward, which models rescale to [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_REWARDS = ("A", "R0")


class RewardUnits:
    """Conversion of rewards between the user's units and [0, 1]."""

    bounds: tuple[float, float]

    @property
    def width(self) -> float:
        """Highest minus lowest possible reward."""
        return self.bounds[1] - self.bounds[0]

    def show_reward(self, reward: float) -> str:
        """Text of a reward to a thousandth of its range: 0.605 between 0 and 1, 60.5 between 0 and 100."""
        return f"{reward:.{max(0, 3 - round(math.log10(self.width)))}f}"

    def unscale(self, reward: Any) -> Any:
        """Convert a reward from [0, 1] to the user's units."""
        return self.bounds[0] + self.width * reward

    def scale(self, reward: Any) -> Any:
        """Convert a reward from the user's units to [0, 1]."""
        return (reward - self.bounds[0]) / self.width


@dataclass(frozen=True)
class Units(RewardUnits):
    """Names of the columns and bounds of the reward of recipes.

    Attributes
    ----------
    compute, reward : str
        Names of the columns.
    bounds : tuple of float
        Lowest and highest possible reward; the model works on [0, 1].
    """

    compute: str
    reward: str
    bounds: tuple[float, float]

    def show(self, reward: float) -> str:
        """Text of a reward (see `show_reward`)."""
        return self.show_reward(reward)

    def unscale_draws(self, draws: Mapping[str, Any]) -> dict[str, Any]:
        """Convert parameters from [0, 1] to the user's units: A and R0 are rewards, sigma a difference of rewards."""
        return {
            k: self.unscale(v) if k in _REWARDS else self.width * v if k == "sigma" else v for k, v in draws.items()
        }

    def scale_draws(self, draws: Mapping[str, Any]) -> dict[str, Any]:
        """Inverse of `unscale_draws`."""
        return {k: self.scale(v) if k in _REWARDS else v / self.width if k == "sigma" else v for k, v in draws.items()}
