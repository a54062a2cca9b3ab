"""`Gate`: whether the run of a training loop should go on, asked after each evaluation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rlceiling.decisions.gate import GO, MAX_WRONG, STOP, UNKNOWN, check_gate, outlook
from rlceiling.errors import DataError
from rlceiling.fitting.fit_recipes import fit
from rlceiling.models.recipe_priors import SigmoidPriors
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict, VerdictRules
from rlceiling.runs.readers import read_runs
from rlceiling.runs.table import FEWEST
from rlceiling.runs.validation import bounds_of
from rlceiling.text import as_typed, in_words

SAMPLER: dict[str, Any] = {"chains": 2, "tune": 300, "draws": 300}
"""Sampler settings of a refit: some hundred effective draws, in less than a second."""

RULES = VerdictRules(max_r_hat=1.05, min_ess=50.0)
"""Convergence that a decision needs; stricter rules would refit twice as long after many evaluations."""


class Decision(NamedTuple):
    """What a `Gate` says after an evaluation."""

    action: str
    """``"go"``, ``"stop"`` or ``"unknown"``."""
    why: str
    """Reason, one sentence without a full stop."""
    p_gain: float = math.nan
    """Chance that the next compute adds the gain that was asked for; NaN if nothing was fitted."""
    ceiling: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    """Lower limit, median and upper limit of the 90% interval of the ceiling."""
    verdict: str = ""
    """Verdict of the fit, see `rlceiling.Verdict`; empty if nothing was fitted."""
    ceiling_moved: bool = False
    """Whether the median of the ceiling lies outside the 90% interval that the last fit gave."""

    @property
    def stop(self) -> bool:
        """Whether the run should stop."""
        return self.action == STOP


class Gate:
    """Decide after each evaluation of a training loop whether the run should go on.

    After each evaluation the run is fitted again, and ``stop`` is said where the next `add` compute brings the `gain`
    with a probability of at most `max_wrong_stop`, ``go`` where it does so with at least ``1 - max_wrong_go``, and
    otherwise ``unknown`` (see `rlceiling.decisions.gate.gate`). A refit takes less than a second of CPU time; the first
    one compiles for some seconds, unless `rlceiling.use_compile_cache` was called. `update` never raises: input that
    cannot be used, or a fit that fails, is ``unknown`` with the reason.

    Parameters
    ----------
    add : float
        Compute that is asked about, positive, in the unit of the loop.
    gain : float
        Smallest rise of the reward that is worth it, positive.
    first : int, default 8
        Number of evaluations from which a decision is made; at least 4.
    max_wrong_stop, max_wrong_go : float, default 0.1
        Accepted probabilities that a stop, or a go, is wrong.
    reward_bounds : tuple of float or None, default (0, 1)
        As in `rlceiling.read_runs`.
    priors : SigmoidPriors, optional
        Priors, such as those that `rlceiling.learn_priors` learned from earlier runs.
    name : str, default "run"
        Name of the run, in messages.
    seed : int, default 0
        Seed of the refits.

    Raises
    ------
    DataError
        If an argument is invalid; only here, before the training begins.

    Examples
    --------
    >>> import rlceiling as rl
    >>> gate = rl.Gate(add=200, gain=0.01)
    >>> gate.update(100, 0.41).action
    'unknown'
    """

    def __init__(
        self,
        add: float,
        gain: float,
        *,
        first: int = 8,
        max_wrong_stop: float = MAX_WRONG,
        max_wrong_go: float = MAX_WRONG,
        reward_bounds: tuple[float, float] | None = (0.0, 1.0),
        priors: SigmoidPriors | None = None,
        name: str = "run",
        seed: int = 0,
    ) -> None:
        check_gate(add, gain, max_wrong_stop, max_wrong_go)
        if not (isinstance(first, int | np.integer) and first >= FEWEST):
            raise DataError(f"Gate: first={first!r} is not a number of evaluations from {FEWEST} up; give one.")
        if not isinstance(seed, int | np.integer):
            raise DataError(f"Gate: seed={seed!r} is not a whole number; give one.")
        if priors is not None and not isinstance(priors, SigmoidPriors):
            raise DataError(f"Gate: priors are of type {type(priors).__name__}; give SigmoidPriors.")
        if reward_bounds is not None:
            bounds_of(reward_bounds)
        self.add, self.gain, self.first = add, gain, first
        self.max_wrong_stop, self.max_wrong_go = max_wrong_stop, max_wrong_go
        self.reward_bounds, self.priors, self.name, self.seed = reward_bounds, priors, name, int(seed)
        self.evaluations: list[tuple[float, float, float]] = []
        self.decisions: list[Decision] = []
        self.fit: Fit | None = None

    def update(self, compute: float, reward: float, n_eval: float | None = None) -> Decision:
        """Add an evaluation and decide.

        Parameters
        ----------
        compute : float
            Compute so far, larger than at the last evaluation; 0 for the evaluation before training.
        reward : float
            Reward of the evaluation.
        n_eval : float, optional
            Number of answers that the reward is the mean of.

        Returns
        -------
        Decision
        """
        try:
            decision = self._decide(float(compute), float(reward), math.nan if n_eval is None else float(n_eval))
        except Exception as error:
            decision = Decision(UNKNOWN, str(error).rstrip(".") or type(error).__name__)
        self.decisions.append(decision)
        return decision

    def _decide(self, compute: float, reward: float, n_eval: float) -> Decision:
        before = self.evaluations[-1][0] if self.evaluations else -math.inf
        if not (compute >= 0.0 and before < compute < math.inf):
            raise DataError(f"compute {as_typed(compute)} does not go on from {as_typed(max(before, 0.0))}; not used")
        low, high = self.reward_bounds or (-math.inf, math.inf)
        if not (math.isfinite(reward) and low <= reward <= high):
            raise DataError(f"the reward {reward:g} is not a number from {low:g} to {high:g}; not used")
        evaluations = [*self.evaluations, (compute, reward, n_eval)]
        table = pd.DataFrame(evaluations, columns=["compute", "reward", "n_eval"]).assign(recipe=self.name)
        if table["n_eval"].isna().all():
            table = table.drop(columns="n_eval")
        runs = read_runs(table, compute="compute", reward="reward", recipe="recipe", reward_bounds=self.reward_bounds)
        self.evaluations = evaluations
        number_of = int((table["compute"] > 0.0).sum())
        if number_of < self.first:
            return Decision(UNKNOWN, f"{number_of} of the {self.first} evaluations that a decision needs")
        (found,) = fit(
            runs, self.priors, **SAMPLER, seed=self.seed, rules=RULES, cores=1, backend="cpu", progress=False
        ).values()
        previous, self.fit = self.fit, found
        ceiling = found.interval("A")
        moved = previous is not None and not previous.interval("A")[0] <= ceiling[1] <= previous.interval("A")[2]
        said = Decision(UNKNOWN, found.reason, math.nan, ceiling, found.verdict.name, moved)
        if found.verdict in (Verdict.NOT_CONVERGED, Verdict.NOT_A_SIGMOID):
            return said
        p = outlook(found, found.run_names[0], self.add, self.gain).p_gain
        action = STOP if p <= self.max_wrong_stop else GO if p >= 1.0 - self.max_wrong_go else UNKNOWN
        why = f"chance {in_words(p)} that {as_typed(self.add)} more compute add {self.gain:g}"
        return said._replace(action=action, why=why, p_gain=p)

    def __repr__(self) -> str:
        said = self.decisions[-1] if self.decisions else Decision(UNKNOWN, "no evaluation yet")
        return f"Gate(add={self.add:g}, gain={self.gain:g}): {said.action}, {said.why}"
