"""`SizePosterior`: the posterior of a law across model sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd

from rlceiling.errors import count
from rlceiling.inference.stream_keys import stream_key
from rlceiling.models.unit import Unit
from rlceiling.posterior.deferred import defer
from rlceiling.posterior.posterior import Posterior, check_prob, described_run, interval_of, restored_run
from rlceiling.posterior.recorded import Stored, known_fields, plain
from rlceiling.posterior.size_verdicts import SizeCheck, SizeRules, SizeVerdict, check_run
from rlceiling.runs import Run
from rlceiling.runs.grouping import SizeUnits
from rlceiling.text import number

if TYPE_CHECKING:
    from rlceiling.curves.curve import Parameter
    from rlceiling.models.pooling import SizeParameter
    from rlceiling.models.size_family import SizeFamily
    from rlceiling.models.size_laws import SizeLaw
    from rlceiling.models.size_priors import SizePriors


@dataclass(frozen=True, eq=False, kw_only=True)
class SizePosterior(Posterior):
    """Posterior of a scaling law across model sizes; `Sizes` adds forecasts and decisions.

    Attributes
    ----------
    law : {"power law", "ceiling"}
        Name of the law.
    sizes : tuple of float
        Model sizes, ascending.
    runs : tuple of tuples of Run
        Runs of each size, rewards on [0, 1].
    units : SizeUnits
        Column names and reward bounds of the user's data.
    priors : SizePriors
        Priors.
    settings : Settings
        Sampler settings and package versions of the fit.
    draws : dict of str to ndarray, shape (chains, draws)
        Posterior draws of the parameters of the law, in the parameterisation of their priors (see `limits` for the
        user's units); also called `parameters`.
    unit_draws : dict of str to ndarray, shape (chains, draws, sizes)
        Posterior draws of the size-level parameters, unconstrained: ``ln_K``, ``ln_E`` and ``ln_sigma`` of the power
        law; ``logit_A``, ``logit_start``, ``x_mid``, ``ln_B`` and ``ln_sigma`` of the ceiling law; also called
        `columns`.
    sample_stats : dict of str to ndarray, shape (chains, draws)
        Sampler statistics stored with each draw.
    rules : SizeRules
        Thresholds of the verdicts.
    table_notes : tuple of str
        Notes on the changes made to the runs and on inconsistencies found in them.
    """

    law: str
    sizes: tuple[float, ...]
    runs: tuple[tuple[Run, ...], ...] = field(repr=False)
    units: SizeUnits
    priors: SizePriors
    rules: SizeRules = field(default_factory=SizeRules, repr=False)
    table_notes: tuple[str, ...] = ()

    kind: ClassVar[str] = "law across sizes"

    @property
    def family(self) -> SizeFamily:
        """Model of the fit."""
        return _family(self.law)

    @property
    def size_law(self) -> SizeLaw:
        """The `SizeLaw` of the fit."""
        return self.family.law

    @property
    def members(self) -> tuple[Unit, ...]:
        """Units of the hierarchical model: one per size."""
        return units_of_sizes(self.sizes, self.runs, self.units)

    @cached_property
    def all_runs(self) -> tuple[Run, ...]:
        """All runs, size after size."""
        return tuple(run for own in self.runs for run in own)

    @property
    def stream_names(self) -> tuple[str, ...]:
        """Name of the law, from which the random streams are derived."""
        return (self.law, "sizes")

    @property
    def labels(self) -> dict[str, str]:
        """Name of the law and names of the columns."""
        units = self.units
        return {"law": self.law, "size": units.size, "resource": units.resource, "reward": units.reward}

    def run_label(self, place: int) -> str:
        """Name of a run as ``recipe/run``."""
        run = self.all_runs[place]
        return f"{run.recipe}/{run.run}"

    @property
    def log_origin(self) -> float:
        """``ln X_ref``."""
        return float(self.data.log_origin)

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """Draws of the parameters of the law, shape (chains, draws)."""
        return self.draws

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Draws of the size-level parameters, shape (chains, draws, sizes)."""
        return self.unit_draws

    def model_draws(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Draws, chains concatenated."""
        return (
            {name: values.reshape(-1) for name, values in self.draws.items()},
            {name: values.reshape(-1, len(self.sizes)) for name, values in self.unit_draws.items()},
        )

    @property
    def curve_parameters(self) -> tuple[str, ...]:
        """Names of the parameters of the learning curve of a size."""
        return tuple(parameter.name for parameter in self.size_law.curve.parameters)

    def run_curve(self, place: int) -> Callable[[np.ndarray], np.ndarray]:
        """Curve of a run for every draw, which is the curve of its size."""
        size = int(self.data.size_of[place])
        eta = [self.columns[name].reshape(-1, len(self.sizes))[:, [size]] for name in self.curve_parameters]
        return lambda inputs: np.asarray(self.size_law.curve.value(inputs, *eta))

    def run_noise(self, place: int) -> dict[str, np.ndarray]:
        """Noise parameters of a run for every draw."""
        sigma = np.exp(self.columns["ln_sigma"][..., int(self.data.size_of[place])].reshape(-1))
        return {"sigma": sigma, "share": self.flat("share"), "length": self.flat("length")}

    def describe(self) -> dict[str, Any]:
        """Description, as plain types for JSON, of everything except draws and evaluations."""
        of_size = [size for size, own in zip(self.sizes, self.runs, strict=True) for _ in own]
        runs = [
            {**described_run(run), "recipe": run.recipe, "size": size}
            for run, size in zip(self.all_runs, of_size, strict=True)
        ]
        checks = {name: plain(check) for name, check in self.checks.items()}
        own = self.described(law=self.law, sizes=list(self.sizes), runs=runs, notes=list(self.table_notes))
        return own | {"checks": checks, "thresholds": {"max_wander": self.rules.max_wander}}

    @classmethod
    def restore(cls, stored: Stored) -> Self:
        """Rebuild a posterior from the content of a file."""
        described = stored.described
        units = SizeUnits(**{**described["units"], "bounds": tuple(described["units"]["bounds"])})
        scaled = {**stored.evaluations, "reward": units.scale(stored.evaluations["reward"])}
        sizes = tuple(described["sizes"])
        runs: dict[float, list[Run]] = {size: [] for size in sizes}
        for place, one in enumerate(described["runs"]):
            runs[one["size"]].append(restored_run(one["recipe"], one, scaled, place))
        return cls(
            law=described["law"],
            sizes=sizes,
            runs=tuple(tuple(own) for own in runs.values()),
            units=units,
            priors=defer(_priors, (described["law"], described["priors"])),
            rules=known_fields(SizeRules, described["rules"]),
            table_notes=tuple(described["notes"]),
            **stored.common_fields(SizeCheck),
        )

    @cached_property
    def checks(self) -> dict[str, SizeCheck]:
        """Posterior predictive checks of every run against the curve of its size, by ``recipe/run``."""
        thresholds = {"max_wander": self.rules.max_wander}
        if self.recorded is not None and self.recorded.thresholds == thresholds:
            return dict(self.recorded.checks)
        found = {}
        for place in range(len(self.all_runs)):
            run = self.run_data(place)
            resource = np.exp(run.inputs[run.observed, 0] + self.log_origin)
            found[self.run_label(place)] = check_run(self.run_paths(place), resource, **thresholds)
        return found

    @property
    def odd_runs(self) -> dict[str, str]:
        """Runs that do not follow the curve of their size -> description."""
        resource = self.units.resource
        found = {}
        for name, check in self.checks.items():
            if check.outlier_p < self.rules.min_outlier_p:
                found[name] = (
                    f"has an evaluation at {number(check.outlier_resource)} {resource} that lies "
                    f"{abs(check.outlier_sd):.1f} standard deviations off the curve"
                )
            elif not self.rules.follows(check):
                found[name] = f"departs from the curve of its size by {check.wander:.0%} of its rise"
        return found

    @cached_property
    def verdict(self) -> SizeVerdict:
        """Verdict: the conclusions that this fit supports."""
        if not self.rules.converged(self.convergence):
            return SizeVerdict.NOT_CONVERGED
        if 2 * len(self.odd_runs) >= len(self.all_runs):
            return SizeVerdict.NOT_THE_LAW
        if len(self.sizes) < self.rules.min_sizes:
            return SizeVerdict.TOO_FEW_SIZES
        if self.p_bend < self.rules.min_p_bend:
            return SizeVerdict.SATURATION_UNSEEN
        return SizeVerdict.SATURATION_SEEN

    @property
    def notes(self) -> tuple[str, ...]:
        """Changes made to the runs, and runs that do not follow the curve of their size."""
        return (*self.table_notes, *(f"run {run} {how}" for run, how in self.odd_runs.items()))

    @property
    def span(self) -> tuple[float, float]:
        """``t = ln (N / N_ref)`` of the smallest and the largest size."""
        return float(self.data.t[0]), float(self.data.t[-1])

    @property
    def p_bend(self) -> float:
        """Posterior probability that the largest size is past the bend of the law (see `SizeRules`)."""
        share = self.rules.min_share_of_limit
        return float(np.mean(self.size_law.past_bend(self.parameters, self.limits, self.sizes[-1], share)))

    @cached_property
    def limits(self) -> dict[str, np.ndarray]:
        """Draws of the parameters in the published form of the law, in the user's units, shape (chains, draws).

        ``E_max`` and ``N0`` of the power law; ``L_inf``, ``N1`` and ``alpha`` of the ceiling law.
        """
        return self.size_law.limits(self.parameters, self.span, float(np.exp(self.data.log_size_origin)))

    def x(self, resource: Any) -> np.ndarray:
        """``ln (X / X_ref)``."""
        return np.log(np.asarray(resource, dtype=float)) - float(self.data.log_origin)

    def flat(self, name: str) -> np.ndarray:
        """Draws of a parameter, chains concatenated, shape (chains * draws,)."""
        return self.parameters[name].reshape(-1)

    def columns_at(self, sizes: Sequence[float]) -> dict[str, np.ndarray]:
        """Draws of the size-level parameters of fitted or new sizes, shape (chains * draws, len(sizes)).

        Parameters of a new size are drawn from their conditional normal distribution given the fitted sizes, with the
        mean and covariance that the law and its deviations imply. Equal sizes get equal draws.
        """
        t_seen = np.asarray(self.data.t)
        asked = np.round(np.log(np.asarray(sizes, dtype=float)) - float(self.data.log_size_origin), 9)
        seen = {float(t): i for i, t in enumerate(t_seen)}
        new = np.unique([t for t in asked if float(t) not in seen])
        places = {float(t): i for i, t in enumerate(new)}
        out = {}
        for parameter in self.size_law.pooling.parameters:
            own = self.columns[parameter.name].reshape(-1, len(t_seen))
            drawn = self._draw_new(parameter, own, new) if len(new) else own
            out[parameter.name] = np.stack(
                [own[:, seen[float(t)]] if float(t) in seen else drawn[:, places[float(t)]] for t in asked], axis=1
            )
        return out

    def _draw_new(self, parameter: SizeParameter, own: np.ndarray, new: np.ndarray) -> np.ndarray:
        """Draws of a parameter at new values of t, given the fitted sizes, shape (draws, len(new))."""
        key = stream_key(self.settings.seed, "sizes", parameter.name, *(f"{place:.9f}" for place in new))
        normal = np.random.default_rng(key).standard_normal((len(own), len(new)))
        draws, priors = {name: self.flat(name) for name in self.parameters}, self.priors.distributions()
        return self.size_law.pooling.draw_new(parameter, draws, priors, own, np.asarray(self.data.t), new, normal)

    def curves(self, sizes: Sequence[float], resource: np.ndarray) -> np.ndarray:
        """Mean pass rate on [0, 1] for every draw, size and resource, shape (chains * draws, sizes, m)."""
        columns = self.columns_at(sizes)
        own = (columns[name][..., None] for name in self.curve_parameters)
        return np.asarray(self.size_law.curve.value(self.x(resource)[:, None], *own))

    def summary(self, prob: float = 0.9) -> pd.DataFrame:
        """Summarise the posterior in a table with one row per size.

        Parameters
        ----------
        prob : float, default 0.9
            Probability of the equal-tailed credible intervals.

        Returns
        -------
        DataFrame
            Index: size, in the notation of the user. Columns: medians and credible limits of ``K`` (test loss at the
            geometric mean of the resource, on [0, 1]) and ``E`` of the power law, or of ``A`` and ``R0`` (unit of the
            reward), ``X_mid`` (unit of the resource) and ``B`` of the ceiling law; the same of ``sigma``, the noise
            standard deviation of one evaluation (unit of the reward); ``runs`` and ``evaluations``.
        """
        check_prob("summary", prob)
        shown = {
            symbol: self._in_units(unit, values) for symbol, (unit, values) in self.size_law.table(self.columns).items()
        }
        shown["sigma"] = self.units.width * np.exp(self.columns["ln_sigma"])
        rows: dict[str, dict[str, Any]] = {}
        for i, size in enumerate(self.sizes):
            row: dict[str, Any] = {}
            for name, values in shown.items():
                lower, median, upper = interval_of(values[..., i], prob)
                row |= {name: median, f"{name}_lower": lower, f"{name}_upper": upper}
            evaluations = sum(len(run.compute) for run in self.runs[i])
            rows[self.units.show(size)] = row | {"runs": len(self.runs[i]), "evaluations": evaluations}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(self.units.size)

    def _in_units(self, unit: str, values: Any) -> Any:
        """A constrained parameter of a curve in the user's units."""
        if unit == "reward":
            return self.units.unscale(values)
        return values * np.exp(self.log_origin) if unit == "resource" else values

    @property
    def saturating_symbol(self) -> str:
        """Symbol of the parameter that saturates with model size, such as ``"E"``."""
        return self._saturating.symbol

    @property
    def saturating_label(self) -> str:
        """Label of the parameter that saturates with model size, such as ``"exponent"``."""
        return self._saturating.label

    @property
    def saturating_unit(self) -> str:
        """Unit of that parameter, as in `rlceiling.curves.curve.Parameter`."""
        return self._saturating.unit

    @property
    def _saturating(self) -> Parameter:
        name = self.size_law.saturating.parameter
        return next(parameter for parameter in self.size_law.curve.parameters if parameter.name == name)

    def saturating_of_sizes(self, sizes: Sequence[float]) -> np.ndarray:
        """Draws of the saturating parameter of fitted or new sizes, in the user's units, shape (draws, sizes)."""
        parameter = self._saturating
        return np.asarray(self._in_units(parameter.unit, parameter.constrain(self.columns_at(sizes)[parameter.name])))

    def saturating_limit(self) -> np.ndarray:
        """Draws of the asymptote of that parameter for infinite size, in the user's units, shape (chains, draws)."""
        return np.asarray(self._in_units(self._saturating.unit, self.size_law.saturating.limit(self.parameters)))

    def sentence(self) -> str:
        """Verdict as a sentence with the numbers of this fit."""
        verdict = self.verdict
        if verdict is SizeVerdict.NOT_CONVERGED:
            return self.rules.sentence(self.convergence)
        if verdict is SizeVerdict.NOT_THE_LAW:
            run, how = next(iter(self.odd_runs.items()))
            return (
                f"{len(self.odd_runs)} of {count(len(self.all_runs), 'run')} do not follow the learning curves of"
                f" {self.law_in_words}; run {run} {how}."
            )
        if verdict is SizeVerdict.TOO_FEW_SIZES:
            return (
                f"{count(len(self.sizes), 'size')} cannot tell how {self.law_in_words} goes on, so other sizes follow"
                " the priors; the sizes there are may be asked about."
            )
        words = {
            "largest": self.units.show(self.sizes[-1]),
            "share": self.rules.min_share_of_limit,
            "p_bend": self.p_bend,
        }
        for name, draws in self.limits.items():
            show = self._shown if name.startswith("N") else "{:.3f}".format
            for end, value in zip(("_lower", "", "_upper"), interval_of(draws, 0.9), strict=True):
                words[f"{name}{end}"] = show(value)
        template = self.size_law.unseen if verdict is SizeVerdict.SATURATION_UNSEEN else self.size_law.seen
        return template.format(**words)

    def _shown(self, size: float) -> str:
        """Text of a size with two significant digits."""
        return self.units.show(float(f"{size:.2g}"))

    @property
    def law_in_words(self) -> str:
        """Name of the law with its article."""
        return self.size_law.phrase

    def support(self, size: float, resource: float) -> str:
        """Reason why the data do not support an answer at this size and resource; empty if they do."""
        if self.verdict is SizeVerdict.NOT_CONVERGED:
            return "the chains do not agree"
        if self.verdict is SizeVerdict.NOT_THE_LAW:
            return "the runs do not follow the law"
        known = np.isclose(self.sizes, size, rtol=1e-9)
        smallest, largest = self.sizes[0], self.sizes[-1]
        if not known.any():
            if self.verdict is SizeVerdict.TOO_FEW_SIZES:
                return f"{count(len(self.sizes), 'size')} cannot tell how other sizes go"
            reach = (largest / smallest) ** self.rules.size_reach
            if not smallest / reach <= size <= largest * reach:
                return (
                    f"size {self.units.show(size)} is outside the supported range ({self._shown(smallest / reach)} to"
                    f" {self._shown(largest * reach)}; sizes in the data: {self.units.show(smallest)} to"
                    f" {self.units.show(largest)})"
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

    def __repr__(self) -> str:
        first, last = (self.units.show(self.sizes[i]) for i in (0, -1))
        runs = count(sum(map(len, self.runs)), "run")
        sizes = f"{count(len(self.sizes), 'size')} from {first} to {last}"
        head = f"Sizes: {self.law_in_words} over {sizes}, {runs} ({self.verdict.name})"
        return "\n  ".join([head, self.sentence(), *self.notes])


def units_of_sizes(sizes: Sequence[float], runs: Sequence[tuple[Run, ...]], units: SizeUnits) -> tuple[Unit, ...]:
    """Units of the hierarchical model, one per size."""
    return tuple(Unit(units.show(size), tuple(own), size) for size, own in zip(sizes, runs, strict=True))


def _family(law: str) -> SizeFamily:
    """Model of a law."""
    from rlceiling.models.size_family import SIZE_FAMILIES

    return SIZE_FAMILIES[law]


def _priors(described: tuple[str, Mapping[str, Any]]) -> SizePriors:
    """Make priors again from the law and what a file holds."""
    law, priors = described
    return _family(law).priors.from_dict(priors)
