"""Compile-once NUTS over many fits, and convergence diagnostics."""
