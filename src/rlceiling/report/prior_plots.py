"""Plot of learned priors beside the weak ones that they replace."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from rlceiling.errors import DataError
from rlceiling.models.computing import double_precision_on_cpu
from rlceiling.models.likeness import LOGIT, coordinate, log_slope
from rlceiling.models.recipe_priors import LearnedPriors
from rlceiling.report.style import COLOURS, GREY, Picture, new_picture, without_frame
from rlceiling.text import number

LABELS = {
    "R0": "start R0",
    "headroom": "headroom (A - R0) / (1 - R0)",
    "B": "efficiency B",
    "C_mid": "midpoint C_mid",
    "tail": "tail of the curve",
    "sigma": "noise sigma",
    "share": "autocorrelated share",
    "length": "correlation length, in ln C",
    "headroom_spread": "spread of headroom over runs",
    "C_mid_spread": "spread of C_mid over runs",
    "B_spread": "spread of B over runs",
    "sigma_spread": "spread of sigma over runs",
}
COLUMNS = 4
SHARES = (0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999)
"""Values at which axes of parameters between 0 and 1 may have ticks."""

POSITIVE = [factor * 10.0**power for power in range(-9, 10) for factor in (1.0, 2.0, 5.0)]
"""Values at which axes of other parameters may have ticks."""

MOST_TICKS = 4


def plot_priors(priors: LearnedPriors) -> Picture:
    """Draw each learned prior of one more recipe, and the weak prior that it replaces.

    Densities are on the logit scale for parameters between 0 and 1 and on the log scale for others, on which they were
    learned; the axis shows the values themselves. The weak prior of C_mid depends on the evaluations of a recipe, and
    is not drawn. Rewards are on [0, 1].

    Parameters
    ----------
    priors : LearnedPriors
        From `rlceiling.learn_priors`, `rlceiling.load_priors` or `SigmoidPriors.reference`.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    DataError
        If the priors were not learned, or nothing was.

    Examples
    --------
    >>> import rlceiling as rl
    >>> rl.plot_priors(rl.SigmoidPriors.reference()).savefig("priors.png")  # doctest: +SKIP
    """
    if not isinstance(priors, LearnedPriors):
        raise DataError(f"plot_priors: {type(priors).__name__} was not learned; give priors from rl.learn_priors.")
    names = list(priors.learned)
    if not names:
        raise DataError("plot_priors: nothing was learned; give priors from rl.learn_priors.")
    rows = -(-len(names) // COLUMNS)
    picture = new_picture(2.7 * COLUMNS, 1.9 * rows + 0.4)
    axes = picture.subplots(rows, COLUMNS, squeeze=False).ravel()
    for ax, name in zip(axes, names, strict=False):
        low, middle, high = (float(coordinate(name, v, np)) for v in priors.central(name, 0.995))
        with double_precision_on_cpu():
            weak = None if name == "C_mid" else dict(priors.mild().distributions())[name]
            reach = 1.5 * max(high - middle, middle - low)
            at = np.linspace(middle - reach, middle + reach, 300)
            values = np.clip(expit(at), 1e-12, 1.0 - 1e-12) if name in LOGIT else np.exp(at)
            learned = np.exp(np.asarray(priors.learned[name].log_prob(at)))
            of_weak = None if weak is None else np.exp(np.asarray(weak.log_prob(values)) - log_slope(name, values, np))
        ax.fill_between(at, learned, color=COLOURS[0], alpha=0.35, linewidth=0, label="learned")
        if of_weak is not None:
            ax.plot(at, of_weak, color=GREY, linewidth=1.2, label="weak")
        ticks = _ticks(name, values)
        ax.set_xticks([float(coordinate(name, v, np)) for v in ticks], [number(v) for v in ticks])
        ax.set(yticks=[], xlim=(at[0], at[-1]), ylim=(0.0, None), xlabel=LABELS[name])
        without_frame(ax, "top", "right", "left")
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    axes[0].legend(fontsize="small", frameon=False)
    return picture


def _ticks(name: str, values: np.ndarray) -> list[float]:
    """Values inside the axis at which it has ticks."""
    inside = [v for v in (SHARES if name in LOGIT else POSITIVE) if values[0] < v < values[-1]]
    places = np.unique(np.linspace(0, len(inside) - 1, MOST_TICKS).round().astype(int))
    return [inside[place] for place in places] if inside else [float(values[len(values) // 2])]
