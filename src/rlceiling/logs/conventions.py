"""Keys of trainers: which hold evaluations of held-out prompts, which training rewards, and which resources.

The keys are those of TRL, verl, OpenRLHF, prime-rl, slime, ROLL, SkyRL, NeMo-RL and tinker-cookbook in 2026, and
older ones where they are known. They are the same in every tracker to which these trainers log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlceiling.errors import count
from rlceiling.logs.rows import Rows


class HeldOut(NamedTuple):
    """Keys of one kind of evaluation of held-out prompts.

    Attributes
    ----------
    keys : Pattern
        Matches the whole key. The group `n` is the number of answers per prompt of which the value is the mean.
    before : bool
        Whether the evaluation at a step is made before the step, so that the resources of the step do not count.
    aggregate : Pattern or None
        Matches the key that is the mean over several data sets, which is redundant if there is one data set.
    """

    keys: re.Pattern[str]
    before: bool = False
    aggregate: re.Pattern[str] | None = None


_EACH = r"[^\0]+?"
_WORD = r"(?:val|valid|validation|eval|evaluation|test|heldout|held_out|holdout)"
_SCORE = (
    r"(?:acc|accuracy|reward|mean_reward|reward_mean|score|mean_score|score_mean|avg_score|pass_rate|success|success_rate"
    r"|solve_rate|win_rate|correct|exact_match|em|pass@1|pass_at_1|pass1|return|mean_return|episodic_return"
    r"|episode_return|episode_return_mean|episode_reward|episode_reward_mean)"
)


def _keys(pattern: str, *, before: bool = False, aggregate: str | None = None) -> HeldOut:
    return HeldOut(re.compile(pattern), before, re.compile(aggregate) if aggregate else None)


HELD_OUT = (
    _keys(rf"val-core/{_EACH}/(?:acc|reward)/mean@(?P<n>\d+)"),
    _keys(rf"val-core/{_EACH}/(?:acc|reward)/(?:best|maj)@\d+/mean"),
    _keys(rf"val/test_score/{_EACH}"),
    _keys(rf"eval/{_EACH}/effective/{_EACH}/avg@(?P<n>\d+)", before=True),
    _keys(rf"eval/{_EACH}/all/{_EACH}/avg@(?P<n>\d+)", before=True),
    _keys(rf"eval/{_EACH}/avg@(?P<n>\d+)", before=True),
    _keys(rf"eval/{_EACH}/avg_score", aggregate=r"eval/all/avg_score"),
    _keys(rf"(?:eval/)?eval_{_EACH}_pass1"),
    _keys(r"validation/accuracy"),
    _keys(rf"val_correct/{_EACH}/mean", aggregate=r"val_correct/all/mean", before=True),
    _keys(
        rf"val_score/{_EACH}/mean|val(?:/{_EACH})?/score/mean",
        aggregate=r"val/score/mean|val_score/all/mean",
        before=True,
    ),
    _keys(r"test/env/all/correct", before=True),
    _keys(r"test/env/all/reward/total", before=True),
    _keys(rf"eval_rewards/{_EACH}/mean|eval/rewards/{_EACH}/mean"),
    _keys(rf"eval_{_EACH}_rewards/{_EACH}/mean"),
    _keys(r"eval_rewards/[^/\0]+"),
    _keys(r"eval_reward|eval/reward"),
    _keys(r"eval_[^/\0]+_reward"),
    _keys(r"val_reward"),
    _keys(rf"val/(?:{_EACH}/)?(?:acc|score)"),
    _keys(rf"eval/{_EACH}/effective/reward", before=True),
    _keys(rf"eval/{_EACH}/all/reward", before=True),
)
"""Held-out evaluations, in the order in which they are looked for."""

SLIME = re.compile(r"rollout/raw_reward|rollout/rewards|rollout/step|passrate/pass@\d+")
SLIME_EVAL = _keys(r"eval/(?!.*-(?:truncated_ratio|pass@\d+)$)[^/\0]+")
"""slime's ``eval/{dataset}``, which only the keys of its rollouts distinguish from those of others."""

GENERIC = re.compile(rf"(?:.*[/_-])?{_WORD}[/_-](?:.*[/_-])?{_SCORE}(?:[/_]mean)?|.*[/_]{_SCORE}[/_]{_WORD}")
"""Evaluations of other trainers: a word such as eval or test, and a word such as accuracy or reward."""

OTHER = re.compile(
    r".*(?:loss|kl|entropy|length|clip|ratio|runtime|per_second|tokens|time|std|stderr|/min|/max|variance|grad|lr"
    r"|learning_rate|truncated|response_len).*"
)
"""Keys that name no reward, although they stand beside evaluations."""

TRAINING = re.compile(
    r"(?:train/)?reward|(?:train/)?rewards/[^\0]+?(?:/mean)?|critic/(?:score|rewards)/mean|train/agg/[^\0]+?/reward/mean"
    r"|train/[^\0]+?/reward/mean|reward/mean|rollout/raw_reward|rollout/rewards|rollout/ep_rew_mean|reward/avg_raw_reward"
    r"|reward/avg_pass_at_\d+|env/all/reward/total|env/all/correct|charts/episodic_return|train/accuracy|score|acc"
    r"|env_runners/episode_return_mean|episode_reward_mean|train/mean_reward"
)
"""Rewards of training prompts, which are used on request only."""

BEFORE_UPDATE = re.compile(r"critic/(?:score|rewards)/mean")
"""Training rewards of verl: at step k they come from the weights after k - 1 updates."""

ANSWERS = re.compile(r"(?:mean|avg)@(\d+)")
SINGLE = re.compile(r"(?:best|maj|pass)@\d+|pass_at_\d+|pass1|pass\^\d+")


class Resource(NamedTuple):
    """A resource that a log counts.

    Attributes
    ----------
    name : str
        Its name, as `compute` of `read_log`: "gpu_hours", "wall_hours", "tokens", "rollouts".
    keys : tuple of str
        The key that holds it, or two keys of which the first is divided by the second.
    each : bool
        Whether a value is that of one step, so that values are summed; otherwise it is counted from the beginning.
    unit : float
        Factor by which values are multiplied.
    """

    name: str
    keys: tuple[str, ...]
    each: bool
    unit: float = 1.0


HOUR = 1.0 / 3600.0
STEP_SECONDS = (
    *("timing_s/step", "step_time", "train/step_time", "timing/train/total_step_time", "train/timing/step_total"),
    "timing/step_total",
    *("timing/step", "time/step", "time/total", "perf/step_time", "time/step_total"),
)
SECONDS = ("_runtime", "time/time_elapsed", "time_total_s", "progress/time_elapsed")
TOKENS = (
    "num_tokens",
    "train/num_tokens",
    "progress/total_tokens",
    "num_input_tokens_seen",
    "train/num_input_tokens_seen",
)
STEP_TOKENS = ("perf/total_num_tokens", "train/total_num_tokens", "env/all/total_ac_tokens", "progress/tokens")
ROLLOUTS = ("progress/total_rollouts", "system/samples", "consumed_samples")
STEP_ROLLOUTS = ("progress/rollouts", "env/all/total_episodes", "total_episodes")

RESOURCES = (
    *(Resource(name, (name,), False) for name in ("gpu_hours", "wall_hours")),
    Resource("gpu_hours", ("perf/total_num_tokens", "perf/throughput"), True, HOUR),
    Resource("gpu_hours", ("train/global_valid_toks", "timing/train/valid_tokens_per_sec_per_gpu"), True, HOUR),
    *(Resource("wall_hours", (key,), True, HOUR) for key in STEP_SECONDS),
    *(Resource("wall_hours", (key,), False, HOUR) for key in SECONDS),
    *(Resource("tokens", (key,), False) for key in TOKENS),
    *(Resource("tokens", (key,), True) for key in STEP_TOKENS),
    *(Resource("rollouts", (key,), False) for key in ROLLOUTS),
    *(Resource("rollouts", (key,), True) for key in STEP_ROLLOUTS),
)
"""Resources in the order in which they are looked for; the time at which rows were logged follows the wall times."""

STEP_KEYS = (
    *("rollout/step", "eval/step", "train/global_step", "eval/global_step", "trainer/global_step"),
    *("training/global_step", "global_step", "step", "_step", "training_iteration"),
)
"""Keys of the step, in the order in which they are looked for in a row."""

NOT_METRICS = frozenset(
    {
        *STEP_KEYS,
        *("train/step", "_timestamp", "timestamp", "_runtime", "epoch", "train/epoch", "training/epoch", "time"),
    }
)
"""Keys of every row, whatever it is about."""


LONGEST_KEY = 300
"""Characters of a key; a longer one is no name of a metric."""


def is_metric_key(key: str) -> bool:
    """Whether a key looks like one of a trainer rather than like a column of a table."""
    return "/" in key or key.startswith(("eval_", "_runtime", "_timestamp"))


def held_out_by_kind(keys: Sequence[str]) -> Iterator[list[str]]:
    """Yield the keys of each kind of held-out evaluation that a log has, in the order in which they are looked for."""
    keys = [key for key in keys if len(key) <= LONGEST_KEY and key not in NOT_METRICS]
    slime = any(SLIME.fullmatch(key) for key in keys)
    for kind in (*HELD_OUT, *([SLIME_EVAL] if slime else [])):
        if found := [key for key in keys if kind.keys.fullmatch(key)]:
            each = [key for key in found if not (kind.aggregate and kind.aggregate.fullmatch(key))]
            yield each if len(each) == 1 else found
    if found := [key for key in keys if GENERIC.fullmatch(key) and not OTHER.fullmatch(key)]:
        yield found


def held_out_keys(keys: Sequence[str]) -> list[str]:
    """Keys of the first kind of held-out evaluation that a log has."""
    return next(held_out_by_kind(keys), [])


def is_evaluation(key: str) -> bool:
    """Whether a key is logged by an evaluation and not by a step of the training."""
    return bool(re.match(rf"(?:timing/)?{_WORD}(?:[-/_]|$)", key)) or key.startswith(("val-", "timing_s/testing"))


def training_keys(keys: Sequence[str]) -> list[str]:
    """Keys of training rewards."""
    return [key for key in keys if len(key) <= LONGEST_KEY and TRAINING.fullmatch(key)]


def evaluated_before(key: str) -> bool:
    """Whether the resources of a step do not count for an evaluation that has its number."""
    return any(kind.before for kind in HELD_OUT if kind.keys.fullmatch(key))


def answers_per_prompt(key: str) -> int | None:
    """Number of answers to each prompt of which a value is the mean, as far as its key has it.

    The best of several answers and their majority are one answer.
    """
    if found := ANSWERS.findall(key):
        return int(found[-1])
    return 1 if SINGLE.search(key) else None


def steps_of_rows(rows: Rows) -> list[str]:
    """Set the step of each row from the keys that trainers log, and return notes.

    A row without such a key has the step of the row before.
    """
    present = [key for key in STEP_KEYS if key in rows]
    if "_step" in present and len(present) > 1:
        present.remove("_step")  # a tracker's count of its own calls
    steps = np.full(len(rows), np.nan)
    for key in reversed(present):
        places, values = rows.series(key)
        steps[places] = values
    known = np.flatnonzero(np.isfinite(steps))
    if not len(known):
        return []
    last = np.maximum.accumulate(np.where(np.isfinite(steps), np.arange(len(steps)), -1))
    steps = np.where(last >= 0, steps[np.maximum(last, 0)], np.nan)
    first = known[0]
    lost = 0
    if first:
        if steps[first] <= 1.0:
            steps[:first] = 0.0
        else:
            lost = int(first)
    rows.set_steps(steps)
    return [f"{count(lost, 'row')} before the first known step were left out"] if lost else []


def slime_steps(rows: Rows) -> list[str]:
    """Count slime's rollouts from 1, as updates that are done, and return notes.

    slime numbers rollouts from 0. Its evaluation 0 is of the untrained model, and evaluation r > 0 is of the model
    after r + 1 rollouts; with an evaluation after every rollout, 0 is logged twice, before and after the first update.
    """
    if not any(SLIME.fullmatch(key) for key in rows.keys):
        return []
    steps = rows.steps
    evaluations = np.zeros(len(steps), dtype=bool)
    for key in rows.keys:
        if SLIME_EVAL.keys.fullmatch(key):
            evaluations[rows.series(key)[0]] = True
    first = np.flatnonzero(evaluations & (steps == 0))[:1]
    shifted = steps + 1.0
    shifted[first] = 0.0
    rows.set_steps(shifted)
    return ["slime counts rollouts from 0: steps are rollouts that are done, evaluation 0 being the untrained model"]


def gaps(steps: NDArray[np.float64]) -> float:
    """Usual distance of the steps of neighbouring rows."""
    distances = np.diff(np.unique(steps[np.isfinite(steps)]))
    return float(np.median(distances)) if len(distances) else 1.0
