"""Plots, tables on the terminal, and the HTML report."""

from pathlib import Path

import lazy_loader

# Plots and the report are public names of the package, in whose list they stand; they can be taken from here too.
__getattr__, _names, _all = lazy_loader.attach_stub("rlceiling", str(Path(__file__).parents[1] / "__init__.py"))
__all__ = [name for name in _all if name.startswith("plot_") or name == "write_report"]


def __dir__() -> list[str]:
    return __all__
