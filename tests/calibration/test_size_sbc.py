"""Simulation-based calibration of the laws across sizes: small here, larger in ``benchmarks/calibration/sizes.py``."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import rlceiling as rl
from rlceiling.calibration.ranks import outside_band
from rlceiling.calibration.size_simulate import simulate_sizes
from rlceiling.fitting.fit_sizes import fit_grouped
from rlceiling.models.size_laws import LAWS
from rlceiling.runs.grouping import group_by_size
from slow import are_ranks, in_miniature_too

SIZES = (0.5, 1.5, 5.0, 15.0, 50.0)
RESOURCE = np.geomspace(1e17, 1e20, 14)
LENIENT = rl.SizeRules(max_r_hat=9, min_ess=0, max_divergences=10**6, min_e_bfmi=0)


class TestSimulation:
    @pytest.mark.parametrize("law", list(LAWS))
    def test_sets_are_what_is_asked_for(self, law: str) -> None:
        (table, truth), (again, _) = (simulate_sizes(1, SIZES, RESOURCE, law, seed=3)[0] for _ in range(2))
        pd.testing.assert_frame_equal(table, again)
        assert table["reward"].between(0.0, 1.0).all()
        assert table.groupby("size").size().to_dict() == dict.fromkeys(SIZES, 14)
        assert set(truth) == {
            *LAWS[law].pooling.sampled,
            *(parameter.name for parameter in LAWS[law].pooling.parameters),
        }

    def test_priors_that_leave_the_bounds_are_refused(self) -> None:
        import numpyro.distributions as dist

        with pytest.raises(rl.DataError, match="drawn from the priors stay between 0 and 1"):
            simulate_sizes(3, SIZES, RESOURCE, priors=rl.PowerLawPriors(sigma=dist.LogNormal(3.0, 0.1)))


@in_miniature_too
def test_truths_rank_uniformly(full: bool) -> None:
    number, settings = (60, {"tune": 500, "draws": 250}) if full else (2, {"tune": 100, "draws": 100, "chains": 2})
    rows = []
    rng = np.random.default_rng(0)
    for table, truth in simulate_sizes(number, SIZES, RESOURCE, seed=1):
        grouped = group_by_size(rl.read_runs(table, compute="resource", recipe="size"), "size", "compute")
        fit = fit_grouped(grouped, **settings, progress=False, rules=LENIENT)
        draws = {name: fit.flat(name)[::10] for name in fit.parameters}
        rows.append({n: (np.sum(v < truth[n]) + rng.uniform()) / (len(v) + 1) for n, v in draws.items()})
    outside = outside_band(pd.DataFrame(rows), 0.99)
    if not full:
        assert are_ranks(pd.DataFrame(rows), number, fit.parameters)
        assert outside.between(0.0, 1.0).all()
        return
    assert outside.max() < 0.05, outside[outside > 0]
