"""Pieces that data classes show of themselves in notebooks."""
