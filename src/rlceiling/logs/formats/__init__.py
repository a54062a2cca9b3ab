"""Formats of logs, a module for each family. A new module with a tuple ``FORMATS`` is found by itself."""
