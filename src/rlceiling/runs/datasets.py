"""Bundled data sets of real training runs."""

from dataclasses import dataclass, replace
from importlib.resources import files

import pandas as pd

from rlceiling.errors import DataError, count, listing, unknown_name
from rlceiling.runs.readers import read_runs
from rlceiling.runs.table import Runs


@dataclass(frozen=True)
class _Dataset:
    what: str
    compute: str
    compute_unit: str
    reward: str
    splits: dict[str, tuple[str, ...]]  # name of the split -> marks of its rows; the first split is the default
    licence: str
    citation: str
    published: bool = False  # whether the curves of its authors are bundled


SCALERL_CITATION = (
    'Khatri et al., "The Art of Scaling Reinforcement Learning Compute for LLMs", arXiv 2510.13786, '
    "CC BY 4.0; points read off the figures, which show only part of all evaluations: about 0.3% error in "
    "GPU-hours and 0.0005 to 0.001 in pass rate, a little more for the extended points."
)

QWEN_CITATION = (
    '"Scaling Behaviors of LLM Reinforcement Learning Post-Training", arXiv 2509.25300, Apache-2.0; points read off '
    "the figures: the last values agree with the paper's table to four digits, FLOPs to about 0.1%."
)

_DATASETS = {
    "scalerl": _Dataset(
        what="pass rate of 8B and 17Bx16 models on 1,000 held-out math prompts x 16 samples",
        compute="gpu_hours",
        compute_unit="GB200 GPU-hours",
        reward="pass_rate",
        splits={
            "train": ("start", "train"),
            "extended": ("extended",),
            "all": ("start", "train", "extended"),
        },
        licence="CC BY 4.0",
        citation=SCALERL_CITATION,
        published=True,
    ),
    "qwen_math": _Dataset(
        what="GRPO on math, Qwen2.5 base models of 0.5B to 72B: pass rate on 500 held-out problems, mean of 3 runs",
        compute="flops",
        compute_unit="FLOPs",
        reward="pass_rate",
        splits={"all": ()},
        licence="Apache-2.0",
        citation=QWEN_CITATION,
    ),
}


def load_dataset(name: str, split: str | None = None) -> Runs:
    """Load a bundled data set.

    `scalerl`: 23 recipes of the ScaleRL study, one run each; pass rate on 1,000 held-out math prompts x 16
    samples (``n_eval`` 16,000) against GB200 GPU-hours. The points were digitised from the figures, with errors of
    about 0.3% in GPU-hours and 0.0005 to 0.001 in pass rate. Cite arXiv 2510.13786 (CC BY 4.0).

    `qwen_math`: GRPO on math with Qwen2.5 base models of 0.5B to 72B parameters, one recipe per size; pass rate on 500
    held-out problems at temperature 0.7, means of three runs (base 32B after step 40: one run; 72B after step 96: two
    runs), against cumulative FLOPs, with the columns ``model_size_b`` (billions), ``step`` (of 512 problems each) and
    ``samples``. The same problems are used every time, so the noise is below binomial and no ``n_eval`` is given. Cite
    arXiv 2509.25300 (Apache-2.0).

    Parameters
    ----------
    name : str
        Name of the data set; `datasets` lists them.
    split : {"train", "extended", "all"}, optional
        For `scalerl`, "train" (default) contains the start and the points that the authors fitted, so that a fit can be
        compared with theirs; "extended" contains only the later points, which exist for nine recipes, to test
        forecasts, without step 0; "all" contains both. `qwen_math` has only "all".

    Returns
    -------
    Runs
        The runs, with a note on the evaluations that the split leaves out.

    Raises
    ------
    DataError
        If there is no such data set or split; the nearest name is suggested.
    """
    dataset = _find(name)
    split = next(iter(dataset.splits)) if split is None else split
    if split not in dataset.splits:
        raise unknown_name(name, "split", str(split), dataset.splits)
    rows = _read(f"{name}.csv")
    marks = dataset.splits[split]
    kept = rows["split"].isin(marks) if marks else pd.Series(True, rows.index)
    if "recipe" not in rows:
        rows["recipe"] = "Qwen2.5-" + rows["model_size_b"].map("{:g}B".format)
    n_eval = "n_eval" if "n_eval" in rows else None
    runs = read_runs(rows[kept], compute=dataset.compute, reward=dataset.reward, recipe="recipe", n_eval=n_eval)
    left_out = listing(rows.loc[~kept, "split"].unique()) if marks else ""
    note = f"split {split}: left out {count(int((~kept).sum()), 'evaluation')} marked {left_out}"
    return replace(runs, source=name, notes=() if kept.all() else (note,))


def datasets() -> pd.DataFrame:
    """List the bundled data sets.

    Returns
    -------
    DataFrame
        One row per data set: `name`, `what`, `recipes`, `evaluations` (of all splits), `compute_unit`,
        `licence`, `citation`.
    """
    rows = []
    for name, dataset in _DATASETS.items():
        runs = load_dataset(name, split="all")
        rows.append(
            {
                "name": name,
                "what": dataset.what,
                "recipes": len(runs.recipes),
                "evaluations": len(runs),
                "compute_unit": dataset.compute_unit,
                "licence": dataset.licence,
                "citation": dataset.citation,
            }
        )
    return pd.DataFrame(rows)


def published_fits(name: str) -> pd.DataFrame:
    """Return the curves that the authors of a bundled data set published.

    Parameters
    ----------
    name : str
        Name of the data set.

    Returns
    -------
    DataFrame
        Indexed by recipe: `R0`, `A`, `B`, `C_mid` of the drawn curve, recovered from the line (`C_mid` in the
        compute unit of the data set), `legend_A` and `legend_B` as printed in the legend, `figure`.

    Raises
    ------
    DataError
        If there is no such data set, or no curves were published for it.
    """
    if not _find(name).published:
        known = listing(other for other, dataset in _DATASETS.items() if dataset.published)
        raise DataError(f"no curves were published for {name}; there are some for: {known}.")
    return _read(f"{name}_published.csv").set_index("recipe")


def _find(name: str) -> _Dataset:
    if name not in _DATASETS:
        raise unknown_name("rlceiling", "data set", str(name), _DATASETS)
    return _DATASETS[name]


def _read(file: str) -> pd.DataFrame:
    with (files("rlceiling.runs") / "data" / file).open(encoding="utf-8") as stream:
        return pd.read_csv(stream)
