"""Sampling: the same result whatever the batch, nothing compiled twice, no state left behind.

All recipes of one run are fitted with the settings of `test_priors` and others and padded to the same length, unless
the test is about another: every new setting, length or kind of start costs a compilation.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from arviz_stats.base import array_stats
from jax.experimental.compilation_cache import compilation_cache

import quick
import rlceiling as rl
import several
from rlceiling.curves import sigmoid_curve
from rlceiling.fitting import driver as module
from rlceiling.inference.sampling import sample
from rlceiling.runs import Runs

QUICK = quick.QUICK


def same_draws(a: rl.Fit, b: rl.Fit) -> bool:
    return all(
        np.array_equal(one[name], other[name])
        for one, other in ((a.draws, b.draws), (a.run_draws, b.run_draws))
        for name in one
    )


def table(seconds: float = 1.0, n: int = 20, **columns: object) -> pd.DataFrame:
    compute = np.r_[0.0, np.geomspace(200.0, 12_000.0, n)]
    wiggle = 0.004 * np.sin(7.0 * np.arange(n + 1))
    reward = sigmoid_curve(compute, 0.62, 1.8, 2000.0, 0.4) + wiggle
    return pd.DataFrame({"recipe": "a", "compute": compute * seconds, "reward": reward, "n_eval": 16_000} | columns)


@pytest.fixture(scope="module")
def batch(scalerl: Runs) -> rl.Fits:
    return quick.fits()


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """What has been compiled since."""
    events: list[str] = []
    listening = [True]

    def listen(event: str, duration: float, **_: object) -> None:
        if listening and event.endswith("backend_compile_duration"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    listening.clear()  # not every version of JAX forgets a listener


@pytest.mark.parametrize("name", ["ScaleRL", "no-norm"])
def test_batch_equals_single_bit_for_bit(name: str, batch: rl.Fits, scalerl: Runs) -> None:
    single = rl.fit(scalerl.select(name), **QUICK, cores=1)
    assert same_draws(single[name], batch[name])


def test_batch_equals_single_bit_for_bit_with_several_runs_too(compiled: list[str]) -> None:
    batch = several.fits()  # perhaps of another process, so the program is compiled in this one too
    single = rl.fit(several.simulated().select("uneven"), **several.SHORT, cores=1)
    assert list(batch) == ["collapsed", "low", "uneven"]
    assert same_draws(single["uneven"], batch["uneven"])
    # Four runs are padded to five, and short ones to the longest, so recipes with other numbers share a program.
    compiled.clear()
    assert same_draws(rl.fit(several.simulated().select("low"), **several.SHORT)["low"], batch["low"])
    assert not compiled


def test_the_order_of_recipes_does_not_matter(batch: rl.Fits, scalerl: Runs) -> None:
    rows = scalerl.table
    backwards = rl.read_runs(pd.concat([rows[rows["recipe"] == name] for name in reversed(list(batch))]))
    fits = rl.fit(backwards, **QUICK)
    assert list(fits) == ["no-norm", "Magistral", "ScaleRL"]
    assert all(same_draws(fits[name], batch[name]) for name in batch)


def test_another_seed_gives_other_draws(batch: rl.Fits, scalerl: Runs) -> None:
    other = rl.fit(scalerl.select("ScaleRL"), **QUICK, seed=1)
    assert not same_draws(other["ScaleRL"], batch["ScaleRL"])


def test_a_second_batch_of_the_same_bucket_compiles_nothing(scalerl: Runs, compiled: list[str]) -> None:
    rl.fit(scalerl.select("no-norm"), **QUICK)  # compiles in this process what another one may have compiled before
    compiled.clear()
    # Other recipes, lengths and prior parameters: none of them is part of the program.
    priors = rl.SigmoidPriors(B=dist.LogNormal(0.4, 0.5), C_mid_spread=dist.HalfNormal(0.4))
    fits = rl.fit(scalerl.select("MiniMax", "FP32-head"), priors, **QUICK)
    assert len(fits) == 2
    assert not compiled
    # Negative control: the listener does hear a new program.
    jax.jit(lambda x: x + len(fits))(np.ones(3))
    assert compiled


def test_a_program_read_from_the_compile_cache_counts_as_compiled(compiled: list[str], tmp_path: Path) -> None:
    """Or the cache that these tests are run with would hide programs that `fit` need not have asked for."""
    read: list[str] = []
    jax.monitoring.register_event_listener(lambda event, **_: read.append(event) if event.endswith("hits") else None)
    settings = {"jax_compilation_cache_dir": str(tmp_path), "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        counted = []
        for _ in range(2):
            compiled.clear()
            jax.jit(lambda x: x + 12.5)(np.ones(3))  # another function, so another program for this process
            counted.append((len(compiled) > 0, len(read) > 0))
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
    assert counted == [(True, False), (True, True)]


def test_results_do_not_depend_on_the_unit_of_compute() -> None:
    hours = rl.fit(rl.read_runs(table()), **QUICK)["a"]
    seconds = rl.fit(rl.read_runs(table(seconds=3600.0)), **QUICK)["a"]
    for ours, theirs in ((hours.draws, seconds.draws), (hours.run_draws, seconds.run_draws)):
        for name in ours:
            scale = 3600.0 if name == "C_mid" else 1.0
            np.testing.assert_allclose(theirs[name], ours[name] * scale, rtol=1e-6)


def test_results_do_not_depend_on_the_unit_of_reward() -> None:
    share = rl.fit(rl.read_runs(table()), **QUICK)["a"]
    percent_table = table()
    percent_table["reward"] *= 100.0
    percent = rl.fit(rl.read_runs(percent_table, reward_bounds=(0, 100)), **QUICK)["a"]
    pairs = [(name, share.draws[name], percent.draws[name]) for name in share.draws]
    pairs += [(name, share.run_draws[name][..., 0], percent.run_draws[name][..., 0]) for name in share.run_draws]
    for name, ours, theirs in pairs:
        scale = 100.0 if name in ("A", "R0", "sigma") else 1.0
        off = np.median(theirs) / scale - np.median(ours)
        # Rescaling rounds, and chains forget where they came from, so only the posteriors are the same.
        error = float(array_stats.mcse(ours, method="median"))
        assert abs(off) < 4.0 * np.sqrt(2.0) * error
    assert percent.verdict is share.verdict is rl.Verdict.IDENTIFIED
    assert 60.0 < np.median(percent.run_draws["A"]) < 67.0
    assert 60.0 < np.median(percent.draws["A"]) < 67.0


def test_the_callers_precision_and_devices_are_left_alone(batch: rl.Fits) -> None:
    assert batch["ScaleRL"].draws["A"].dtype == batch["ScaleRL"].run_draws["A"].dtype == np.float64
    assert not jax.config.jax_enable_x64
    assert jax.numpy.ones(1).dtype == np.float32


def test_unconverged_fit_is_retried_once_with_more_draws(scalerl: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, ...]] = []
    given = []

    def spy(*args: Any) -> Any:
        out, settings = sample(*args), args[4]
        if settings.draws:  # nothing is drawn when a program is compiled
            asked.append((settings.chains, settings.tune, settings.draws, settings.target_accept))
            given.extend(out)
        return out

    monkeypatch.setattr(module, "sample", spy)
    strict = rl.VerdictRules(min_ess=1e9)  # nothing can pass
    fit = rl.fit(scalerl.select("ScaleRL"), **QUICK | {"rules": strict})["ScaleRL"]
    assert asked == [(2, 200, 300, 0.95), (2, 400, 600, 0.99)]
    assert fit.draws["A"] is not given[0].parameters["A"]
    assert np.array_equal(fit.sample_stats["energy"], given[1].sample_stats["energy"])
    assert fit.settings.retried
    assert (fit.settings.tune, fit.settings.draws, fit.settings.target_accept) == (400, 600, 0.99)
    assert fit.verdict is rl.Verdict.NOT_CONVERGED
    assert fit.advice() == "fit again with tune=800, draws=1200"
    assert not rl.fit(scalerl.select("ScaleRL"), **QUICK)["ScaleRL"].settings.retried
    assert len(asked) == 3


def test_runs_of_a_recipe_are_fitted_together_in_the_users_order() -> None:
    fit = several.fits()["uneven"]
    assert fit.run_names == list(several.UNEVEN)
    assert fit.draws["A"].shape == (2, 100)
    for name in ("A", "B", "C_mid"):
        assert fit.run_draws[name].shape == (2, 100, 4)
        for place, run in enumerate(several.UNEVEN):
            assert np.array_equal(fit.draws_of(run)[name], fit.run_draws[name][..., place])
    # Each ceiling follows the evaluations of its own run, where there are enough of them to know it.
    medians = dict(zip(several.UNEVEN, np.median(fit.run_draws["A"], axis=(0, 1)), strict=True))
    widths = {}
    for run, (ceiling, _) in several.UNEVEN.items():
        lower, median, upper = fit.interval("A", run=run)
        assert median == medians[run]
        assert lower < ceiling < upper
        widths[run] = upper - lower
    assert sorted(widths, key=lambda run: widths[run])[-1] == "one"
    assert all(width < 1.5 for run, width in widths.items() if run != "one")
    assert medians["middle"] + 2.0 < medians["long"] < medians["short"] - 1.0
    # The recipe's lies among them, less surely than those of its longer runs.
    lower, median, upper = fit.interval("A")
    assert medians["middle"] < median < medians["short"]
    assert upper - lower > 1.5
    with pytest.raises(rl.DataError) as error:
        fit.draws_of("ling")
    assert str(error.value) == (
        "recipe 'uneven' has no run 'ling' (did you mean 'long'?); it has: short, one, middle, long."
    )


def test_ceiling_of_single_run_has_narrower_interval_than_recipe(batch: rl.Fits) -> None:
    assert all(draws.shape == (2, 300, 1) for fit in batch.values() for draws in fit.run_draws.values())
    identified = [fit for fit in batch.values() if fit.verdict is rl.Verdict.IDENTIFIED]
    assert len(identified) == 2
    for fit in identified:
        lower, median, upper = fit.interval("A", run=fit.run_names[0])
        assert fit.interval("A")[0] < lower < median < upper < fit.interval("A")[2]


def test_ten_thousand_evaluations_are_binned_and_say_so() -> None:
    long = table(n=10_000)
    fits = rl.fit(rl.read_runs(long[long["compute"] > 0]), **QUICK)
    # The earliest bins of equal width in ln C would be empty only if steps were equally spaced.
    assert fits.notes[-1] == "a: 10,000 evaluations were averaged into 64 bins of ln C"
    assert fits["a"].interval("A", run="0")[1] == pytest.approx(0.62, abs=0.01)
    assert "averaged into 64 bins" in repr(fits)
    (run,) = fits["a"].runs
    two = dataclasses.replace(fits["a"], runs=(several.fits()["uneven"].runs[0], run))
    assert two.notes == ("a, run 0: 10,000 evaluations were averaged into 64 bins of ln C",)


def test_missing_start_and_missing_n_eval_are_fitted_too() -> None:
    full, long = table(), table(n=40)  # long enough for the program of the bins above
    late = long[long["compute"] > 0]
    for part in (late, full.drop(columns="n_eval"), late.drop(columns="n_eval")):
        lower, median, upper = rl.fit(rl.read_runs(part), **QUICK)["a"].interval("A", run="0")
        # The wiggle is a slow wave, part of which a tail can follow where no start is logged.
        assert 0.58 < lower < median < upper < 0.72
        assert lower < 0.65


def test_batched_fits_match_single_fits(scalerl: Runs, batch: rl.Fits) -> None:
    """As on a GPU: one program for several recipes, the last of them short of one."""
    fits = rl.fit(scalerl.select(*batch), **QUICK, batch_size=2)
    assert list(fits) == list(batch)
    for name, alone in batch.items():
        beside = fits[name]
        # The same random numbers and, but for rounding, which grows along a chain, the same arithmetic.
        for of in ("A", "sigma", "length"):
            np.testing.assert_allclose(beside.draws[of][:, :3], alone.draws[of][:, :3], rtol=0.05)
            error = np.hypot(*(float(array_stats.mcse(fit.draws[of], method="median")) for fit in (beside, alone)))
            assert abs(np.median(beside.draws[of]) - np.median(alone.draws[of])) < 4.0 * error


def test_only_unconverged_fits_of_a_batch_are_retried(scalerl: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def spy(keys: list[np.ndarray], *args: Any) -> Any:
        asked.append((len({key.tobytes() for key in keys}), args[3].draws))
        return sample(keys, *args)

    monkeypatch.setattr(module, "sample", spy)
    fits = rl.fit(scalerl.select("ScaleRL", "Magistral"), **QUICK, batch_size=2)
    assert [fit.settings.retried for fit in fits.values()] == [False, False]
    ess = {name: min(fit.convergence.ess_bulk, fit.convergence.ess_tail) for name, fit in fits.items()}
    low, high = sorted(ess.values())
    rules = dataclasses.replace(several.LENIENT, min_ess=(low + high) / 2.0)
    asked.clear()
    fits = rl.fit(scalerl.select("ScaleRL", "Magistral"), **QUICK | {"rules": rules}, batch_size=2)
    assert {name: fit.settings.retried for name, fit in fits.items()} == {n: e == low for n, e in ess.items()}
    assert asked == [(2, 0), (2, 300), (1, 600)]


def test_iter_fits_yields_same_fits_as_fit(scalerl: Runs, batch: rl.Fits) -> None:
    fits = rl.iter_fits(scalerl.select(*batch), **QUICK)
    found = {fit.name: fit for fit in fits}
    assert set(found) == set(batch)
    assert all(same_draws(found[name], batch[name]) for name in batch)
    # What is wrong is said at once, and not when the first fit is asked for.
    with pytest.raises(rl.DataError):
        rl.iter_fits(scalerl, chains=1)


def test_iter_fits_bounds_number_of_submitted_fits(scalerl: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def note(_: object, one: list[object]) -> list[object]:
        begun.extend(task.stream_names[0] for task in one)  # type: ignore[attr-defined]
        return one

    monkeypatch.setattr(module.Driver, "fit", note)
    fits = rl.iter_fits(scalerl, cores=2)
    for _ in range(3):
        next(fits)
    assert 3 <= len(begun) <= 3 + 3 * 2 + 4
    fits.close()  # type: ignore[attr-defined]
    assert len(begun) < 23


def test_the_backend_is_recorded_and_must_be_there(scalerl: Runs, batch: rl.Fits) -> None:
    assert batch["ScaleRL"].settings.versions["backend"] == "cpu"
    if any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("this machine has a GPU")
    with pytest.raises(rl.DataError, match="fit: backend='gpu' and JAX finds no GPU here"):
        rl.fit(scalerl, backend="gpu")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"chains": 1}, "fit: chains=1 is too few for a diagnosis; give a whole number from 2 up."),
        ({"draws": 10}, "fit: draws=10 is too few for a diagnosis; give a whole number from 100 up."),
        ({"tune": 50.5}, "fit: tune=50.5 is too few for a diagnosis; give a whole number from 100 up."),
        ({"seed": "a"}, "fit: seed='a' is not a whole number; give one."),
        ({"backend": "tpu"}, "fit: backend='tpu' is neither 'cpu' nor 'gpu'; give one of them, or leave it out."),
        ({"batch_size": 0}, "fit: batch_size=0 is not a number of fits; give a whole number from 1 up."),
    ],
)
def test_bad_settings(arguments: dict[str, object], sentence: str, scalerl: Runs) -> None:
    with pytest.raises(rl.DataError) as error:
        rl.fit(scalerl, **arguments)  # type: ignore[arg-type]
    assert str(error.value) == sentence


def test_a_run_that_is_too_short_is_named() -> None:
    short = rl.read_runs(table().head(4))
    with pytest.raises(rl.DataError) as error:
        rl.fit(short)
    assert str(error.value) == (
        "DataFrame: run '0' of recipe 'a' has 3 distinct values of compute above 0 and a fit needs 4; log more "
        "evaluations, or leave the recipe out with runs.drop('a') (command line: --drop 'a')."
    )


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT, which needs POSIX signals")
def test_an_interruption_keeps_what_is_done(scalerl: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    once, calls, heard = module.Driver.fit, itertools.count(1), threading.Event()

    def third_is_interrupted(*args: object) -> list[rl.Fit]:
        if next(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            assert heard.wait(60)
        return once(*args)

    def hear(*_: object) -> None:
        heard.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Driver, "fit", third_is_interrupted)
    before = signal.signal(signal.SIGINT, hear)
    try:
        with pytest.raises(KeyboardInterrupt) as stop:
            rl.fit(scalerl, **QUICK, cores=1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert isinstance(stop.value, rl.FitInterrupted)
    # The fit at work is finished, and no other is begun.
    assert list(stop.value.fits) == ["ScaleRL", "MiniMax", "Magistral"]
    assert str(stop.value) == "interrupted after 3 of 23 recipes"
    assert next(calls) == 4


def test_the_future_of_another_form_is_covered_and_by_a_sigmoid_is_not() -> None:
    """Runs that follow a stretched exponential; a tail fixed at 1 is the negative control."""
    compute = np.r_[0.0, np.geomspace(300.0, 10_000.0, 24)]
    curve = 0.3 + 0.3 * (1.0 - np.exp(-((compute / 3000.0) ** 1.5)))
    runs = rl.read_runs(
        pd.concat(
            pd.DataFrame({"recipe": str(seed), "compute": compute, "reward": reward, "n_eval": 16_000})
            for seed, reward in enumerate(curve + 0.002 * np.random.default_rng(7).standard_normal((6, 25)))
        )
    )
    held, widths = {}, {}
    for name, tail in (("free", dist.LogNormal(0.0, 1.0)), ("sigmoid", dist.LogNormal(0.0, 0.01))):
        table = rl.fit(runs, rl.SigmoidPriors(tail=tail, form_error=0.0), **QUICK, progress=False).forecast(100_000.0)
        held[name] = int(((table["lower"] <= 0.6) & (table["upper"] >= 0.6)).sum())
        widths[name] = (table["upper"] - table["lower"]).mean()
    assert held["free"] >= 4
    assert held["sigmoid"] <= 1
    assert widths["free"] < widths["sigmoid"]  # the right form is also the sharper one
