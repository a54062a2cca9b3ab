"""rlceiling: Bayesian ceilings for RL post-training."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlceiling.calibration.backtest import Backtest as Backtest
    from rlceiling.calibration.backtest import BacktestInterrupted as BacktestInterrupted
    from rlceiling.calibration.backtest import backtest as backtest
    from rlceiling.calibration.growth import Growth as Growth
    from rlceiling.calibration.growth import GrowthInterrupted as GrowthInterrupted
    from rlceiling.calibration.growth import growth as growth
    from rlceiling.calibration.sizes import SizesBacktest as SizesBacktest
    from rlceiling.calibration.sizes import backtest_sizes as backtest_sizes
    from rlceiling.decisions.chances import Chance as Chance
    from rlceiling.decisions.sizes import Crossover as Crossover
    from rlceiling.errors import DataError as DataError
    from rlceiling.inference.compile_cache import use_compile_cache as use_compile_cache
    from rlceiling.inference.fit import FitInterrupted as FitInterrupted
    from rlceiling.inference.fit import fit as fit
    from rlceiling.inference.fit import iter_fits as iter_fits
    from rlceiling.inference.fit_sizes import fit_sizes as fit_sizes
    from rlceiling.jobs.store import Store as Store
    from rlceiling.jobs.store import open_store as open_store
    from rlceiling.models.sigmoid import SigmoidPriors as SigmoidPriors
    from rlceiling.models.size_laws import CeilingLawPriors as CeilingLawPriors
    from rlceiling.models.size_laws import PowerLawPriors as PowerLawPriors
    from rlceiling.posterior.fit import Fit as Fit
    from rlceiling.posterior.fits import Fits as Fits
    from rlceiling.posterior.sizes import SizeRules as SizeRules
    from rlceiling.posterior.sizes import Sizes as Sizes
    from rlceiling.posterior.sizes import SizeVerdict as SizeVerdict
    from rlceiling.posterior.store import load_fits as load_fits
    from rlceiling.posterior.verdicts import Verdict as Verdict
    from rlceiling.posterior.verdicts import VerdictRules as VerdictRules
    from rlceiling.report import plot_backtest as plot_backtest
    from rlceiling.report import plot_best as plot_best
    from rlceiling.report import plot_chances as plot_chances
    from rlceiling.report import plot_compute_to_reach as plot_compute_to_reach
    from rlceiling.report import plot_curves as plot_curves
    from rlceiling.report import plot_forest as plot_forest
    from rlceiling.report import plot_growth as plot_growth
    from rlceiling.report import plot_panels as plot_panels
    from rlceiling.report import plot_pit as plot_pit
    from rlceiling.report import plot_ranks as plot_ranks
    from rlceiling.report import plot_residuals as plot_residuals
    from rlceiling.report import plot_sizes as plot_sizes
    from rlceiling.report import write_report as write_report
    from rlceiling.runs import Runs as Runs
    from rlceiling.runs import datasets as datasets
    from rlceiling.runs import load_dataset as load_dataset
    from rlceiling.runs import published_fits as published_fits
    from rlceiling.runs import read_runs as read_runs

_HOME = {
    "Backtest": "calibration.backtest",
    "BacktestInterrupted": "calibration.backtest",
    "CeilingLawPriors": "models.size_laws",
    "Chance": "decisions.chances",
    "Crossover": "decisions.sizes",
    "DataError": "errors",
    "Fit": "posterior.fit",
    "FitInterrupted": "inference.fit",
    "Fits": "posterior.fits",
    "Growth": "calibration.growth",
    "GrowthInterrupted": "calibration.growth",
    "PowerLawPriors": "models.size_laws",
    "Runs": "runs",
    "SigmoidPriors": "models.sigmoid",
    "SizeRules": "posterior.sizes",
    "SizeVerdict": "posterior.sizes",
    "Sizes": "posterior.sizes",
    "SizesBacktest": "calibration.sizes",
    "Store": "jobs.store",
    "Verdict": "posterior.verdicts",
    "VerdictRules": "posterior.verdicts",
    "backtest": "calibration.backtest",
    "backtest_sizes": "calibration.sizes",
    "datasets": "runs",
    "fit": "inference.fit",
    "fit_sizes": "inference.fit_sizes",
    "growth": "calibration.growth",
    "iter_fits": "inference.fit",
    "load_dataset": "runs",
    "load_fits": "posterior.store",
    "open_store": "jobs.store",
    "plot_backtest": "report",
    "plot_best": "report",
    "plot_chances": "report",
    "plot_compute_to_reach": "report",
    "plot_curves": "report",
    "plot_forest": "report",
    "plot_growth": "report",
    "plot_panels": "report",
    "plot_pit": "report",
    "plot_ranks": "report",
    "plot_residuals": "report",
    "plot_sizes": "report",
    "published_fits": "runs",
    "read_runs": "runs",
    "use_compile_cache": "inference.compile_cache",
    "write_report": "report",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    # Public names are fetched when first used, so that reading a file does not wait for JAX.
    if name in _HOME:
        return getattr(import_module(f"rlceiling.{_HOME[name]}"), name)
    raise AttributeError(f"module 'rlceiling' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_HOME)
