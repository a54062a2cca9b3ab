"""What people look at: plots, tables, sentences and the report that holds them all."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlceiling.report.backtest_plots import plot_backtest as plot_backtest
    from rlceiling.report.chance_plots import plot_best as plot_best
    from rlceiling.report.chance_plots import plot_chances as plot_chances
    from rlceiling.report.chance_plots import plot_ranks as plot_ranks
    from rlceiling.report.check_plots import plot_pit as plot_pit
    from rlceiling.report.check_plots import plot_residuals as plot_residuals
    from rlceiling.report.compute_plots import plot_compute_to_reach as plot_compute_to_reach
    from rlceiling.report.compute_plots import plot_growth as plot_growth
    from rlceiling.report.curve_plots import plot_curves as plot_curves
    from rlceiling.report.curve_plots import plot_panels as plot_panels
    from rlceiling.report.forest_plots import plot_forest as plot_forest
    from rlceiling.report.page import write_report as write_report
    from rlceiling.report.size_plots import plot_sizes as plot_sizes

_HOME = {
    "plot_backtest": "backtest_plots",
    "plot_best": "chance_plots",
    "plot_chances": "chance_plots",
    "plot_compute_to_reach": "compute_plots",
    "plot_curves": "curve_plots",
    "plot_forest": "forest_plots",
    "plot_growth": "compute_plots",
    "plot_panels": "curve_plots",
    "plot_pit": "check_plots",
    "plot_ranks": "chance_plots",
    "plot_residuals": "check_plots",
    "plot_sizes": "size_plots",
    "write_report": "page",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    # Fetched when first used, so that tables on a terminal do not wait for matplotlib.
    if name in _HOME:
        return getattr(import_module(f"rlceiling.report.{_HOME[name]}"), name)
    raise AttributeError(f"module 'rlceiling.report' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_HOME)
