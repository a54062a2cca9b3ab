"""Sampling: the same result whatever the batch, nothing compiled twice, no state left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats

import rlceiling as rl
from rlceiling.curves import sigmoid_curve
from rlceiling.runs import Runs

QUICK = {"chains": 2, "tune": 200, "draws": 200}


def same_draws(a: rl.Fit, b: rl.Fit) -> bool:
    return all(np.array_equal(a.draws[name], b.draws[name]) for name in a.draws)


def table(seconds: float = 1.0, n: int = 20, **columns: object) -> pd.DataFrame:
    compute = np.r_[0.0, np.geomspace(200.0, 12_000.0, n)]
    wiggle = 0.004 * np.sin(7.0 * np.arange(n + 1))
    reward = sigmoid_curve(compute, 0.62, 1.8, 2000.0, 0.4) + wiggle
    return pd.DataFrame({"recipe": "a", "compute": compute * seconds, "reward": reward, "n_eval": 16_000} | columns)


@pytest.fixture(scope="module")
def batch(scalerl: Runs) -> rl.Fits:
    return rl.fit(scalerl.select("ScaleRL", "Magistral", "no-norm"), **QUICK)


@pytest.mark.parametrize("name", ["ScaleRL", "no-norm"])
def test_batch_equals_single_bit_for_bit(name: str, batch: rl.Fits, scalerl: Runs) -> None:
    single = rl.fit(scalerl.select(name), **QUICK, cores=1)
    assert same_draws(single[name], batch[name])


def test_another_seed_gives_other_draws(batch: rl.Fits, scalerl: Runs) -> None:
    other = rl.fit(scalerl.select("ScaleRL"), **QUICK, seed=1)
    assert not same_draws(other["ScaleRL"], batch["ScaleRL"])


def test_a_second_batch_of_the_same_bucket_compiles_nothing(batch: rl.Fits, scalerl: Runs) -> None:
    compiled: list[str] = []

    def listen(event: str, duration: float, **_: object) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    # Other recipes, lengths and prior parameters: none of them is part of the program.
    import numpyro.distributions as dist

    other = scalerl.select("MiniMax", "FP32-head")
    fits = rl.fit(other, rl.SigmoidPriors(B=dist.LogNormal(0.4, 0.5)), **QUICK, rules=rl.VerdictRules(min_ess=0))
    assert len(fits) == 2
    retried = [f for f in fits.values() if f.settings.retried]
    assert not compiled or retried, compiled
    # Negative control: the listener does hear a new program.
    rl.fit(scalerl.select("MiniMax"), chains=2, tune=110, draws=110)
    assert compiled


def test_results_do_not_depend_on_the_unit_of_compute() -> None:
    hours = rl.fit(rl.read_runs(table()), **QUICK)["a"]
    seconds = rl.fit(rl.read_runs(table(seconds=3600.0)), **QUICK)["a"]
    for name in hours.draws:
        scale = 3600.0 if name == "C_mid" else 1.0
        np.testing.assert_allclose(seconds.draws[name], hours.draws[name] * scale, rtol=1e-6)


def test_results_do_not_depend_on_the_unit_of_reward() -> None:
    # Few draws, so that only the checks of the run decide the verdict.
    rules = rl.VerdictRules(max_r_hat=9, min_ess=0, max_divergences=10_000, min_e_bfmi=0)
    share = rl.fit(rl.read_runs(table()), **QUICK, rules=rules)["a"]
    percent_table = table()
    percent_table["reward"] *= 100.0
    percent = rl.fit(rl.read_runs(percent_table, reward_bounds=(0, 100)), **QUICK, rules=rules)["a"]
    for name in share.draws:
        scale = 100.0 if name in ("A", "R0", "sigma") else 1.0
        off = np.median(percent.draws[name]) / scale - np.median(share.draws[name])
        # Rescaling rounds, and chains forget where they came from, so only the posteriors are the same.
        error = float(array_stats.mcse(share.draws[name], method="median"))
        assert abs(off) < 4.0 * np.sqrt(2.0) * error
    assert percent.verdict is share.verdict is rl.Verdict.IDENTIFIED
    assert 60.0 < np.median(percent.draws["A"]) < 65.0


def test_the_callers_precision_and_devices_are_left_alone(batch: rl.Fits) -> None:
    assert batch["ScaleRL"].draws["A"].dtype == np.float64
    assert not jax.config.jax_enable_x64
    assert jax.numpy.ones(1).dtype == np.float32


def test_a_fit_that_has_not_converged_is_tried_once_more_and_longer(scalerl: Runs) -> None:
    strict = rl.VerdictRules(min_ess=1e9)  # nothing can pass
    fit = rl.fit(scalerl.select("ScaleRL"), **QUICK, rules=strict)["ScaleRL"]
    assert fit.settings.retried
    assert (fit.settings.tune, fit.settings.draws, fit.settings.target_accept) == (400, 400, 0.99)
    assert fit.draws["A"].shape == (2, 400)
    assert fit.verdict is rl.Verdict.NOT_CONVERGED
    assert fit.advice() == "fit again with tune=800, draws=800"
    lax = rl.VerdictRules(max_r_hat=9, min_ess=0, max_divergences=10_000, min_e_bfmi=0)
    assert not rl.fit(scalerl.select("ScaleRL"), **QUICK, rules=lax)["ScaleRL"].settings.retried


def test_several_runs_of_a_recipe_are_fitted_alone_and_must_be_named() -> None:
    seeds = pd.concat([table(seed=seed) for seed in (1, 2)])
    fits = rl.fit(rl.read_runs(seeds), **QUICK)
    assert list(fits) == ["a/1", "a/2"]
    with pytest.raises(rl.DataError) as error:
        fits["a"]
    assert str(error.value) == "recipe 'a' has 2 runs, each fitted alone; name one of them: a/1, a/2."


def test_ten_thousand_evaluations_are_binned_and_say_so() -> None:
    fits = rl.fit(rl.read_runs(table(n=10_000)), **QUICK)
    # The earliest bins of equal width in ln C would be empty only if steps were equally spaced.
    assert fits.notes[-1] == "a: 10,000 evaluations were averaged into 64 bins of ln C"
    assert fits["a"].interval("A")[1] == pytest.approx(0.62, abs=0.01)
    assert "averaged into 64 bins" in repr(fits)


def test_missing_start_and_missing_n_eval_are_fitted_too() -> None:
    full = table()
    for part in (full[full.compute > 0], full.drop(columns="n_eval"), full[full.compute > 0].drop(columns="n_eval")):
        lower, _, upper = rl.fit(rl.read_runs(part), **QUICK)["a"].interval("A")
        assert lower < 0.62 < upper


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"chains": 1}, "fit: chains=1 is too few for a diagnosis; give a whole number from 2 up."),
        ({"draws": 10}, "fit: draws=10 is too few for a diagnosis; give a whole number from 100 up."),
        ({"tune": 50.5}, "fit: tune=50.5 is too few for a diagnosis; give a whole number from 100 up."),
        ({"seed": "a"}, "fit: seed='a' is not a whole number; give one."),
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
def test_an_interruption_keeps_what_is_done() -> None:
    program = """
        import os, signal, threading, time
        import rlceiling as rl
        import rlceiling.inference.fit as module
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with it ignored
        runs = rl.load_dataset("scalerl")
        once = module._fit_run
        made = []
        def counted(*a, **k):
            made.append(0)
            if len(made) == 6:
                os.kill(os.getpid(), signal.SIGINT)
            return once(*a, **k)
        module._fit_run = counted
        try:
            rl.fit(runs, chains=2, tune=100, draws=100, cores=1)
        except rl.FitInterrupted as stop:
            print(len(stop.fits), stop, list(stop.fits)[:2])
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=300, check=False
    )
    assert out.returncode == 0, out.stderr
    done = int(out.stdout.split()[0])
    assert 1 <= done <= 6
    assert f"interrupted after {done} of 23 runs" in out.stdout
    assert "['ScaleRL', 'MiniMax']" in out.stdout or done == 1
