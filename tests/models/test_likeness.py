"""The mixture of learned and mild priors: its density, draws from it, and what it does to a posterior."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import expit, logit

import rlceiling as rl
from made_priors import LEARNED, PRIORS
from rlceiling.models.likeness import log_likeness
from rlceiling.models.prior_draws import prior_draws
from rlceiling.models.recipe_data import prepare
from rlceiling.runs import Run

LOG_ORIGIN = float(np.log(2000.0))


def of(name: str) -> stats.rv_continuous:
    one = LEARNED[name]
    return stats.t(float(one.df), float(one.loc), float(one.scale))


def density(name: str, value: float) -> float:
    """Learned density of a parameter, by SciPy."""
    if name in ("R0", "headroom", "share"):
        return float(of(name).pdf(logit(value)) / (value * (1.0 - value)))
    at = np.log(value) + (LOG_ORIGIN if name == "C_mid" else 0.0)
    return float(of(name).pdf(at) / value)


MILD = {
    "R0": stats.uniform(0, 1),
    "headroom": stats.beta(1.5, 1.5),
    "B": stats.lognorm(0.6, scale=1.7),
    "C_mid": stats.lognorm(2.0),
    "tail": stats.lognorm(1.0),
    "sigma": stats.halfnorm(scale=0.02),
    "share": stats.beta(2.0, 1.0),
    "length": stats.lognorm(1.0, scale=0.5),
}
VALUES = {
    "R0": 0.42,
    "headroom": 0.25,
    "B": 2.1,
    "C_mid": 1.3,
    "tail": 0.7,
    "sigma": 0.006,
    "share": 0.9,
    "length": 0.4,
}
GROUPS = {"curve": ("R0", "headroom", "B", "C_mid", "tail"), "noise": ("sigma", "share", "length")}


@pytest.mark.parametrize("start_known", [True, False])
def test_the_mixture_has_the_stated_density(start_known: bool) -> None:
    with jax.enable_x64(True):
        terms = log_likeness(VALUES, dict(PRIORS.distributions()), LOG_ORIGIN, start_known=start_known)
    for group, names in GROUPS.items():
        mild = np.prod([1.0 if n == "R0" and start_known else MILD[n].pdf(VALUES[n]) for n in names])
        learned = np.prod([density(n, VALUES[n]) for n in names])
        w = PRIORS.like[group]
        expected = (w * learned + (1.0 - w) * mild) / mild
        assert float(np.logaddexp(*terms[group])) == pytest.approx(np.log(expected), rel=1e-6)


@pytest.mark.parametrize("name", ["headroom", "B", "C_mid", "sigma"])
def test_the_mixture_of_one_parameter_integrates_to_one(name: str) -> None:
    group = "noise" if name == "sigma" else "curve"
    priors = replace(PRIORS, learned={name: LEARNED[name]}, like={group: 0.8})

    u = np.linspace(-12.0, 12.0, 2001)
    value = expit(u) if name == "headroom" else np.exp(u)
    slope = value * (1.0 - value) if name == "headroom" else value
    with jax.enable_x64(True):
        priors_by_name = dict(priors.distributions())
        (terms,) = log_likeness({name: value}, priors_by_name, LOG_ORIGIN, start_known=True).values()
        mild = np.asarray(priors_by_name[name].log_prob(value))
    prior = np.exp(np.logaddexp(*map(np.asarray, terms)) + mild) * slope
    assert integrate.simpson(prior, x=u) == pytest.approx(1.0, abs=3e-3)


def test_draws_follow_the_mixture_and_a_group_is_like_the_others_as_a_whole() -> None:
    recipe = prepare(
        [Run("a", "0", np.geomspace(300.0, 9000.0, 8), np.full(8, 0.5), np.full(8, np.nan), None)], evaluation_error=0.5
    )
    draws = prior_draws(recipe, PRIORS, 6000)
    for name in ("headroom", "B", "sigma", "length"):
        w = PRIORS.like["noise" if name in GROUPS["noise"] else "curve"]
        at = logit(draws[name]) if name == "headroom" else np.log(draws[name])

        def cdf(value: np.ndarray, name: str = name, w: float = w, at: np.ndarray = at) -> np.ndarray:
            own = logit(value) if name == "headroom" else np.log(value)
            return w * of(name).cdf(own) + (1.0 - w) * MILD[name].cdf(value)

        assert stats.kstest(draws[name], cdf).pvalue > 1e-3, name
    # A start far from the learned one shows that a recipe is unlike the others, also in its efficiency.
    unlike = np.abs(logit(draws["R0"]) - logit(0.4)) > 1.5
    assert stats.kstest(draws["B"][unlike], MILD["B"].cdf).pvalue > 1e-3
    assert stats.kstest(draws["B"], MILD["B"].cdf).pvalue < 1e-6
    plain = prior_draws(recipe, rl.SigmoidPriors(), 500)
    assert set(plain) == set(draws)
    mild = prior_draws(recipe, replace(PRIORS, like={"curve": 1e-9, "noise": 1e-9}), 500)
    assert np.allclose(mild["B"].mean(), plain["B"].mean(), rtol=0.2)
