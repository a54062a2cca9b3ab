"""`Posterior`: base class of the fits of all families."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from rlceiling.errors import DataError, is_finite
from rlceiling.inference.convergence import Convergence, diagnose
from rlceiling.inference.stream_keys import stream_key
from rlceiling.models.run_data import RunData, lane
from rlceiling.models.unit import Unit
from rlceiling.posterior.deferred import DeferredField
from rlceiling.posterior.recorded import Recorded, Stored, plain
from rlceiling.runs import Run, Stage
from rlceiling.settings import Settings

if TYPE_CHECKING:
    import xarray as xr

    from rlceiling.models.family import Family
    from rlceiling.models.paths import Paths

# The models, JAX and ArviZ are imported by the methods that need them: most questions need only the draws.


@dataclass(frozen=True, eq=False, kw_only=True)
class Posterior:
    """Posterior draws of one fit, with its data, priors and settings.

    Attributes
    ----------
    units : RewardUnits
        Column names and reward bounds of the user's data.
    priors : Priors
        Priors.
    settings : Settings
        Sampler settings and package versions of the fit.
    draws : dict of str to ndarray, shape (chains, draws)
        Draws of the population parameters.
    unit_draws : dict of str to ndarray, shape (chains, draws, units)
        Draws of the parameters of each unit: a run of a recipe, or a model size.
    sample_stats : dict of str to ndarray, shape (chains, draws)
        Sampler statistics stored with each draw.
    rules : VerdictRules or SizeRules
        Thresholds of the verdict.
    recorded : Recorded or None
        Diagnostics and verdict checks that were stored with the draws. None means that they are computed on access.
    """

    units: Any
    priors: Any = DeferredField()  # noqa: RUF009 - a descriptor and no shared default
    settings: Settings
    draws: dict[str, np.ndarray] = field(repr=False)
    unit_draws: dict[str, np.ndarray] = field(repr=False)
    sample_stats: dict[str, np.ndarray] = field(repr=False)
    rules: Any
    recorded: Recorded | None = field(default=None, repr=False)

    kind: ClassVar[str]
    """Kind of posterior, as stored in files."""

    unit_prefix: ClassVar[str] = ""
    """Prefix of the names of unit parameters in files and DataTrees, which also contain population parameters."""

    @property
    @abstractmethod
    def family(self) -> Family:
        """Model of the fit."""

    @property
    @abstractmethod
    def members(self) -> tuple[Unit, ...]:
        """Units of the hierarchical model, with their runs."""

    @property
    @abstractmethod
    def stream_names(self) -> tuple[str, ...]:
        """Names from which, with the seed, the random streams of this fit are derived."""

    @property
    @abstractmethod
    def labels(self) -> dict[str, str]:
        """Identifying labels of the fit, stored as attributes of its DataTree."""

    @abstractmethod
    def run_label(self, place: int) -> str:
        """Name of a run, given its index among all runs."""

    def in_user_units(self, draws: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Convert draws from the scale of the model to the units of `draws`; the identity by default."""
        return draws

    @property
    def unit(self) -> str:
        """Kind of unit of the hierarchical model: ``"run"`` or ``"size"``."""
        return self.family.pooling.unit

    @property
    @abstractmethod
    def log_origin(self) -> float:
        """Logarithm of the resource to which the inputs of curves are relative."""

    @abstractmethod
    def model_draws(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Draws and unit draws on the scale of the model, rewards on [0, 1], shapes (draws,) and (draws, units)."""

    @abstractmethod
    def run_curve(self, place: int) -> Callable[[np.ndarray], np.ndarray]:
        """Curve of a run for every draw: inputs, shape (m, k) -> rewards on [0, 1], shape (draws, m)."""

    @abstractmethod
    def run_noise(self, place: int) -> dict[str, np.ndarray]:
        """Draws of sigma, share and length of a run, shape (draws,), rewards on [0, 1]."""

    @cached_property
    def data(self) -> Any:
        """Arrays of the fit, from `Family.prepare`."""
        return self.family.prepare(self.members, self.priors)

    @property
    @abstractmethod
    def all_runs(self) -> tuple[Run, ...]:
        """All runs, in the order of the units."""

    def run_data(self, place: int) -> RunData:
        """Arrays of a run, given its index among all runs."""
        return lane(self.data.runs, int(self.family.lanes(self.data, self.members)[place]))

    def run_paths(self, place: int) -> Paths:
        """Curve and noise of a run at its own evaluations, for every draw."""
        from rlceiling.models.paths import paths_of

        run = self.run_data(place)
        own = np.arange(int(np.sum(run.observed)))
        return paths_of(run, self.run_curve(place), self.run_noise(place), own)

    @property
    def evaluations(self) -> int:
        """Number of evaluations of all runs, without step 0."""
        return sum(len(run.compute) for run in self.all_runs)

    @property
    def first_compute(self) -> float:
        """Smallest positive compute of any run."""
        return min(float(run.compute[0]) for run in self.all_runs if len(run.compute))

    @property
    def largest_compute(self) -> float:
        """Largest compute of any run."""
        return max(float(run.compute[-1]) for run in self.all_runs if len(run.compute))

    @cached_property
    def convergence(self) -> Convergence:
        """Convergence diagnostics, over the parameters of the population and of all units."""
        if self.recorded is not None:
            return self.recorded.convergence
        own = {f"{k}[{i}]": v[..., i] for k, v in self.unit_draws.items() for i in range(v.shape[-1])}
        return diagnose({**self.sampled_draws, **own}, self.sample_stats["diverging"], self.sample_stats["energy"])

    @property
    def sampled_draws(self) -> dict[str, np.ndarray]:
        """Draws of the population parameters that were sampled, which are diagnosed."""
        return self.draws

    @property
    def worth_a_retry(self) -> bool:
        """Whether the chains have not converged and longer ones could change what may be said."""
        return not self.rules.converged(self.convergence)

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Description, as plain types for JSON, of everything except draws and evaluations."""

    @classmethod
    @abstractmethod
    def restore(cls, stored: Stored) -> Self:
        """Rebuild a posterior from the content of a file (see `rlceiling.posterior.files`)."""

    def described(self, **own: Any) -> dict[str, Any]:
        """Description of the fields common to all posteriors, followed by the entries of the subclass."""
        return {
            "kind": self.kind,
            "family": self.family.name,
            **own,
            "units": asdict(self.units),
            "settings": asdict(self.settings),
            "priors": self.priors.to_dict(),
            "rules": asdict(self.rules),
            "convergence": plain(self.convergence),
        }

    def averaged_runs(self) -> dict[int, tuple[int, int]]:
        """Runs that were averaged into bins: index of the run -> (evaluations, bins)."""
        found = {}
        for place, run in enumerate(self.all_runs):
            n, kept = len(run.compute), int(np.sum(self.run_data(place).observed))
            if kept < n:
                found[place] = n, kept
        return found

    def to_datatree(self) -> xr.DataTree:
        """Export the fit to an ArviZ-compatible DataTree, in the user's units.

        Returns
        -------
        DataTree
            Groups, with dimensions (chain, draw), that of the units (``run`` or ``size``) and ``evaluation`` (the
            evaluations of all runs, concatenated; coordinates: the resource, and ``run_of_evaluation``):

            - ``posterior``: population parameters and unit parameters;
            - ``sample_stats``: diverging, energy, acceptance_rate, n_steps, step_size;
            - ``prior`` and ``prior_predictive``: as many draws as the posterior, of the population parameters and of
              ``reward``;
            - ``posterior_predictive``: replicates of the runs, each with its own noise path;
            - ``log_likelihood``: log density of each evaluation given the previous evaluations of its run, so that the
              sum is the log likelihood of all; `loo` then leaves out one such factor at a time;
            - ``log_prior``: log density of each parameter under its prior, and as ``runs`` or ``sizes`` the log density
              of the units around their population; under learned priors also as ``learned`` the logarithm of the ratio
              of the mixture and the mild densities, which are the others. The density of the units is part of the
              model, so pass only the names of the parameters as ``prior_var_names`` to ArviZ's ``psense_summary``;
            - ``observed_data``: reward (bin averages where a run was binned);
            - ``constant_data``: n_eval where there was no binning.
        """
        import arviz_base

        from rlceiling.models.computing import double_precision_on_cpu
        from rlceiling.posterior.datatree import predict

        family, data, priors = self.family, self.data, self.priors.distributions()
        shape = next(iter(self.draws.values())).shape
        with double_precision_on_cpu():
            draws, unit_draws = self.model_draws()
            sites = family.sites_of_draws(draws, unit_draws, data, dict(priors))
        key = stream_key(self.settings.seed, *self.stream_names, "datatree")
        predicted = predict(key, family, sites, data, priors)
        log_prior = {name: predicted.log_prob[site] for name, site in family.prior_sites.items()}
        if "likeness" in predicted.log_prob:
            log_prior["learned"] = predicted.log_prob["likeness"]
        log_prior[f"{self.unit}s"] = family.log_prior_of_units(predicted.log_prob, sites, data, self.members)
        lanes = family.lanes(data, self.members)
        observed_of = [self.run_data(place).observed for place in range(len(self.all_runs))]

        def chained(values: object) -> np.ndarray:
            array = np.asarray(values)
            return array.reshape(*shape, *array.shape[1:])

        def observed(values: object) -> np.ndarray:
            """Concatenate the observed evaluations of all runs, from an array whose last axes are (lanes, length)."""
            array = np.asarray(values)
            parts = [array[..., place, :][..., seen] for place, seen in zip(lanes, observed_of, strict=True)]
            return np.concatenate(parts, axis=-1)

        rewards = {"posterior_predictive": predicted.reward, "prior_predictive": predicted.prior["reward"]}
        log_likelihood = [self.run_paths(place).log_prob for place in range(len(self.all_runs))]
        kept = [int(seen.sum()) for seen in observed_of]
        unit_names = {f"{self.unit_prefix}{name}": name for name in self.unit_draws}
        groups = {
            "posterior": {**self.draws, **{name: self.unit_draws[own] for name, own in unit_names.items()}},
            "sample_stats": self.sample_stats,
            "prior": self.in_user_units({name: chained(predicted.prior[name]) for name in self.draws}),
            **{group: {"reward": self.units.unscale(chained(observed(values)))} for group, values in rewards.items()},
            "log_likelihood": {"reward": chained(np.concatenate(log_likelihood, axis=-1))},
            "log_prior": {name: chained(values) for name, values in log_prior.items()},
            "observed_data": {"reward": self.units.unscale(observed(data.runs.reward))},
        }
        if kept == [len(run.compute) for run in self.all_runs]:
            groups["constant_data"] = {"n_eval": np.concatenate([run.n_eval for run in self.all_runs])}
        resource = np.exp(observed(data.runs.clock) + self.log_origin)
        tree = arviz_base.from_dict(
            groups,
            coords={"evaluation": resource, self.unit: [unit.name for unit in self.members]},
            dims={"reward": ["evaluation"], "n_eval": ["evaluation"]} | {name: [self.unit] for name in unit_names},
            attrs={"/": {**self.labels, "inference_library": "numpyro"}},
        )
        tree.attrs["inference_library_version"] = self.settings.versions["numpyro"]
        run_of = ("evaluation", np.repeat([self.run_label(place) for place in range(len(kept))], kept))
        for group in ("posterior_predictive", "prior_predictive", "log_likelihood", "observed_data", "constant_data"):
            if group in tree:
                tree[group].coords["run_of_evaluation"] = run_of
        return tree


def described_run(run: Run) -> dict[str, Any]:
    """Description of a run in a file, without its evaluations."""
    start = None if run.start is None else [None if np.isnan(v) else float(v) for v in run.start]
    stages = {"stages": [list(stage) for stage in run.stages]} if run.stages else {}
    return {"name": run.run, "start": start, **stages}


def restored_run(recipe: str, described: Mapping[str, Any], evaluations: Mapping[str, np.ndarray], place: int) -> Run:
    """Rebuild a run from a file, with rewards as stored."""
    own, start = evaluations["run"] == place, described["start"]
    return Run(
        recipe=recipe,
        run=described["name"],
        compute=evaluations["compute"][own],
        reward=evaluations["reward"][own],
        n_eval=evaluations["n_eval"][own],
        start=start and (start[0], np.nan if start[1] is None else start[1]),
        stages=tuple(Stage(*stage) for stage in described.get("stages", ())),
    )


def check_prob(where: str, prob: float) -> None:
    """Raise DataError unless a probability lies strictly between 0 and 1."""
    if not (is_finite(prob) and 0.0 < prob < 1.0):
        raise DataError(f"{where}: prob={prob!r} is not between 0 and 1; give the probability of the interval.")


def interval_of(draws: np.ndarray, prob: float) -> tuple[float, float, float]:
    """Median and equal-tailed credible interval of draws: (lower, median, upper)."""
    tail = (1.0 - prob) / 2.0
    lower, median, upper = np.quantile(draws, [tail, 0.5, 1.0 - tail])
    return float(lower), float(median), float(upper)
