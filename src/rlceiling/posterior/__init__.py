"""Posteriors: draws, predictive checks, verdicts, tables, ArviZ export and files."""
