"""Calibration of the stated probabilities: backtests, simulated runs, and simulation-based calibration."""
