"""Learned priors made by hand, for tests of what is done with them."""

from __future__ import annotations

import numpy as np
import numpyro.distributions as dist
from scipy.special import logit

import rlceiling as rl

LEARNED = {
    "R0": dist.StudentT(5.0, float(logit(0.4)), 0.1),
    "headroom": dist.StudentT(6.0, float(logit(0.3)), 0.5),
    "B": dist.StudentT(8.0, float(np.log(1.9)), 0.3),
    "C_mid": dist.StudentT(5.0, float(np.log(3000.0)), 0.8),
    "tail": dist.StudentT(9.0, -0.2, 0.6),
    "sigma": dist.StudentT(7.0, float(np.log(0.005)), 0.4),
    "share": dist.StudentT(5.0, 2.0, 0.8),
    "length": dist.StudentT(5.0, float(np.log(0.5)), 0.5),
}
PRIORS = rl.LearnedPriors(learned=LEARNED, like={"curve": 0.8, "noise": 0.7}, compute="gpu_hours", recipes=("x", "y"))
