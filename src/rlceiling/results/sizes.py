"""`Sizes`: the posterior of a law across model sizes, with forecasts and decisions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rlceiling.decisions import size_questions
from rlceiling.decisions.size_questions import Crossover
from rlceiling.display.html import html_piece
from rlceiling.errors import DataError
from rlceiling.posterior.files import SIZES_FILE, netcdf_bytes, read_posterior
from rlceiling.posterior.size_fit import SizePosterior
from rlceiling.text import interval, joined, number
from rlceiling.writing import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Sizes(SizePosterior):
    """Posterior of a law across model sizes. Returned by `rlceiling.fit_sizes` and `rlceiling.load_sizes`.

    See `rlceiling.posterior.size_fit.SizePosterior` for its attributes.
    """

    def forecast(
        self, size: Any, resource: float | Sequence[float], prob: float = 0.9, *, of: str = "reward"
    ) -> pd.DataFrame:
        """Reward or test loss of models of fitted or new sizes.

        See `rlceiling.decisions.size_questions.forecast`.
        """
        return size_questions.forecast(self, size, resource, prob, of=of)

    def crossover(self, a: Any, b: Any, between: tuple[float, float] | None = None, prob: float = 0.9) -> Crossover:
        """Resource beyond which one size is better than another.

        See `rlceiling.decisions.size_questions.crossover`.
        """
        return size_questions.crossover(self, a, b, between, prob)

    def best_size(self, budget: float | Sequence[float], sizes: Sequence[Any] | None = None) -> pd.DataFrame:
        """Posterior probability that each size has the highest reward for a budget.

        See `rlceiling.decisions.size_questions.best_size`.
        """
        return size_questions.best_size(self, budget, sizes)

    def compute_to_reach(
        self, target: float, size: Any = None, prob: float = 0.9, *, of: str = "reward"
    ) -> pd.DataFrame:
        """Resource at which models of fitted or new sizes reach a reward or a test loss.

        See `rlceiling.decisions.size_questions.compute_to_reach`.
        """
        return size_questions.compute_to_reach(self, target, size, prob, of=of)

    def saturation(self, share: float = 0.1, prob: float = 0.9) -> pd.Series:
        """Saturation of the law, and the posterior probability of a negligible gain from doubling the largest size.

        See `rlceiling.decisions.size_questions.saturation`.
        """
        return size_questions.saturation(self, share, prob)

    def plot(self, **options: Any) -> Figure:
        """Draw the runs, the law and the best size. See `rlceiling.plot_sizes`."""
        # Imported here, so that a saved posterior can be used without loading matplotlib.
        from rlceiling.report.size_plots import plot_sizes

        return plot_sizes(self, **options)

    def save(self, directory: str | Path) -> Path:
        """Save to a directory for `rlceiling.load_sizes`.

        Parameters
        ----------
        directory : path
            It is created if it does not exist; a posterior across sizes in it is replaced.

        Returns
        -------
        Path
            The file, which can be opened with `xarray.open_datatree` without this package.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / SIZES_FILE, netcdf_bytes(self))
        return folder / SIZES_FILE

    def _repr_html_(self) -> str:
        table = self.summary()
        names = [str(name) for name in table if f"{name}_lower" in table]
        rows = [
            [size, *(joined(interval(row[f"{n}_lower"], row[n], row[f"{n}_upper"], number)) for n in names)]
            for size, row in zip(table.index, table.to_dict("records"), strict=True)
        ]
        return html_piece(repr(self).split("\n  "), [self.units.size, *names], rows)


def load_sizes(directory: str | Path) -> Sizes:
    """Read a posterior across sizes written by `Sizes.save` or ``rlceiling sizes --out``.

    Parameters
    ----------
    directory : path
        The directory, or the file ``sizes.nc`` itself.

    Returns
    -------
    Sizes
        Posterior with bit-identical draws, and with the priors, settings and thresholds of the original fit.

    Raises
    ------
    DataError
        If there is no such file, it is damaged (its SHA-256 is compared), or it was written under another schema.
    """
    path = Path(directory)
    file = path / SIZES_FILE if path.is_dir() else path
    if not file.exists():
        raise DataError(
            f"{directory} holds no {SIZES_FILE}; name a directory written by sizes.save or rlceiling sizes --out."
        )
    return read_posterior(file, Sizes)
