"""Decisions from posteriors: probabilities of improvement, ranks, forecasts."""
