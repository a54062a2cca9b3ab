"""The picture of learned priors beside weak ones."""

from __future__ import annotations

import numpy as np
import pytest

import rlceiling as rl
from made_priors import LEARNED, PRIORS
from rlceiling.models.likeness import coordinate


def test_each_learned_prior_has_axes_with_its_density_and_that_of_the_weak_prior() -> None:
    axes = [ax for ax in rl.plot_priors(PRIORS).axes if ax.axison]
    assert [ax.get_xlabel().split()[-1] for ax in axes[1:4]] == ["R0)", "B", "C_mid"]
    assert len(axes) == len(LEARNED)
    for ax, (name, learned) in zip(axes, LEARNED.items(), strict=True):
        (band,) = ax.collections
        at, density = np.array(band.get_paths()[0].vertices).T
        top = at[density.argmax()]
        assert top == pytest.approx(float(learned.loc), abs=0.05 * float(learned.scale) + 0.02), name
        ordered = np.argsort(at[density > 0.0])
        area = np.trapezoid(density[density > 0.0][ordered], at[density > 0.0][ordered])
        assert area == pytest.approx(1.0, abs=0.02), name
        assert len(ax.lines) == (name != "C_mid"), name  # whose weak prior depends on the evaluations


def test_the_weak_prior_is_drawn_on_the_scale_of_the_learned_one() -> None:
    axes = rl.plot_priors(PRIORS).axes
    at, density = axes[list(LEARNED).index("B")].lines[0].get_data()
    assert at[np.argmax(density)] == pytest.approx(float(coordinate("B", 1.7, np)), abs=0.03)  # LogNormal(ln 1.7, .6)
    assert np.max(density) == pytest.approx(1.0 / (0.6 * np.sqrt(2.0 * np.pi)), rel=0.01)


def test_weak_priors_are_refused() -> None:
    with pytest.raises(rl.DataError, match="SigmoidPriors was not learned"):
        rl.plot_priors(rl.SigmoidPriors())  # type: ignore[arg-type]
    with pytest.raises(rl.DataError, match="nothing was learned"):
        rl.plot_priors(rl.LearnedPriors())
