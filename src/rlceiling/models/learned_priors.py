"""`LearnedPriors`: priors learned from other recipes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import tomli_w
from numpyro import distributions as dist
from scipy import stats
from scipy.special import expit

from rlceiling.errors import DataError, count, is_finite, listing
from rlceiling.models.computing import double_precision_on_cpu
from rlceiling.models.likeness import GROUPS, LEARNED, LIKE, LOGIT, log_likeness
from rlceiling.models.priors import Distributions, described, made
from rlceiling.models.recipe_model import SigmoidPriors

FORMAT = "rlceiling learned priors 1"
"""First entry of a file of learned priors."""


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
        Path(path).write_text(tomli_w.dumps({"format": FORMAT} | own), encoding="utf-8")

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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a TOML file ({error}); learn the priors again with rl.learn_priors.") from None
    if plain.get("format") != FORMAT:
        raise DataError(f"{path} holds no learned priors; give a file that `rlceiling priors learn` wrote.")
    try:
        return LearnedPriors.from_dict(plain)
    except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}); learn the priors again with rl.learn_priors.") from None
