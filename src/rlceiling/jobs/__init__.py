"""Batch fitting: what is to be fitted, where posteriors are kept, and how the work is spread."""
