"""A callback for TRL and for any other trainer of Hugging Face transformers (``pip install rlceiling[trl]``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from rlceiling.errors import DataError

try:
    from transformers import TrainerCallback
except ImportError:
    raise DataError(
        "rlceiling.integrations.trl needs the package transformers; install it with `pip install rlceiling[trl]`."
    ) from None

from rlceiling.live.loop_gate import Gate
from rlceiling.live.refits import Decision
from rlceiling.text import as_typed

log = logging.getLogger("rlceiling")

HOURS, STEPS = "hours", "steps"


class CeilingCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Ask a `rlceiling.Gate` after each evaluation, log its decision, and stop the training if that is wanted.

    Parameters
    ----------
    gate : Gate
        The gate; its `add` is in the unit of `compute`.
    metric : str, default "eval_reward"
        Key of the reward among the metrics of an evaluation.
    compute : {"steps", "hours"} or callable, default "steps"
        What counts as compute: the steps of the optimiser, the hours since the training began (multiplied by `gpus`),
        or a function of the trainer's state that returns a number.
    gpus : int, default 1
        Number of GPUs, by which hours are multiplied.
    stop_training : bool, default False
        Whether ``stop`` ends the training. By default it is only logged. Every process of a distributed training asks
        its own gate; with ``compute="hours"``, which differ between processes, only a single process is stopped.

    Attributes
    ----------
    decisions : list of Decision
        Decisions so far.

    Examples
    --------
    >>> from rlceiling.integrations.trl import CeilingCallback  # doctest: +SKIP
    >>> trainer = GRPOTrainer(..., callbacks=[CeilingCallback(rl.Gate(add=200, gain=0.01))])  # doctest: +SKIP
    """

    def __init__(
        self,
        gate: Gate,
        *,
        metric: str = "eval_reward",
        compute: str | Callable[[Any], float] = STEPS,
        gpus: int = 1,
        stop_training: bool = False,
    ) -> None:
        if not callable(compute) and compute not in (STEPS, HOURS):
            raise DataError(f"CeilingCallback: compute={compute!r} is neither 'steps', 'hours' nor a function.")
        if gpus < 1:
            raise DataError(f"CeilingCallback: gpus={gpus!r} is not a number of GPUs; give 1 or more.")
        self.gate, self.metric, self.compute = gate, metric, compute
        self.gpus, self.stop_training = gpus, stop_training
        self.began = time.monotonic()
        self._missed = False

    @property
    def decisions(self) -> list[Decision]:
        """Decisions so far."""
        return self.gate.decisions

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin to count the hours."""
        self.began = time.monotonic()

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        """Ask the gate; never raises."""
        if not metrics or self.metric not in metrics:
            if not self._missed:
                known = ", ".join(sorted(metrics or {})) or "none"
                log.warning("rlceiling: an evaluation has no metric %r; it has: %s", self.metric, known)
            self._missed = True
            return
        try:
            compute = self._compute(state)
        except Exception as error:
            log.warning("rlceiling: compute could not be read: %s", error)
            return
        decision = self.gate.update(compute, metrics[self.metric])
        low, middle, high = decision.ceiling
        ceiling = (
            "" if not decision.verdict else f"; ceiling {middle:.3f} ({low:.3f} to {high:.3f}, {decision.verdict})"
        )
        log.info("rlceiling at %s: %s, %s%s", as_typed(compute), decision.action, decision.why, ceiling)
        alone = self.compute != HOURS or getattr(args, "world_size", 1) == 1
        if decision.stop and self.stop_training and alone:
            control.should_training_stop = True

    def _compute(self, state: Any) -> float:
        if callable(self.compute):
            return float(self.compute(state))
        if self.compute == HOURS:
            return self.gpus * (time.monotonic() - self.began) / 3600.0
        return float(state.global_step)
