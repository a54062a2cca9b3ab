"""Command line: the words of the library, typed."""

from rlceiling.cli.app import app, main

__all__ = ["app", "main"]
