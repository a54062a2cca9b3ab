"""`Sizes`: the posterior of a law across model sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rlceiling.curves.size_laws import ceiling_exponent, expit
from rlceiling.errors import count
from rlceiling.inference.convergence import Convergence, diagnose
from rlceiling.inference.nuts import fit_key
from rlceiling.models.size_data import SizeData, prepare_sizes
from rlceiling.models.size_laws import LAWS, Column, SizeLaw, SizePriors, ceilings_of_law
from rlceiling.posterior.fit import Settings, check_prob, interval_of
from rlceiling.runs import Run
from rlceiling.runs.sizes import SizeUnits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rlceiling.decisions.sizes import Crossover


class SizeVerdict(Enum):
    """What a law across sizes may be used for. Members carry a `sentence` and an `advice`."""

    NOT_CONVERGED = (
        "The chains do not agree, so nothing can be read off this posterior.",
        "Fit again with more steps, and look at the runs for mistakes.",
    )
    TOO_FEW_SIZES = (
        "There are too few sizes to know how the law goes on, so other sizes follow the priors.",
        "Add runs of other sizes; ask about the sizes there are.",
    )
    SATURATION_UNSEEN = (
        "All sizes lie where the law has not bent, so what it saturates at cannot be known.",
        "Add runs of larger sizes; sizes a little beyond those seen may be asked about.",
    )
    SATURATION_SEEN = (
        "The sizes reach past the bend of the law.",
        "Its limit may be quoted with its interval.",
    )

    def __init__(self, sentence: str, advice: str) -> None:
        self.sentence = sentence
        self.advice = advice


@dataclass(frozen=True)
class SizeRules:
    """Thresholds of the verdicts across sizes, checked in the order of the fields.

    Attributes
    ----------
    max_r_hat, min_ess, max_divergences, min_e_bfmi
        As in `VerdictRules`.
    min_sizes : int
        `TOO_FEW_SIZES` below this. Two sizes fix a level and a slope, and nothing is left to tell deviations from the
        law.
    min_p_bend : float
        Of the power law: `SATURATION_UNSEEN` unless the largest size is beyond N0, where half of E_max is reached,
        with this probability. Of the ceiling law: unless the largest size has reached `min_share_of_limit` of the
        ceiling without limit with this probability.
    min_share_of_limit : float
        See there.
    size_reach : float
        A size is beyond what the data support if it lies further outside the sizes seen, in ln N, than this share of
        their span.
    resource_reach : float
        The same for the resource: further beyond the last evaluation, in ln X, than this share of the span of the run
        with the widest. Forecasts of the rest of runs from their first 20 to 40% and of sizes left out were scored as
        far as that (``benchmarks/calibration``).
    """

    max_r_hat: float = 1.01
    min_ess: float = 400.0
    max_divergences: int = 0
    min_e_bfmi: float = 0.3
    min_sizes: int = 3
    min_p_bend: float = 0.9
    min_share_of_limit: float = 0.9
    size_reach: float = 0.25
    resource_reach: float = 0.5

    def converged(self, c: Convergence) -> bool:
        """Whether the chains agree well enough for anything to be read off them."""
        # NaN (a chain that never moved) must fail, so every comparison is the one that has to hold.
        return (
            c.r_hat < self.max_r_hat
            and c.ess_bulk >= self.min_ess
            and c.ess_tail >= self.min_ess
            and c.divergences <= self.max_divergences
            and c.e_bfmi >= self.min_e_bfmi
        )


@dataclass(frozen=True, eq=False)
class Sizes:
    """Posterior of a law across model sizes. Made by `rlceiling.fit_sizes`.

    Attributes
    ----------
    law : {"power law", "ceiling"}
        The family.
    sizes : tuple of float
        Model sizes, ascending.
    runs : tuple of tuples of Run
        What was fitted of each size, rewards on [0, 1].
    units : SizeUnits
        What the user's numbers mean.
    priors : PowerLawPriors or CeilingLawPriors
        Priors.
    settings : Settings
        How the fit was made.
    parameters : dict of str to ndarray, shape (chains, draws)
        Posterior draws of the parameters of the law, as their priors are written (see `limits` for those in the user's
        units).
    columns : dict of str to ndarray, shape (chains, draws, sizes)
        Posterior draws of the numbers of every size, on the scales they vary on: ``ln_K``, ``ln_E`` and ``ln_sigma`` of
        the power law; ``logit_A``, ``logit_start``, ``x_mid``, ``ln_B`` and ``ln_sigma`` of the ceiling law.
    sample_stats : dict of str to ndarray, shape (chains, draws)
        What the sampler says of each draw.
    rules : SizeRules
        Thresholds of the verdicts.
    notes : tuple of str
        What was done to the runs, and what looks odd about them.
    """

    law: str
    sizes: tuple[float, ...]
    runs: tuple[tuple[Run, ...], ...] = field(repr=False)
    units: SizeUnits
    priors: SizePriors
    settings: Settings
    parameters: dict[str, np.ndarray] = field(repr=False)
    columns: dict[str, np.ndarray] = field(repr=False)
    sample_stats: dict[str, np.ndarray] = field(repr=False)
    rules: SizeRules = field(default_factory=SizeRules, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def family(self) -> SizeLaw:
        """The law as the model knows it."""
        return LAWS[self.law][0]

    @cached_property
    def data(self) -> SizeData:
        """Arrays as the model sees them."""
        return prepare_sizes(self.sizes, self.runs, self.priors.evaluation_error)

    @cached_property
    def convergence(self) -> Convergence:
        """Convergence diagnostics, over the parameters of the law and the numbers of every size."""
        of_sizes = {f"{k}[{i}]": v[..., i] for k, v in self.columns.items() for i in range(len(self.sizes))}
        return diagnose({**self.parameters, **of_sizes}, self.sample_stats["diverging"], self.sample_stats["energy"])

    @cached_property
    def verdict(self) -> SizeVerdict:
        """What this fit may be used for."""
        if not self.rules.converged(self.convergence):
            return SizeVerdict.NOT_CONVERGED
        if len(self.sizes) < self.rules.min_sizes:
            return SizeVerdict.TOO_FEW_SIZES
        if self.p_bend < self.rules.min_p_bend:
            return SizeVerdict.SATURATION_UNSEEN
        return SizeVerdict.SATURATION_SEEN

    @property
    def p_bend(self) -> float:
        """Posterior probability that the largest size is past the bend of the law (see `SizeRules`)."""
        if self.law == "power law":
            return float(np.mean(self.limits["N0"] < self.sizes[-1]))
        _, largest, limit = ceilings_of_law(self.parameters)
        return float(np.mean(largest > self.rules.min_share_of_limit * limit))

    @cached_property
    def limits(self) -> dict[str, np.ndarray]:
        """Draws of the parameters by which laws are quoted, in the user's units, shape (chains, draws).

        ``E_max`` and ``N0`` of the power law; ``L_inf``, ``N1`` and ``alpha`` of the ceiling law.
        """
        values = self.parameters
        N_ref = float(np.exp(self.data.log_size_origin))
        if self.law == "power law":
            return {"E_max": values["E_max"], "N0": N_ref * values["N0"]}
        smallest, largest, limit = ceilings_of_law(values)
        alpha = np.asarray(ceiling_exponent((self.data.t[0], self.data.t[-1]), smallest, largest, limit))
        # limit - A(N) = (N1 / N)^alpha at the largest size.
        with np.errstate(divide="ignore"):
            N1 = np.exp(np.log(limit - largest) / alpha) * self.sizes[-1]
        return {"L_inf": 1.0 - limit, "N1": N1, "alpha": alpha}

    def x(self, resource: Any) -> np.ndarray:
        """``ln (X / X_ref)``."""
        return np.log(np.asarray(resource, dtype=float)) - float(self.data.log_origin)

    def flat(self, name: str) -> np.ndarray:
        """Draws of a parameter in one row, shape (chains * draws,)."""
        return self.parameters[name].reshape(-1)

    def columns_at(self, sizes: Sequence[float]) -> dict[str, np.ndarray]:
        """Draws of the numbers of sizes, seen or not, shape (chains * draws, len(sizes)).

        Those of a size that was not fitted are drawn given those that were: normal, with the mean and covariance that
        the law and its deviations imply. Equal sizes get equal draws.
        """
        t_seen = np.asarray(self.data.t)
        asked = np.round(np.log(np.asarray(sizes, dtype=float)) - float(self.data.log_size_origin), 9)
        seen = {float(t): i for i, t in enumerate(t_seen)}
        new = np.unique([t for t in asked if float(t) not in seen])
        places = {float(t): i for i, t in enumerate(new)}
        out = {}
        for column in self.family.columns:
            own = self.columns[column.name].reshape(-1, len(t_seen))
            drawn = self._draw_new(column, own, new) if len(new) else own
            out[column.name] = np.stack(
                [own[:, seen[float(t)]] if float(t) in seen else drawn[:, places[float(t)]] for t in asked], axis=1
            )
        return out

    def _draw_new(self, column: Column, own: np.ndarray, new: np.ndarray) -> np.ndarray:
        """Draws of a column at new places t, given those of the sizes fitted, shape (draws, len(new))."""
        law, priors, t = self.family, self.priors.distributions(), np.asarray(self.data.t)
        values = {name: self.flat(name)[:, None] for name in self.parameters}
        spread, span = values[column.spread][..., None], (t[0], t[-1])

        def covariance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
            return np.asarray(law.covariance(column, spread, priors, one[:, None], other))

        gain = np.linalg.solve(covariance(t, t), covariance(t, new))  # (draws, seen, new)
        off = own - law.mean(column, values, priors, t, span)
        centre = law.mean(column, values, priors, new, span) + np.einsum("ds,dsn->dn", off, gain)
        left = covariance(new, new) - np.einsum("dsm,dsn->dmn", gain, covariance(t, new))
        root = np.linalg.cholesky(left + 1e-12 * np.eye(len(new)))
        key = fit_key(self.settings.seed, "sizes", column.name, *(f"{place:.9f}" for place in new))
        normal = np.random.default_rng(key).standard_normal((len(own), len(new)))
        return np.asarray(centre + np.einsum("dmn,dn->dm", root, normal))

    def curves(self, sizes: Sequence[float], resource: np.ndarray) -> np.ndarray:
        """Mean pass rate on [0, 1] of every draw, size and resource, shape (chains * draws, sizes, m)."""
        columns = self.columns_at(sizes)
        own = (columns[c.name][..., None] for c in self.family.columns[:-1])
        return np.asarray(self.family.curve(self.x(resource), *own))

    def summary(self, prob: float = 0.9) -> pd.DataFrame:
        """One row a size.

        Parameters
        ----------
        prob : float, default 0.9
            Probability of the equal-tailed intervals.

        Returns
        -------
        DataFrame
            Index: size, as the user writes it. Columns: medians and interval ends of ``K`` (test loss at the geometric
            mean of the resource, on [0, 1]) and ``E`` of the power law, or of ``A`` and ``R0`` (unit of the reward),
            ``X_mid`` (unit of the resource) and ``B`` of the ceiling law; of ``sigma``, the noise of one evaluation
            (unit of the reward); ``runs`` and ``evaluations``.
        """
        check_prob("summary", prob)
        low, high = self.units.bounds
        c = self.columns
        if self.law == "power law":
            shown = {"K": np.exp(c["ln_K"]), "E": np.exp(c["ln_E"])}
        else:
            A = expit(c["logit_A"])
            X_mid = np.exp(c["x_mid"] + self.data.log_origin)
            shown = {
                "A": low + (high - low) * A,
                "R0": low + (high - low) * A * expit(c["logit_start"]),
                "X_mid": X_mid,
            }
            shown["B"] = np.exp(c["ln_B"])
        shown["sigma"] = (high - low) * np.exp(c["ln_sigma"])
        rows: dict[str, dict[str, Any]] = {}
        for i, size in enumerate(self.sizes):
            row: dict[str, Any] = {}
            for name, values in shown.items():
                lower, median, upper = interval_of(values[..., i], prob)
                row |= {name: median, f"{name}_lower": lower, f"{name}_upper": upper}
            evaluations = sum(len(run.compute) for run in self.runs[i])
            rows[self.units.show(size)] = row | {"runs": len(self.runs[i]), "evaluations": evaluations}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(self.units.size)

    def sentence(self) -> str:
        """The verdict with this fit's numbers in it."""
        c = self.convergence
        verdict = self.verdict
        if verdict is SizeVerdict.NOT_CONVERGED:
            return (
                f"the chains do not agree (R-hat {c.r_hat:.3f}, smallest effective sample "
                f"{min(c.ess_bulk, c.ess_tail):.0f}, {c.divergences} divergences), so nothing can be read off."
            )
        if verdict is SizeVerdict.TOO_FEW_SIZES:
            return (
                f"{count(len(self.sizes), 'size')} cannot tell how {self.law_in_words} goes on, so other sizes follow"
                " the priors; the sizes there are may be asked about."
            )
        largest = self.units.show(self.sizes[-1])
        if self.law == "power law":
            least, half, most = (self._shown(N) for N in interval_of(self.limits["N0"], 0.9))
            if verdict is SizeVerdict.SATURATION_UNSEEN:
                return (
                    f"the sizes up to {largest} may all lie below N0 (chance to be past it {self.p_bend:.2f}; N0"
                    f" anywhere from {least} to {most}), so where the exponent saturates cannot be known."
                )
            low, E_max, high = interval_of(self.limits["E_max"], 0.9)
            return (
                f"the exponent saturates at {E_max:.3f} (90% interval {low:.3f} to {high:.3f}), half of it at {half}"
                f" ({least} to {most})."
            )
        low, L_inf, high = interval_of(self.limits["L_inf"], 0.9)
        if verdict is SizeVerdict.SATURATION_UNSEEN:
            return (
                f"ceilings still rise with size at {largest} (chance to have {self.rules.min_share_of_limit:.0%} of the"
                f" last one {self.p_bend:.2f}; loss of a model without limit anywhere from {low:.3f} to {high:.3f})."
            )
        return f"a model without limit keeps a test loss of {L_inf:.3f} (90% interval {low:.3f} to {high:.3f})."

    def _shown(self, size: float) -> str:
        """A size with two digits."""
        return self.units.show(float(f"{size:.2g}"))

    @property
    def law_in_words(self) -> str:
        """The law with its article."""
        return f"the {self.law} law" if self.law == "ceiling" else f"the {self.law}"

    def support(self, size: float, resource: float) -> str:
        """Why the data do not support an answer about this size and resource; empty if they do."""
        if self.verdict is SizeVerdict.NOT_CONVERGED:
            return "the chains do not agree"
        known = np.isclose(self.sizes, size, rtol=1e-9)
        smallest, largest = self.sizes[0], self.sizes[-1]
        if not known.any():
            if self.verdict is SizeVerdict.TOO_FEW_SIZES:
                return f"{count(len(self.sizes), 'size')} cannot tell how other sizes go"
            reach = (largest / smallest) ** self.rules.size_reach
            if not smallest / reach <= size <= largest * reach:
                return (
                    f"size {self.units.show(size)} lies too far from those seen ({self.units.show(smallest)} to"
                    f" {self.units.show(largest)}, which carry from {self._shown(smallest / reach)} to"
                    f" {self._shown(largest * reach)})"
                )
        of = [own for own, is_it in zip(self.runs, known, strict=True) if is_it] or self.runs
        last = max(float(run.compute[-1]) for own in of for run in own)
        span = max(float(run.compute[-1] / run.compute[0]) for own in self.runs for run in own)
        far = last * span**self.rules.resource_reach
        if resource > far:
            return (
                f"{self.units.resource} {resource:.3g} lies too far beyond the last evaluation at {last:.3g}, which"
                f" carries to {far:.2g}"
            )
        return ""

    def forecast(
        self, size: Any, resource: float | Sequence[float], prob: float = 0.9, *, of: str = "reward"
    ) -> pd.DataFrame:
        """Reward or test loss of models of sizes seen or not.

        See `rlceiling.decisions.sizes.forecast`.
        """
        from rlceiling.decisions.sizes import forecast

        return forecast(self, size, resource, prob, of=of)

    def crossover(self, a: Any, b: Any, between: tuple[float, float] | None = None, prob: float = 0.9) -> Crossover:
        """Resource beyond which one size is better than another.

        See `rlceiling.decisions.sizes.crossover`.
        """
        from rlceiling.decisions.sizes import crossover

        return crossover(self, a, b, between, prob)

    def best_size(self, budget: float | Sequence[float], sizes: Sequence[Any] | None = None) -> pd.DataFrame:
        """Chance of each size to have the highest reward for a budget.

        See `rlceiling.decisions.sizes.best_size`.
        """
        from rlceiling.decisions.sizes import best_size

        return best_size(self, budget, sizes)

    def compute_to_reach(
        self, target: float, size: Any = None, prob: float = 0.9, *, of: str = "reward"
    ) -> pd.DataFrame:
        """Resource at which models of sizes seen or not reach a reward or a test loss.

        See `rlceiling.decisions.sizes.compute_to_reach`.
        """
        from rlceiling.decisions.sizes import compute_to_reach

        return compute_to_reach(self, target, size, prob, of=of)

    def saturation(self, share: float = 0.1, prob: float = 0.9) -> pd.Series:
        """Where the law saturates, and the chance that a model twice the largest adds next to nothing.

        See `rlceiling.decisions.sizes.saturation`.
        """
        from rlceiling.decisions.sizes import saturation

        return saturation(self, share, prob)

    def plot(self, **options: Any) -> Figure:
        """Draw the runs, the law and the best size. See `rlceiling.plot_sizes`."""
        from rlceiling.report.size_plots import plot_sizes

        return plot_sizes(self, **options)

    def __repr__(self) -> str:
        first, last = (self.units.show(self.sizes[i]) for i in (0, -1))
        runs = count(sum(map(len, self.runs)), "run")
        sizes = f"{count(len(self.sizes), 'size')} from {first} to {last}"
        head = f"Sizes: {self.law_in_words} over {sizes}, {runs} ({self.verdict.name})"
        return "\n  ".join([head, self.sentence(), *self.notes])
