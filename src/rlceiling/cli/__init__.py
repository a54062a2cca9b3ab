"""The command line, with the names of the library."""

from rlceiling.cli.app import app, main

__all__ = ["app", "main"]
