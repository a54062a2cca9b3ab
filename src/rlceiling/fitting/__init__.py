"""Runs in, posteriors out: the sampling driver that all families share, `fit` and `fit_sizes`."""
