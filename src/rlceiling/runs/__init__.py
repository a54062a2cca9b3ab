"""Tidy table of evaluations: validation, readers and bundled data sets."""

from rlceiling.runs.datasets import datasets, load_dataset, published_fits
from rlceiling.runs.readers import read_runs
from rlceiling.runs.table import Run, Runs, Stage

__all__ = ["Run", "Runs", "Stage", "datasets", "load_dataset", "published_fits", "read_runs"]
