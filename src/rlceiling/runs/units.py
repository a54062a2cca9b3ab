"""Units of the user's data: names of columns, and bounds of the reward, which models rescale to [0, 1]."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

_REWARDS = re.compile(r"(A|R0)(_\d+)?")
"""Parameters that are rewards; those of earlier stages have the number of the stage at their end."""

MARGIN = 3.0
"""Distance, in ranges of the data, of the scale of the model from the data, for rewards without natural bounds."""


def are_natural(bounds: tuple[float, float]) -> bool:
    """Whether bounds are those of a bounded score: 0 to 1, 0 to 100, or whole numbers at most 10 apart, as of a judge.

    Other bounds, such as those of the return of an episode, say little about what can be reached.
    """
    low, high = bounds
    whole = float(low).is_integer() and float(high).is_integer()
    return bounds == (0.0, 100.0) or (whole and high - low <= 10.0) or bounds == (0.0, 1.0)


def span_of_data(rewards: ArrayLike, ranges: float = MARGIN) -> tuple[float, float]:
    """Scale of the model for rewards without natural bounds: so many times their range beyond the data on both sides.

    So neither the fit nor its verdict depends on how wide bounds were given.
    """
    low, high = float(np.min(rewards)), float(np.max(rewards))
    margin = ranges * (high - low or max(abs(high), 1.0))
    return low - margin, high + margin


def _is_reward(parameter: str) -> bool:
    return _REWARDS.fullmatch(parameter) is not None


class RewardUnits:
    """Conversion of rewards between the user's units and [0, 1]."""

    bounds: tuple[float, float]

    @property
    def span(self) -> tuple[float, float]:
        """Rewards that are 0 and 1 on the scale of the model."""
        return self.bounds

    @property
    def width(self) -> float:
        """Reward at 1 minus reward at 0 of the scale of the model."""
        return self.span[1] - self.span[0]

    def show_reward(self, reward: float) -> str:
        """Text of a reward to a thousandth of its range: 0.605 between 0 and 1, 60.5 between 0 and 100."""
        return f"{reward:.{max(0, 3 - round(math.log10(self.width)))}f}"

    def unscale(self, reward: Any) -> Any:
        """Convert a reward from [0, 1] to the user's units."""
        return self.span[0] + self.width * reward

    def scale(self, reward: Any) -> Any:
        """Convert a reward from the user's units to [0, 1]."""
        return (reward - self.span[0]) / self.width


@dataclass(frozen=True)
class Units(RewardUnits):
    """Names of the columns and bounds of the reward of recipes.

    Attributes
    ----------
    compute, reward : str
        Names of the columns.
    bounds : tuple of float
        Lowest and highest possible reward; the model works on [0, 1].
    data_span : tuple of float, optional
        For rewards without natural bounds: rewards that are 0 and 1 on the scale of the model (see `span_of_data`).
    """

    compute: str
    reward: str
    bounds: tuple[float, float]
    data_span: tuple[float, float] | None = None

    @property
    def span(self) -> tuple[float, float]:
        """Rewards that are 0 and 1 on the scale of the model."""
        return self.data_span or self.bounds

    def to_dict(self) -> dict[str, Any]:
        """Fields for JSON, without `data_span` where there is none, as earlier versions wrote them."""
        return {name: value for name, value in asdict(self).items() if name != "data_span" or value is not None}

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> Self:
        """Make units from what a file holds."""
        pairs = {name: tuple(v) for name, v in described.items() if isinstance(v, list | tuple)}
        return cls(**{**described, **pairs})

    def show(self, reward: float) -> str:
        """Text of a reward (see `show_reward`)."""
        return self.show_reward(reward)

    def unscale_draws(self, draws: Mapping[str, Any]) -> dict[str, Any]:
        """Convert parameters from [0, 1] to the user's units: A and R0 are rewards, sigma a difference of rewards."""
        return {
            k: self.unscale(v) if _is_reward(k) else self.width * v if k == "sigma" else v for k, v in draws.items()
        }

    def scale_draws(self, draws: Mapping[str, Any]) -> dict[str, Any]:
        """Inverse of `unscale_draws`."""
        return {k: self.scale(v) if _is_reward(k) else v / self.width if k == "sigma" else v for k, v in draws.items()}
