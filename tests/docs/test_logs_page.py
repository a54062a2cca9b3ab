"""The page on logs: its commands have options that exist, and it names every format."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from made_logs import LOGS
from rlceiling.cli import app

PAGE = (Path(__file__).parents[2] / "notebooks" / "logs.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"rlceiling ((?:fit|logs) [^\n`#]*)", PAGE)


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 25


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_command_can_be_parsed(command: str) -> None:
    name, *words = shlex.split(command)
    group = typer.main.get_command(app)
    parsed = group.commands[name].make_context(name, words)  # type: ignore[attr-defined]
    assert parsed.params


def test_every_writer_is_named() -> None:
    for made in LOGS:
        writer = made.name.split()[0]
        assert re.search(rf"^\| .*{re.escape(writer)}", PAGE, re.MULTILINE) or made.name in PAGE, made.name
