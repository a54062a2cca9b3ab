"""Every trainer's and tracker's log is read as it was written, and by one format only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from made_logs import LOGS, REWARDS, STEPS, Made
from rlceiling.logs.contents import log_contents
from rlceiling.logs.probe import Probe
from rlceiling.logs.read import read_log
from rlceiling.logs.registry import all_formats

EACH = pytest.mark.parametrize("made", LOGS, ids=lambda made: made.name)


@EACH
def test_log_is_read_as_it_was_written(made: Made, tmp_path: Path) -> None:
    runs = read_log(made.write(tmp_path), **made.options)
    assert (runs.reward_label, runs.compute_label) == (made.metric, made.compute)
    table = runs.table
    assert len(runs.recipes) == 1
    np.testing.assert_allclose(table["reward"], REWARDS, atol=5e-5)  # consoles print four decimals
    np.testing.assert_allclose(table["compute"], np.array(made.steps) * made.each, rtol=1e-9)
    np.testing.assert_array_equal(table["n_eval"], np.full(len(STEPS), made.n_eval))


@EACH
def test_one_format_recognises_a_log(made: Made, tmp_path: Path) -> None:
    """A folder of files is recognised as a whole; a file by one format."""
    probe = Probe(made.write(tmp_path))
    names = [form.name for form in all_formats() if form.recognises(probe)]
    assert len(names) == 1, names


@EACH
def test_contents_of_a_log(made: Made, tmp_path: Path) -> None:
    contents = log_contents(made.write(tmp_path))
    own = contents[contents["key"] == made.metric]
    assert own["kind"].tolist() == ["held-out"]
    assert (own["rows"].item(), own["first_step"].item(), own["last_step"].item()) == (5, 0, 40)
    (resources,) = contents.attrs["compute"].values()
    assert made.compute in resources
