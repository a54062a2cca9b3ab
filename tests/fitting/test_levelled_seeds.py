"""Seeds that reach their ceiling within a few evaluations and stay there."""

from __future__ import annotations

import numpy as np
import pandas as pd

import rlceiling as rl
from several import SHORT
from slow import in_miniature_too

SUCCESS = {
    "3": [0.0, 0.1, 0.8, *[1.0] * 18],
    "2": [0.0, 0.0, *[1.0] * 19],
    "1": [*[0.0] * 12, 0.2, *[1.0] * 8],
}
"""Success rates over ten episodes at every 100,000 steps."""


@in_miniature_too
def test_seeds_that_stay_at_a_success_rate_of_1_have_a_ceiling_near_1(full: bool) -> None:
    tables = [
        pd.DataFrame({"seed": seed, "step": 100_000 * np.arange(len(own)), "success": own})
        for seed, own in SUCCESS.items()
    ]
    runs = rl.read_runs(pd.concat(tables).assign(recipe="a"), run="seed", reward="success")
    fit = rl.fit(runs, **({} if full else SHORT), progress=False)["a"]
    assert fit.data.curves is not None
    low, high = np.quantile(fit.draws["A"], [0.05, 0.95])
    assert 0.97 < low < high < 1.0
    if full:
        assert fit.verdict is rl.Verdict.IDENTIFIED
