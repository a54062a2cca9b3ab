"""Columns of a table: which one is the compute, the reward, the recipe and so on."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from rlceiling.errors import DataError, listing, unknown_name
from rlceiling.runs.cells import is_missing
from rlceiling.text import shortened

OBVIOUS = {
    "compute": (
        *("compute", "gpu_hours", "gpu_seconds", "flops", "wall_hours", "hours", "seconds"),
        *("samples", "tokens", "episodes", "steps", "step", "iteration"),
    ),
    "reward": ("reward", "pass_rate", "accuracy", "score", "mean_reward", "success_rate"),
    "recipe": ("recipe", "method", "config", "experiment", "name"),
    "run": ("run", "seed", "run_id"),
    "n_eval": ("n_eval", "n_samples", "eval_size"),
    "stage": ("stage", "training_stage"),
}
"""Unambiguous column names, in lower case."""

ALSO = {
    "compute": (
        *("global_step", "train/global_step", "trainer/global_step", "_step", "training_step", "optimizer_step"),
        *("env_steps", "total_steps", "timesteps", "total_timesteps", "num_timesteps", "frame", "frames", "rollouts"),
        *("num_tokens", "iter", "iterations", "epoch", "gpu-hours", "gpu hours", "wall_time", "time"),
    ),
    "reward": (
        *("acc", "val/acc", "eval/acc", "test/acc", "val_acc", "eval_acc", "test_acc", "pass@1", "pass_at_1"),
        *("val/accuracy", "eval/accuracy", "test/accuracy", "eval_accuracy", "val_accuracy", "validation_accuracy"),
        *("test_accuracy", "validation/accuracy", "success", "eval_reward", "eval/reward", "eval/mean_reward"),
        *("episode_reward", "episode_reward_mean", "episodic_return", "episode_return", "return", "mean_return"),
        *("eval_score", "test_score", "value", "solve_rate", "win_rate", "em", "exact_match"),
    ),
    "recipe": ("algorithm", "algo", "variant", "recipe_name", "experiment_name"),
    "run": ("run_name", "random_seed", "replicate", "trial"),
    "n_eval": ("num_samples", "n_rollouts", "num_eval"),
    "stage": (),
}
"""Names that are looked for if no column has one of the unambiguous names."""

_OF_OTHERS = frozenset(name for of in (OBVIOUS, ALSO) for role in of if role != "reward" for name in of[role])
"""Names of columns that are not the reward, even where no other column holds numbers."""

FEWEST_GUESSED = 4
"""Rows of a table of two columns without known names from which the ascending column is taken for the compute."""


def find_columns(raw: pd.DataFrame, source: str, asked: dict[str, str | None]) -> tuple[dict[str, str], list[str]]:
    """Return the user's column for each role that has one, and notes on guesses."""
    held = list(raw.columns)
    if len(held) > 1 and all(_is_number(c) for c in held):
        raise DataError(
            f"{source} has no names of columns: its first line holds numbers, {listing(held, 4)}; write a line with a "
            "name for each column above it."
        )
    found = {role: column for role, column in asked.items() if column is not None}
    for role, column in found.items():
        if column not in held:
            raise unknown_name(source, "column", str(column), held)
        if held.count(column) > 1:
            raise DataError(f"{source} has {held.count(column)} columns {column!r}; rename all but one.")
        twin = next(other for other, its in found.items() if its == column)
        if twin != role:
            raise DataError(f"{source}: column {column!r} cannot be both {twin} and {role}; name two columns.")
    guessed = []
    if "compute" not in found and "reward" not in found and (pair := _two_columns(raw)):
        found |= pair
        guessed += [f"{role}={column}" for role, column in pair.items()]
    for role in (role for role in asked if role not in found):
        free = [c for c in held if c not in found.values()]
        likely = [c for c in free if str(c).strip().lower() in OBVIOUS[role]]
        likely = likely or [c for c in free if str(c).strip().lower() in ALSO[role]]
        if len(likely) > 1:
            raise DataError(
                f"{source} has {len(likely)} columns that could be the {role}: {listing(likely)};"
                f' name one with {role}="{likely[0]}" (command line: {_option(role)} {likely[0]}).'
            )
        if likely:
            found[role] = likely[0]
            guessed.append(f"{role}={likely[0]}")
        elif role == "reward" and (only := _only_numbers(raw, free)) and only.strip().lower() not in _OF_OTHERS:
            found[role] = only
            guessed.append(f"{role}={only}")
        elif role in ("compute", "reward"):
            raise DataError(
                f"{source} has no column with an obvious name for the {role}, such as {OBVIOUS[role][1]};"
                f' name one with {role}="..." (command line: {_option(role)} ...);'
                f" it has: {listing(shortened(str(c), 100) for c in held)}{_wide_hint(raw, role, found)}."
            )
    return found, [f"columns guessed: {', '.join(guessed)}"] if guessed else []


def _only_numbers(raw: pd.DataFrame, free: Sequence[str]) -> str | None:
    """The only column without a role whose cells are numbers; None if there are several, or few rows."""
    if len(raw) < FEWEST_GUESSED:
        return None
    numeric = [column for column in free if list(raw.columns).count(column) == 1 and _begin_with_digits(raw[column])]
    return numeric[0] if len(numeric) == 1 else None


def _begin_with_digits(cells: pd.Series) -> bool:
    """Whether all cells that hold something begin like a number, and some cell does."""
    texts = cells[~is_missing(cells)].astype(str).str.strip()
    return bool(len(texts)) and bool(texts.str.match(r"[+-]?\.?\d").all())


def _is_number(name: object) -> bool:
    """Whether the name of a column is a number, as in a file whose first line is no header."""
    return isinstance(name, str) and bool(re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", name))


def _two_columns(raw: pd.DataFrame) -> dict[str, str]:
    """Compute and reward of a table of two columns of which neither has a known name; empty if they are not clear."""
    held = list(raw.columns)
    known = {name for names in (OBVIOUS, ALSO) for role in ("compute", "reward") for name in names[role]}
    if len(held) != 2 or len(raw) < FEWEST_GUESSED or any(str(c).strip().lower() in known for c in held):
        return {}
    values = pd.to_numeric(raw[held[0]].astype(str).str.replace(r"[.,]", "", regex=True), errors="coerce")
    ascends = bool((np.diff(values) > 0).all())
    return {"compute": held[0], "reward": held[1]} if ascends else {}


def _wide_hint(raw: pd.DataFrame, role: str, found: dict[str, str]) -> str:
    """Advice for a table with one column per recipe or seed."""
    others = [str(c) for c in raw.columns if c not in found.values() and _begin_with_digits(raw[c])]
    if role != "reward" or "compute" not in found or len(others) < 2:
        return ""
    numbered = Counter(m[1] for name in others if (m := re.fullmatch(r"(.*\D)\d+", name)))
    prefix, size = numbered.most_common(1)[0] if numbered else ("", 0)
    pattern, which = (f"{prefix}*", f"the columns {prefix}*") if size > 1 else ("*", "these columns")
    if pattern == "*" and len(others) < sum(c not in found.values() for c in raw.columns):
        return ""
    given = f'wide="{pattern}" (command line: --wide "{pattern}")'
    return f"; if each of {which} is a recipe or a run of its own, give {given}"


def _option(role: str) -> str:
    return "--" + role.replace("_", "-")


def keep_where(raw: pd.DataFrame, where: Sequence[str], source: str) -> tuple[pd.DataFrame, list[str]]:
    """Keep the rows whose cells equal those that are asked for, such as ``metric=mean@8``.

    Raises
    ------
    DataError
        If a condition has no ``=``, or if no column or no cell has such a name.
    """
    notes = []
    for condition in where:
        columns = [c for c in raw.columns if str(condition).startswith(f"{c}=")]
        if not columns:
            if "=" not in str(condition):
                raise DataError(f"where: {condition!r} has no =; write column=value, such as metric=mean@8.")
            raise unknown_name(source, "column", str(condition).split("=", 1)[0], raw.columns)
        column = max(columns, key=lambda c: len(str(c)))
        value = str(condition)[len(str(column)) + 1 :].strip()
        cells = raw[column].astype(str).str.strip()
        same = cells == value
        if not same.any():
            raise unknown_name(f"{source}, column {column!r},", "value", value, cells.unique())
        notes.append(f"where: kept {int(same.sum()):,} of {len(raw):,} rows with {column}={value}")
        raw = raw[same]
    return raw, notes


def join_columns(raw: pd.DataFrame, names: str | Sequence[str] | None) -> tuple[pd.DataFrame, str | None]:
    """Make one column of several that name a recipe or a run together: ``recipe="domain,agent"``."""
    if names is None or (isinstance(names, str) and names in raw.columns):
        return raw, names
    parts = [part.strip() for part in names.split(",")] if isinstance(names, str) else [str(part) for part in names]
    if len(parts) < 2 or not set(parts) <= set(raw.columns):
        return raw, parts[0] if len(parts) == 1 else str(names)
    joined = raw[parts[0]].astype(str).str.strip()
    for part in parts[1:]:
        joined = joined + "/" + raw[part].astype(str).str.strip()
    label = ",".join(parts)
    return raw.assign(**{label: joined}), label


def melt(raw: pd.DataFrame, wide: str, asked: dict[str, str | None], source: str) -> tuple[pd.DataFrame, list[str]]:
    """Give each cell of several columns a row of its own, in a table with one column per recipe or run.

    Parameters
    ----------
    raw : DataFrame
        The cells.
    wide : str
        Names or patterns of the columns, separated by commas: ``"*"``, ``"seed_*"``, ``"GRPO,DAPO"``.
    asked : dict
        Columns of the roles that the user named; completed by those of the new columns.
    source : str
        Name of the data in messages.
    """
    roles = [column for column in asked.values() if column is not None]
    if asked["compute"] is None:
        of_compute = [c for c in raw.columns if str(c).strip().lower() in (*OBVIOUS["compute"], *ALSO["compute"])]
        first = [c for c in of_compute if str(c).strip().lower() in OBVIOUS["compute"]] or of_compute
        compute = first[0] if first else str(raw.columns[0])
        asked["compute"] = compute
        roles.append(compute)
    patterns = [part.strip() for part in wide.split(",")]
    columns = [c for c in raw.columns if c not in roles and any(fnmatch.fnmatchcase(str(c), p) for p in patterns)]
    if not columns:
        raise unknown_name(source, "column", wide, raw.columns)
    named = asked["recipe"] is not None
    label = "run" if named else "recipe"
    label = label if label not in raw.columns else f"{label} column"
    value = asked["reward"] or "reward"
    others = [c for c in raw.columns if c not in columns and c != value]
    pieces = [raw[others].assign(**{label: str(column).strip()}) for column in columns]
    long = pd.concat(pieces)
    long[value] = pd.concat([raw[column] for column in columns]).to_numpy()
    asked["reward"], asked["run" if named else "recipe"] = value, label
    each = "run" if named else "recipe"
    return long, [f"wide: each of the columns {listing(map(repr, columns))} is a {each}"]


def recipe_and_seed(name: str) -> tuple[str, str] | None:
    """Recipe and seed in a name such as ``grpo-seed3``; None if the name has no seed at its end."""
    found = re.fullmatch(r"(.+?)[-_/ .]+seed[-_= ]?(\d+)", name, re.IGNORECASE)
    return (found[1], found[2]) if found else None
