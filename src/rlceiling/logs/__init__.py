"""Logs of trainers and trackers: formats, conventions of trainers, and the way from a log to `Runs`."""
