"""Posteriors: draws, predictive checks, verdicts, tables, ArviZ export and files.

Questions to a saved posterior must not wait for JAX, NumPyro, ArviZ or xarray. Modules that need them are therefore
imported inside the functions that use them, here and in `rlceiling.decisions`.
"""
