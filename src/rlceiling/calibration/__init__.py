"""Checks that stated probabilities mean what they say: backtests, simulated runs, ranks of the truth."""
