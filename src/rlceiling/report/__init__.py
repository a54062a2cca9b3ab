"""Plots, tables on the terminal, and the HTML report."""
