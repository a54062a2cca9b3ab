"""Fitting of runs: the sampling driver of all families, `fit` and `fit_sizes`."""
