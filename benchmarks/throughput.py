"""Fits per second and effective draws per second of rlceiling beside its peers: same model, priors and data.

python benchmarks/throughput.py                       all methods, the bundled ScaleRL recipes and simulated runs
python benchmarks/throughput.py --only rlceiling --simulated 1000 --no-real
python benchmarks/throughput.py --only nutpie --fits 5

Every method runs in a process of its own. Each set of runs writes results/throughput-<set>.json. Peers need
``pip install rlceiling[bench]``.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from calibration.results import record
from peers import NAMES, arrays, numpyro_model, pymc_model

import rlceiling as rl
from rlceiling.calibration.simulate import simulate_from_priors
from rlceiling.inference.convergence import Convergence, diagnose
from rlceiling.inference.xla_flags import set_flag
from rlceiling.models.recipe_data import prepare

CHAINS, TUNE, DRAWS = 4, 1000, 1000
COMPUTE = np.geomspace(300.0, 16_000.0, 20)
"""Of the simulated runs, in GPU-hours."""

Draws = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]
"""Parameters, divergences and energy of one fit, shape (chains, draws)."""


def data_of(runs: rl.Runs) -> list[dict[str, np.ndarray]]:
    return [arrays(prepare(members, evaluation_error=0.5)) for _, members in runs.iter_recipes()]


def named(values: Any) -> dict[str, np.ndarray]:
    """One array a scalar parameter, from a mapping of NAMES."""
    flat = {name: np.asarray(values[name]) for name in NAMES}
    spread = flat.pop("spread")
    return flat | {f"spread{i}": spread[..., i] for i in range(spread.shape[-1])}


def our_fits(runs: rl.Runs) -> Iterator[Any]:
    """Defaults, one fit after the other given away; the first use of the process compiles."""
    from rlceiling.fitting.fit_recipes import iter_fits

    yield None
    yield [fit.convergence for fit in iter_fits(runs, progress=False)]


def numpyro_loop(runs: rl.Runs) -> Iterator[Any]:
    """`MCMC` for each recipe, as in the documentation; it compiles for each."""
    import jax
    from numpyro.infer import MCMC, NUTS

    yield None
    found = []
    for i, data in enumerate(data_of(runs)):
        mcmc = MCMC(NUTS(numpyro_model), num_warmup=TUNE, num_samples=DRAWS, num_chains=CHAINS, progress_bar=False)
        mcmc.run(jax.random.key(i), **data, extra_fields=("diverging", "energy"))
        extra = mcmc.get_extra_fields(group_by_chain=True)
        found.append((named(mcmc.get_samples(group_by_chain=True)), extra["diverging"], extra["energy"]))
    yield found


def numpyro_vmap(runs: rl.Runs) -> Iterator[Any]:
    """One program, all recipes and chains in lock step."""
    import jax
    from numpyro.infer import MCMC, NUTS

    def one(key: Any, data: dict[str, Any]) -> Any:
        mcmc = MCMC(NUTS(numpyro_model), num_warmup=TUNE, num_samples=DRAWS, progress_bar=False)
        mcmc.run(key, **data, extra_fields=("diverging", "energy"))
        return {n: mcmc.get_samples()[n] for n in NAMES}, mcmc.get_extra_fields()

    together = data_of(runs)
    stacked = {name: np.stack([data[name] for data in together]) for name in together[0]}
    keys = jax.random.split(jax.random.key(0), len(together) * CHAINS).reshape(len(together), CHAINS)
    run = jax.jit(jax.vmap(jax.vmap(one, in_axes=(0, None)))).lower(keys, stacked).compile()
    yield None
    values, extra = jax.tree.map(np.asarray, run(keys, stacked))
    yield [
        (named({n: v[i] for n, v in values.items()}), extra["diverging"][i], extra["energy"][i])
        for i in range(len(together))
    ]


def nutpie_swapped(runs: rl.Runs) -> Iterator[Any]:
    """nutpie: the model compiled once, the data swapped."""
    import nutpie

    together = data_of(runs)
    model = pymc_model(together[0])
    compiled = nutpie.compile_pymc_model(model)
    yield None
    found = []
    for i, data in enumerate(together):
        trace = nutpie.sample(compiled.with_data(**data), chains=CHAINS, seed=i, progress_bar=False)
        stats = trace.sample_stats
        found.append((named(trace.posterior), stats["diverging"].to_numpy(), stats["energy"].to_numpy()))
    yield found


def pymc_loop(runs: rl.Runs) -> Iterator[Any]:
    """PyMC's own NUTS, the model built once, the data swapped."""
    import pymc as pm

    together = data_of(runs)
    model = pymc_model(together[0])
    yield None
    found = []
    with model:
        for i, data in enumerate(together):
            pm.set_data(data)
            trace = pm.sample(
                DRAWS, tune=TUNE, chains=CHAINS, random_seed=i, progressbar=False, compute_convergence_checks=False
            )
            stats = trace.sample_stats
            found.append((named(trace.posterior), stats["diverging"].to_numpy(), stats["energy"].to_numpy()))
    yield found


def least_squares(runs: rl.Runs) -> Iterator[Any]:
    """The grid of ScaleRL, for context: a point, no draws."""
    from rlceiling.curves.least_squares import grid_curves

    together = data_of(runs)
    yield None
    for data in together:
        seen = data["seen"] > 0
        grid_curves(
            data["x"][seen],
            data["reward"][seen],
            np.geomspace(0.5, 8.0, 100),
            np.linspace(data["x"].min() - 1.0, data["x"].max() + 1.5, 100),
            R0=float(data["start"]),
        )
    yield []


METHODS: dict[str, tuple[Callable[[rl.Runs], Iterator[Any]], int | None]] = {
    "rlceiling": (our_fits, None),
    "nutpie": (nutpie_swapped, 5),
    "pymc": (pymc_loop, 3),
    "numpyro-loop": (numpyro_loop, 3),
    "numpyro-vmap": (numpyro_vmap, 3),
    "least-squares": (least_squares, None),
}
"""Name -> method, and how many recipes it is given unless told otherwise: those that take seconds each get fewer."""


def measure(method: str, runs: rl.Runs) -> dict[str, Any]:
    steps = METHODS[method][0]
    if method == "rlceiling":  # what compiling costs is what the first fit takes longer
        one = runs.select(runs.recipes[0])
        began = time.perf_counter()
        list(steps(one))
        first = time.perf_counter() - began
        began = time.perf_counter()
        list(steps(one))
        compiling = first - (time.perf_counter() - began)
        generator = steps(runs)
        next(generator)
    else:
        began = time.perf_counter()
        generator = steps(runs)
        next(generator)
        compiling = time.perf_counter() - began
    began = time.perf_counter()
    found = next(generator)
    seconds = time.perf_counter() - began
    rules = rl.VerdictRules()
    convergence = [f if isinstance(f, Convergence) else diagnose(*f) for f in found]
    ess = [min(c.ess_bulk, c.ess_tail) for c in convergence]
    return {
        "fits": len(runs.recipes),
        "compile s": compiling,
        "fits/s": len(runs.recipes) / seconds,
        "ESS/s": float(np.nansum(ess)) / seconds if ess else None,
        "median ESS": float(np.nanmedian(ess)) if ess else None,
        "passed": float(np.mean([rules.converged(c) for c in convergence])) if ess else None,
        "divergences": int(sum(c.divergences for c in convergence)) if ess else None,
        "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def runs_of(name: str, number: int | None) -> rl.Runs:
    if name == "scalerl":
        runs = rl.load_dataset("scalerl")
    else:
        runs, _ = simulate_from_priors(int(name), COMPUTE)
    return runs.select(*runs.recipes[:number]) if number else runs


def main() -> None:
    set_flag()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--simulated", type=int, nargs="*", default=[50, 1000], help="numbers of simulated runs")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds after which a method is stopped")
    parser.add_argument("--no-real", action="store_true", help="leave the ScaleRL recipes out")
    parser.add_argument("--fits", type=int, help="recipes for each method")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        method, name, number = given.child
        warnings.simplefilter("ignore")
        print("RESULT " + json.dumps(measure(method, runs_of(name, int(number) or None))))
        return
    packages = ("rlceiling", "jax", "numpyro", "pymc", "pytensor", "nutpie", "numba")
    versions = f"Python {sys.version.split()[0]}, " + ", ".join(f"{p} {installed(p)}" for p in packages)
    print(versions)
    sets = ([] if given.no_real else ["scalerl"]) + [str(number) for number in given.simulated]
    for name in sets:
        rows = {}
        for method in given.only:
            if METHODS[method][1] and name in map(str, given.simulated[1:]):
                continue  # those that are given few recipes do not see the difference
            number = given.fits or METHODS[method][1] or 0
            command = [sys.executable, __file__, "--child", method, name, str(number)]
            try:
                out = subprocess.run(command, capture_output=True, text=True, check=False, timeout=given.limit)
            except subprocess.TimeoutExpired:
                print(f"{method} was stopped after {given.limit:.0f} s", flush=True)
                continue
            line = next((one for one in out.stdout.splitlines() if one.startswith("RESULT ")), None)
            if line is None:
                print(f"{method} failed: {out.stderr.strip().splitlines()[-1:] or 'no word'}")
                continue
            rows[method] = json.loads(line.removeprefix("RESULT "))
        table = pd.DataFrame(rows).T
        if "rlceiling" in rows:
            table["ESS/s ratio"] = rows["rlceiling"]["ESS/s"] / table["ESS/s"].astype(float)
        title = "ScaleRL, training points" if name == "scalerl" else f"{name} runs simulated from the priors"
        print(f"\n{title}")
        print(table.to_string(float_format=lambda v: f"{v:.3g}"), flush=True)
        command = shlex.join(["throughput.py", *sys.argv[1:]])
        tables = {title: table.rename_axis("method")}
        record(f"throughput-{name}", command, tables, [versions], folder=Path(__file__).parent)


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


if __name__ == "__main__":
    main()
