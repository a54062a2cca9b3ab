"""`Gate`: whether the run of a training loop should go on, asked after each evaluation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from rlceiling.decisions.gate import MAX_WRONG, UNKNOWN
from rlceiling.errors import DataError
from rlceiling.live.refits import Decision, GateRule, Interval, decision_of, has_moved, known_ceiling, refit
from rlceiling.models.recipe_priors import SigmoidPriors
from rlceiling.posterior.fit import Fit
from rlceiling.runs.readers import read_runs
from rlceiling.runs.validation import bounds_of
from rlceiling.settings import LIVE_FIRST, LIVE_SAMPLER
from rlceiling.text import as_typed


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
        first: int = LIVE_FIRST,
        max_wrong_stop: float = MAX_WRONG,
        max_wrong_go: float = MAX_WRONG,
        reward_bounds: tuple[float, float] | None = (0.0, 1.0),
        priors: SigmoidPriors | None = None,
        name: str = "run",
        seed: int = 0,
    ) -> None:
        self.rule = GateRule(add, gain, first, max_wrong_stop, max_wrong_go)
        self.rule.check("Gate")
        if not isinstance(seed, int | np.integer):
            raise DataError(f"Gate: seed={seed!r} is not a whole number; give one.")
        if priors is not None and not isinstance(priors, SigmoidPriors):
            raise DataError(f"Gate: priors are of type {type(priors).__name__}; give SigmoidPriors.")
        if reward_bounds is not None:
            bounds_of(reward_bounds)
        self.reward_bounds, self.priors, self.name, self.seed = reward_bounds, priors, name, int(seed)
        self.evaluations: list[tuple[float, float, float]] = []
        self.decisions: list[Decision] = []
        self.fit: Fit | None = None
        self._ceiling: Interval | None = None

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
        if few := self.rule.too_few(number_of):
            return Decision(UNKNOWN, few)
        self.fit = found = refit(runs, self.priors, replace(LIVE_SAMPLER, seed=self.seed))
        ceiling = known_ceiling(found)
        moved = has_moved(self._ceiling, ceiling)
        self._ceiling = ceiling or self._ceiling
        return decision_of(found, found.run_names[0], self.rule)._replace(ceiling_moved=moved)

    def __repr__(self) -> str:
        said = self.decisions[-1] if self.decisions else Decision(UNKNOWN, "no evaluation yet")
        return f"Gate(add={self.rule.add:g}, gain={self.rule.gain:g}): {said.action}, {said.why}"
