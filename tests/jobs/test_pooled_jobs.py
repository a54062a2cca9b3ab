"""Pooled recipes in a batch: one job with several posteriors, and what a manifest refuses."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import rlceiling as rl
from made_priors import PRIORS
from rlceiling.jobs.batch import run_batch
from rlceiling.jobs.manifest import plan
from small_study import CEILINGS, evaluations, pooled

POOL = """
[[source]]
files = ["study.csv"]
compute = "gpu_hours"
pool = true

[sampler]
chains = 4
tune = 300
draws = 800
"""


def write_study(folder: Path, manifest: str = POOL) -> Path:
    """Write the small study and a manifest that pools its recipes."""
    evaluations().to_csv(folder / "study.csv", index=False)
    (folder / "jobs.toml").write_text(manifest)
    return folder / "jobs.toml"


def test_pooled_recipes_are_one_job_with_the_posteriors_of_fit(tmp_path: Path) -> None:
    """Whatever the order in which recipes end, which depends on the number of cores."""
    (job,) = plan(write_study(tmp_path)).jobs
    assert list(job.keys) == list(CEILINGS)
    store = rl.open_store(tmp_path / "store", create=True)
    done = run_batch([pickle.loads(pickle.dumps(job))], store)
    assert (done.done, done.failed, done.verdicts.total()) == (1, 0, 4)
    fits, direct = store.fits(), pooled()
    for name, fit in fits.items():
        np.testing.assert_array_equal(fit.draws["A"], direct[name].draws["A"])
        assert fit.priors.to_dict() == direct[name].priors.to_dict()
    assert fits["a"].sampled_with(fits["b"])
    assert fits.chance_higher("a", "b").probability == direct.chance_higher("a", "b").probability
    again = run_batch([job], store, make_executor=lambda: pytest.fail("it was fitted again"))
    assert again.n_cached == 1


def test_pooled_recipes_depend_on_each_other(tmp_path: Path) -> None:
    (job,) = plan(write_study(tmp_path)).jobs
    (other,) = plan(write_study(tmp_path, POOL.replace("pool = true", 'pool = true\ndrop = ["d"]'))).jobs
    assert job.keys["a"] != other.keys["a"]
    jobs = plan(write_study(tmp_path, POOL.replace("pool = true", "pool = true\nshares = [0.5]"))).jobs
    assert [one.labels[0].share for one in jobs] == [0.5, 1.0]
    assert jobs[1].key == job.key


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "pool = true",
            'pool = true\nselect = ["a", "b"]',
            "2 recipes of study.csv can be used, and pool needs 3 in one file; put",
        ),
        (
            "\n[sampler]",
            '\n[[source]]\nfiles = ["study.csv"]\ncompute = "gpu_hours"\n[sampler]',
            "an earlier source of the manifest also fits a to study.csv, with other runs or priors",
        ),
    ],
)
def test_recipes_that_cannot_be_pooled_are_listed(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    unreadable = plan(write_study(tmp_path, POOL.replace(old, new, 1))).unreadable
    assert unreadable[0].reason.startswith(sentence)


def test_priors_of_one_study_and_a_law_are_refused_with_pool(tmp_path: Path) -> None:
    PRIORS.save(tmp_path / "history.toml")
    with pytest.raises(rl.DataError, match=r"line 5: source.pool learns from the recipes themselves"):
        plan(write_study(tmp_path, f'priors = "history.toml"{POOL}'))
    with pytest.raises(rl.DataError, match=r"line 5: source.pool is for recipes, and a law is fitted to all sizes"):
        plan(write_study(tmp_path, POOL.replace("pool = true", 'pool = true\nlaw = "ceiling"')))
