"""Priors of a recipe: `SigmoidPriors`, and `LearnedPriors` from other recipes."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import tomli_w
from numpyro import distributions as dist
from scipy import stats
from scipy.special import expit

from rlceiling.errors import DataError, count, is_finite, listing
from rlceiling.models.computing import double_precision_on_cpu
from rlceiling.models.likeness import GROUPS, LEARNED, LIKE, LOGIT, log_likeness
from rlceiling.models.priors import (
    POSITIVE,
    UNIT_INTERVAL,
    Distributions,
    Priors,
    check_evaluation_error,
    described,
    made,
    with_floats,
)
from rlceiling.writing import replace_file

FORMAT = "rlceiling learned priors 1"
"""First entry of a file of learned priors."""

REFERENCE = Path(__file__).with_name("reference_priors.toml")
"""Priors that ``benchmarks/calibration/studies.py --part reference`` learned."""


@dataclass(frozen=True, eq=False, repr=False)
class SigmoidPriors(Priors):
    r"""Priors of the sigmoid model; each prior can be replaced.

    Each field except the last four takes a univariate NumPyro distribution with scalar arguments, on the support
    named below. Rewards are on [0, 1] here (other bounds are rescaled before fitting).

    Parameters
    ----------
    R0 : distribution on (0, 1), default Uniform(0, 1)
        Reward at compute 0, used only when no run logged an evaluation at compute 0. Otherwise the prior is
        ``Normal(that evaluation, its error)`` truncated to [0, 1]: ScaleRL holds R0 fixed at it, and freeing it moves
        A by .01 to .03 and B by up to a factor of 2.
    headroom : distribution on (0, 1), default Beta(1.5, 1.5)
        ``(A - R0) / (1 - R0)``, the gain as a share of the largest possible gain. Weakly informative; keeps
        ``R0 < A < 1``.
    B : positive distribution, default LogNormal(ln 1.7, 0.6)
        Efficiency, no unit. Published values lie between 1.1 and 5 (arXiv 2510.13786).
    C_mid : positive distribution, default LogNormal(0, 2)
        Midpoint divided by `C_mid_origin`, no unit. The prior is wide and relative to the compute of the run, so that
        results do not change when compute is given in other units.
    sigma : positive distribution, default HalfNormal(0.02)
        Standard deviation of the noise around the curve, without the evaluation error, in reward. Residuals of real
        curves have .002 to .02.
    share : distribution on (0, 1), default Beta(2, 1)
        Share of the variance ``sigma**2`` that is autocorrelated along the run. The default prefers large shares,
        because forecasts of held-out evaluations of real runs are then better calibrated than under a uniform prior
        (``benchmarks/calibration``).
    length : positive distribution, default LogNormal(ln 0.5, 1)
        Correlation length in ln C, no unit.
    tail : positive distribution, default LogNormal(0, 1)
        Tail of the curve, no unit: 1 is the sigmoid (see `rlceiling.curves.sigmoid_share`). All runs of a recipe share
        it. The form of the curve is not known: simulated runs of other forms that end as usual were forecast at 10
        times their compute with a coverage of 0.72 by the sigmoid and of 0.87 under this prior (nominal 0.9), and
        held-out evaluations of real runs better than by the sigmoid. ``LogNormal(0, 0.01)`` gives the sigmoid.
    headroom_spread : positive distribution, default HalfNormal(0.1)
        Between-run spread, within one recipe, of the logit of headroom: the standard deviation of healthy runs. Three
        seeds of ScaleRL gave ceilings within +-.015, and the ceilings of ten seeds on GSM8K differ by .005 to .01; at
        the headroom of those runs both are .05 to .1 on the logit scale. With one run the posterior equals the prior;
        with several runs the data inform it.
    C_mid_spread : positive distribution, default HalfNormal(0.2)
        Between-run spread of ln C_mid. No margins are published; five seeds of complete curves have
        .05 to .3, and a wider prior did not forecast a held-out seed any better (``benchmarks/calibration``).
    B_spread : positive distribution, default HalfNormal(0.1)
        Between-run spread of ln B. Runs that share one B (a standard deviation near 0) forecast a held-out
        seed worse, and a wider prior forecasts it hardly better.
    sigma_spread : positive distribution, default HalfNormal(0.3)
        Between-run spread of ln sigma. Only with several runs do the data inform it.
    C_mid_origin : float or None, default None
        Compute relative to which the midpoint prior is defined, in the unit of the run. None means the geometric mean
        of the run's own evaluations.
    evaluation_error : float, default 0.5
        Standard error of an evaluation with known ``n_eval``, as a multiple of the binomial standard error. With a
        fixed test set the scatter is about half of binomial; with a fresh random subset at each evaluation set it to 1.
        It is a lower bound of the white noise, and the error of the step-0 evaluation.
    bad_share : float, default 0.01
        Prior probability that an evaluation is bad: a crashed or truncated evaluation, a wrong checkpoint. It then lies
        anywhere (see `rlceiling.models.noise`) and says nothing about the curve. At the default an evaluation is
        set aside when it lies about four standard deviations off. 0 trusts every evaluation.
    form_error : float, default 0.05
        Error of the form of the curve in forecasts beyond the data: the standard deviation at a compute ``C`` beyond
        the last evaluation, at ``C_last``, is ``form_error * (A - R0) * sqrt(ln(C / C_last))``, a random walk in ln C.
        A curve with few parameters is an approximation, and with the default held-out evaluations of real runs are
        covered as claimed (``benchmarks/calibration``). It changes no draws and no ceiling. 0 trusts the form.

    Raises
    ------
    DataError
        If a prior is not a scalar NumPyro distribution on its support, `C_mid_origin` is not a positive number,
        `evaluation_error` or `form_error` is negative or not finite, or `bad_share` is not from 0 to below 0.5.

    Examples
    --------
    >>> import numpyro.distributions as dist
    >>> import rlceiling as rl
    >>> priors = rl.SigmoidPriors(B=dist.LogNormal(0.7, 0.3), C_mid=dist.LogNormal(0, 1), C_mid_origin=3000)
    """

    R0: Any = field(default_factory=lambda: dist.Uniform(0.0, 1.0))
    headroom: Any = field(default_factory=lambda: dist.Beta(1.5, 1.5))
    B: Any = field(default_factory=lambda: dist.LogNormal(math.log(1.7), 0.6))
    C_mid: Any = field(default_factory=lambda: dist.LogNormal(0.0, 2.0))
    sigma: Any = field(default_factory=lambda: dist.HalfNormal(0.02))
    share: Any = field(default_factory=lambda: dist.Beta(2.0, 1.0))
    length: Any = field(default_factory=lambda: dist.LogNormal(math.log(0.5), 1.0))
    tail: Any = field(default_factory=lambda: dist.LogNormal(0.0, 1.0))
    headroom_spread: Any = field(default_factory=lambda: dist.HalfNormal(0.1))
    C_mid_spread: Any = field(default_factory=lambda: dist.HalfNormal(0.2))
    B_spread: Any = field(default_factory=lambda: dist.HalfNormal(0.1))
    sigma_spread: Any = field(default_factory=lambda: dist.HalfNormal(0.3))
    C_mid_origin: float | None = None
    evaluation_error: float = 0.5
    bad_share: float = 0.01
    form_error: float = 0.05

    supports: ClassVar[Mapping[str, str]] = {
        "R0": UNIT_INTERVAL,
        "headroom": UNIT_INTERVAL,
        "B": POSITIVE,
        "C_mid": POSITIVE,
        "sigma": POSITIVE,
        "share": UNIT_INTERVAL,
        "length": POSITIVE,
        "tail": POSITIVE,
        "headroom_spread": POSITIVE,
        "C_mid_spread": POSITIVE,
        "B_spread": POSITIVE,
        "sigma_spread": POSITIVE,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.C_mid_origin is not None and not (is_finite(self.C_mid_origin) and self.C_mid_origin > 0):
            raise DataError(
                f"C_mid_origin={self.C_mid_origin!r} is not a positive compute; give one in the unit of the runs, "
                "or None for each run's own geometric mean"
            )
        check_evaluation_error(self.evaluation_error)
        if not (is_finite(self.bad_share) and 0.0 <= self.bad_share < 0.5):
            raise DataError(
                f"bad_share={self.bad_share!r} is not a probability below 0.5; give the share of evaluations that are "
                "bad, or 0 to trust all"
            )
        if not (is_finite(self.form_error) and self.form_error >= 0.0):
            raise DataError(
                f"form_error={self.form_error!r} is not a share of the gain; give a number of 0 or more (0 trusts the "
                "form of the curve)"
            )

    @classmethod
    def weak(cls) -> SigmoidPriors:
        """Weakly informative priors, the default, which were not learned from other recipes."""
        return SigmoidPriors()

    @classmethod
    def reference(cls) -> SigmoidPriors:
        """Priors of a recipe of a new study, learned from public runs of five studies.

        They were learned from `scalerl`, `qwen_math` and three more studies (GRPO with several group sizes, and two of
        "Not All Rollouts are Useful", arXiv 2504.13818), and carry the differences between studies. They say nothing
        about R0, which is that of the model and the task, nor about C_mid, whose unit differs between studies.
        Left out in turn, these studies were forecast no better under the priors of the other four than under the weak
        priors, which therefore are the default (see ``benchmarks/calibration``).

        Returns
        -------
        LearnedPriors
        """
        return load_priors(REFERENCE)

    def suited_to(self, compute: str, *, staged: bool) -> SigmoidPriors:
        """Priors of runs in this unit of compute, with several stages or one: these."""
        return self

    def spread_log_density(self, of: str) -> Callable[[np.ndarray], np.ndarray]:
        """Log prior density of the between-run standard deviation of ``"headroom"``, ``"C_mid"`` or ``"B"``."""
        prior = with_floats(getattr(self, f"{of}_spread"))
        return lambda spread: np.asarray(prior.log_prob(spread))


@dataclass(frozen=True, eq=False, repr=False)
class LearnedPriors(SigmoidPriors):
    r"""Priors learned from finished recipes, mixed with mild priors; from `rlceiling.learn_priors`.

    For each group of parameters (curve, noise, spread between runs) the prior of a recipe is

    .. math:: w \prod_k q_k(u_k) + (1 - w) \prod_k p_k(u_k)

    with the learned Student t densities ``q_k`` and the mild densities ``p_k`` on the logit or log scale, a robust
    mixture prior. A recipe that is unlike the others therefore keeps nearly the posterior of the mild priors.

    Attributes
    ----------
    learned : mapping of str to StudentT
        Distribution over recipes of the logit of R0, headroom and share, and of the logarithm of the others. It
        carries the uncertainty of the centre and of the spread.
    like : mapping of str to float
        Probability ``w`` of each group.
    compute : str
        Unit of compute of the recipes, in which C_mid is learned. Another unit is taken for another task, whose curves
        may be quite different: for runs in it only what was learned of the noise is used.
    reward : str
        Name of their reward, for information.
    recipes : tuple of str
        Names of the recipes.
    studies : tuple of str
        Names of the studies if there were several: the priors are then those of a recipe of another study.
    hyperparameters : mapping of str to mapping
        For each parameter: median and 90% credible interval (three numbers) of the ``centre`` and of the ``spread``
        over the recipes of a study, on the logit or log scale.

    The other attributes are those of `SigmoidPriors`: the mild priors.

    References
    ----------
    Schmidli et al., "Robust meta-analytic-predictive priors in clinical trials with historical control information",
    Biometrics 2014, doi 10.1111/biom.12242.
    """

    learned: Mapping[str, Any] = field(default_factory=dict)
    like: Mapping[str, float] = field(default_factory=dict)
    compute: str = ""
    reward: str = ""
    recipes: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, one in self.learned.items():
            if name not in self.supports or not isinstance(one, dist.StudentT):
                raise DataError(f"learned prior of {name!r} is {one!r}; give a StudentT of a parameter of the model")
        if isinstance(self.studies, str):
            raise DataError(f"studies={self.studies!r} is one name; give a list of names")
        for name, one in self.hyperparameters.items():
            numbers = [one[key] for key in ("centre", "spread")] if isinstance(one, Mapping) and len(one) == 2 else []
            if not numbers or any(np.shape(own) != (3,) for own in numbers):
                raise DataError(f"hyperparameters of {name!r} are {one!r}; give three numbers of centre and of spread")
        for group, names in GROUPS.items():
            like = self.like.get(group)
            if any(name in self.learned for name in names) and not (is_finite(like) and 0.0 < float(like or 0.0) < 1.0):
                raise DataError(f"like[{group!r}]={like!r} is not a probability between 0 and 1")

    def distributions(self) -> Distributions:
        """Priors by name, with their arguments as plain floats; what was learned has names of its own."""
        plain = {name: described(getattr(self, name)) for name in self.supports}
        plain |= {LEARNED(name): described(one) for name, one in self.learned.items()}
        learned_groups = (group for group, names in GROUPS.items() if any(name in self.learned for name in names))
        plain |= {LIKE(group): described(dist.BernoulliProbs(self.like[group])) for group in learned_groups}
        return Distributions(plain)

    def to_dict(self) -> dict[str, Any]:
        """Plain description, for JSON and TOML."""
        return super().to_dict() | {
            "learned": {name: described(one) for name, one in self.learned.items()},
            "like": dict(self.like),
            "recipes": list(self.recipes),
            "studies": list(self.studies),
            "hyperparameters": {name: dict(one) for name, one in self.hyperparameters.items()},
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Undo `to_dict`."""
        known = {f.name for f in fields(cls)}
        own = {k: v for k, v in plain.items() if k in known}
        own |= {k: made(v) for k, v in own.items() if k in cls.supports and isinstance(v, Mapping)}
        own["learned"] = {name: made(one) for name, one in plain["learned"].items()}
        return cls(**own | {"recipes": tuple(plain["recipes"]), "studies": _names(plain.get("studies", ()))})

    def suited_to(self, compute: str, *, staged: bool) -> LearnedPriors:
        """Priors of runs in this unit of compute, with several stages or one.

        Of what one study taught only the noise is kept where curves cannot be compared: in another unit of compute, and
        in the last stage of a run that was trained in stages. Several studies teach about curves in any unit.
        """
        alike = (bool(self.studies) or self.compute == compute) and not staged
        return self if alike else self.of_noise()

    def of_noise(self) -> Self:
        """The mild priors with what was learned of the noise, for runs whose curves cannot be compared with these."""
        return replace(self, learned={name: one for name, one in self.learned.items() if name in GROUPS["noise"]})

    def unlike(self, draws: Mapping[str, np.ndarray], log_origin: float, *, start_known: bool) -> dict[str, float]:
        """Probability of each group that a recipe with these draws is unlike the others.

        Parameters
        ----------
        draws : mapping of name to ndarray
            Posterior draws of the recipe's parameters, rewards on [0, 1].
        log_origin : float
            Logarithm of the origin of the midpoint prior.
        start_known : bool
            Whether the start was evaluated.
        """
        values = {name: np.clip(draws[name], 1e-12, 1.0 - 1e-12 if name in LOGIT else None) for name in self.learned}
        values |= {"C_mid": draws["C_mid"] / np.exp(log_origin)}
        with double_precision_on_cpu():
            terms = log_likeness(values, dict(self.distributions()), log_origin, start_known=start_known)
            odds = {group: np.asarray(other - like) for group, (like, other) in terms.items()}
        return {group: float(expit(values).mean()) for group, values in odds.items()}

    def mild(self) -> SigmoidPriors:
        """The mild priors."""
        return SigmoidPriors(**{f.name: getattr(self, f.name) for f in fields(SigmoidPriors)})

    def save(self, path: str | Path) -> None:
        """Write the priors to a TOML file, which `rlceiling.load_priors` reads.

        Parameters
        ----------
        path : str or Path
            File to write.
        """
        own = {name: value for name, value in self.to_dict().items() if value is not None}
        replace_file(Path(path), tomli_w.dumps({"format": FORMAT} | own).encode())

    def shown(self) -> dict[str, str]:
        """Every field in readable form; learned parameters as the median and the central 90% of one more recipe."""
        mild = self.mild().shown()
        own = {
            name: f"{low:.3g} to {high:.3g}, median {middle:.3g}"
            for name, (low, middle, high) in ((name, self.central(name)) for name in self.learned)
        }
        return mild | {name: f"learned: {text}; or unlike the others: {mild[name]}" for name, text in own.items()}

    def central(self, name: str, prob: float = 0.9) -> tuple[float, float, float]:
        """Lower limit, median and upper limit of a learned parameter of one more recipe that is like the others."""
        one = self.learned[name]
        tail = (1.0 - prob) / 2.0
        at = stats.t(float(one.df), float(one.loc), float(one.scale)).ppf([tail, 0.5, 1.0 - tail])
        low, middle, high = expit(at) if name in LOGIT else np.exp(at)
        return float(low), float(middle), float(high)

    def __repr__(self) -> str:
        one_study = f"({self.reward} against {self.compute})"
        of = f"of {len(self.studies)} studies" if self.studies else one_study
        head = f"LearnedPriors from {count(len(self.recipes), 'recipe')} {of}"
        lines = [
            f"  {name}: {low:.3g} to {high:.3g}, median {middle:.3g}"
            for name, (low, middle, high) in ((name, self.central(name)) for name in self.learned)
        ]
        groups = [group for group, names in GROUPS.items() if any(name in self.learned for name in names)]
        like = ", ".join(f"{group} {self.like[group]:.2f}" for group in groups)
        lines = [f"{head}; central 90% of one more recipe:", *lines, f"  chance to be like the others: {like}"]
        return "\n".join(lines)


def _names(plain: Any) -> Any:
    return plain if isinstance(plain, str) else tuple(plain)


def restored_priors(plain: Mapping[str, Any]) -> SigmoidPriors:
    """Priors of a recipe from what `to_dict` of either class wrote."""
    return (LearnedPriors if "learned" in plain else SigmoidPriors).from_dict(plain)


def named_priors(name: str, folder: Path | None = None) -> SigmoidPriors:
    """Priors that a command or a manifest names: ``weak``, ``reference``, or a file, relative to `folder`."""
    known = {"weak": SigmoidPriors.weak, "reference": SigmoidPriors.reference}
    if name in known:
        return known[name]()
    file = Path(folder or "") / name
    if not file.is_file():
        raise DataError(f"{name!r} names no priors: it is neither {listing(known)} nor a file ({file}); correct it.")
    return load_priors(file)


def load_priors(path: str | Path) -> LearnedPriors:
    """Read priors that `LearnedPriors.save` wrote.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    LearnedPriors

    Raises
    ------
    DataError
        If the file cannot be read, or holds no learned priors.

    Examples
    --------
    >>> import rlceiling as rl
    >>> priors = rl.load_priors("history.toml")  # doctest: +SKIP
    """
    try:
        plain = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; give the file of learned priors.") from None
    except RecursionError:
        raise DataError(f"{path} is nested too deeply; give the file of learned priors.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a TOML file ({error}); learn the priors again with rl.learn_priors.") from None
    if plain.get("format") != FORMAT:
        raise DataError(f"{path} holds no learned priors; give a file that `rlceiling priors learn` wrote.")
    try:
        return LearnedPriors.from_dict(plain)
    except (DataError, KeyError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise DataError(f"{path} is damaged ({error}); learn the priors again with rl.learn_priors.") from None
