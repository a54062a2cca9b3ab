"""Fits that several test modules read; each is made once."""

from __future__ import annotations

import pytest

import rlceiling as rl


@pytest.fixture(scope="session")
def scalerl() -> rl.Runs:
    return rl.load_dataset("scalerl")


@pytest.fixture(scope="session")
def scalerl_fits(scalerl: rl.Runs) -> rl.Fits:
    """All 23 recipes, with the defaults that users get."""
    return rl.fit(scalerl)
