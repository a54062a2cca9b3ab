"""Mixture of what other recipes teach about a recipe that is like them, and of the mild priors for one that is not.

The parameters form three groups, and a recipe is like the others, or unlike them, in each group as a whole. With the
mild density ``p_k`` and the learned density ``q_k`` of each parameter of a group, and the probability ``w`` that a
recipe is like the others, the prior of the group is

.. math:: w \\prod_k q_k(\\theta_k) + (1 - w) \\prod_k p_k(\\theta_k)

(a robust mixture prior). The start belongs to the group of the curve: recipes of one study begin at the same model, so
that a recipe of another study is recognised by its start long before its ceiling is seen.

References
----------
Schmidli et al., "Robust meta-analytic-predictive priors in clinical trials with historical control information",
Biometrics 2014, doi 10.1111/biom.12242.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro import distributions as dist

GROUPS: Mapping[str, tuple[str, ...]] = {
    "curve": ("R0", "headroom", "B", "C_mid", "tail"),
    "noise": ("sigma", "share", "length"),
    "spread": ("headroom_spread", "C_mid_spread", "B_spread", "sigma_spread"),
}
"""Parameters in which a recipe is like the others, or unlike them, as a whole."""

LOGIT = ("R0", "headroom", "share")
"""Parameters that are learned on the logit scale; the others are learned on the log scale."""

LEARNED, LIKE = "learned {}".format, "like {}".format
"""Names under which the learned distribution of a parameter, and the probability of a group, stand among the priors."""


def coordinate(name: str, value: Any, xp: Any = jnp) -> Any:
    """Logit or logarithm of a parameter, on which its distribution over recipes is learned."""
    return xp.log(value) - xp.log1p(-value) if name in LOGIT else xp.log(value)


def log_slope(name: str, value: Any, xp: Any = jnp) -> Any:
    """Logarithm of the derivative of `coordinate`."""
    return -xp.log(value) - xp.log1p(-value) if name in LOGIT else -xp.log(value)


def log_likeness(
    values: Mapping[str, Array], priors: Mapping[str, Any], log_origin: Any, *, start_known: bool
) -> dict[str, tuple[Array, Array]]:
    """Logarithms of both terms of the mixture, divided by the mild density, for each learned group.

    Parameters
    ----------
    values : mapping of name to Array
        Parameters of the recipe; C_mid is the ratio to its origin.
    priors : mapping of name to distribution
        Mild priors, and under `LEARNED` and `LIKE` what was learned; nothing was learned about other parameters.
    log_origin : scalar
        Logarithm of the origin of C_mid; the logarithm of C_mid itself is learned.
    start_known : bool
        Whether the start was evaluated. Its mild density is then flat, since the evaluation is part of the data.

    Returns
    -------
    dict of str to tuple of Array
        Group -> ``(ln w + sum_k ln q_k - ln p_k, ln (1 - w))``.
    """
    found = {}
    for group, names in GROUPS.items():
        learned = [name for name in names if LEARNED(name) in priors]
        if learned:
            ratio = sum(_log_ratio(name, values[name], priors, log_origin, start_known) for name in learned)
            like = priors[LIKE(group)].probs
            found[group] = jnp.log(like) + ratio, jnp.log1p(-like) + jnp.zeros_like(ratio)
    return found


def _log_ratio(name: str, value: Array, priors: Mapping[str, Any], log_origin: Any, start_known: bool) -> Array:
    """``ln q - ln p`` of one parameter."""
    at = coordinate(name, value) + (log_origin if name == "C_mid" else 0.0)
    mild = 0.0 if name == "R0" and start_known else priors[name].log_prob(value)
    return priors[LEARNED(name)].log_prob(at) + log_slope(name, value) - mild


def add_log_density(name: str, value: Array) -> None:
    """Add a term to the log density of the NumPyro model that calls this."""
    numpyro.sample(name, dist.Unit(value), obs=jnp.zeros((*jnp.shape(value), 0)))


def drawn_priors(priors: Mapping[str, Any], log_origin: Any, like: Mapping[str, Array]) -> dict[str, Any]:
    """Priors from which parameters can be drawn one after the other, given the groups in which a recipe is like others.

    Parameters
    ----------
    priors, log_origin
        As in `log_likeness`.
    like : mapping of str to Array
        For each learned group 1 where a recipe is like the others, and 0 where it is not.
    """
    made = dict(priors)
    for group, of_group in like.items():
        learned = [name for name in GROUPS[group] if LEARNED(name) in priors]
        made |= {name: _Either(name, of_group, priors, log_origin) for name in learned}
    return made


class _Either(dist.Distribution):
    """The learned distribution of a parameter where a recipe is like the others, else the mild prior."""

    def __init__(self, name: str, like: Array, priors: Mapping[str, Any], log_origin: Any) -> None:
        self.name, self.like, self.mild, self.learned = name, like, priors[name], priors[LEARNED(name)]
        self.log_origin = log_origin if name == "C_mid" else 0.0
        super().__init__(batch_shape=jnp.shape(like), event_shape=())

    @property
    def support(self) -> Any:
        """Support of the parameter."""
        return self.mild.support

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw the parameter."""
        shape = sample_shape + self.batch_shape
        learned_key, mild_key = jax.random.split(key)
        at = self.learned.sample(learned_key, shape) - self.log_origin
        learned = jax.nn.sigmoid(at) if self.name in LOGIT else jnp.exp(at)
        return jnp.where(self.like == 1, learned, self.mild.sample(mild_key, shape))

    def log_prob(self, value: Array) -> Array:
        """Log density given the group."""
        at = coordinate(self.name, value) + self.log_origin
        learned = self.learned.log_prob(at) + log_slope(self.name, value)
        return jnp.where(self.like == 1, learned, self.mild.log_prob(value))
