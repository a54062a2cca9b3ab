"""Where the time of one fit goes: gradient, trees, warm-up, parameters, transfer, diagnostics, verdict, compiling.

python benchmarks/where_time_goes.py

Results go to results/where-time-goes.json.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from calibration.results import record
from jax import Array

import rlceiling as rl
from rlceiling.inference import nuts
from rlceiling.inference.convergence import diagnose
from rlceiling.inference.nuts import TransitionStats, WindowSettings, run_chains, side_by_side
from rlceiling.inference.sampling import _kept, potential
from rlceiling.inference.stream_keys import stream_key
from rlceiling.inference.xla_flags import set_flag
from rlceiling.models.recipe_centre import least_squares_centre
from rlceiling.models.recipe_coordinates import dimension
from rlceiling.models.recipe_data import prepare
from rlceiling.models.recipe_family import RECIPE
from rlceiling.settings import RECIPE_SAMPLER

CHAINS, TUNE, DRAWS = RECIPE_SAMPLER.chains, RECIPE_SAMPLER.tune, RECIPE_SAMPLER.draws
REPEATS = 7


def best(function: Callable[[], Any]) -> float:
    """Shortest of a few times, after one that compiles."""
    jax.block_until_ready(function())
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(function())
        took.append(time.perf_counter() - began)
    return min(took)


def flat(scale: Array) -> Callable[[Array], Array]:
    """A density that costs nothing, to see what the trees cost."""
    return lambda z: 0.5 * (scale * z * z).sum()


def steps_of(given: Any, density: Any, size: int) -> tuple[float, float, int, int]:
    """Seconds in warm-up and in draws, and the steps of the loop in each."""
    seen: list[tuple[bool, float, int]] = []
    program = nuts.window

    def timed(chains: Any, given: Any, how: Any, *, density: Any) -> Any:
        began = time.perf_counter()
        after, rows = jax.block_until_ready(program(chains, given, how, density=density))
        steps = np.asarray(rows)[0, :, : how.transitions, -2].sum(axis=1).max()
        seen.append((bool(how.adapt), time.perf_counter() - began, int(steps)))
        return after, rows

    def run() -> None:
        options = {"chains": CHAINS, "tune": TUNE, "draws": DRAWS, "target_accept": RECIPE_SAMPLER.target_accept}
        for _ in run_chains(stream_key(0)[None], given, density, dimension=size, dense=size, **options):
            pass

    run()
    nuts.window = timed
    times = []
    for _ in range(REPEATS):
        seen.clear()
        run()
        times.append([sum(took for warm, took, _ in seen if warm is part) for part in (True, False)])
    nuts.window = program
    warm, drawn = np.min(times, axis=0)
    return warm, drawn, *(sum(n for w, _, n in seen if w is part) for part in (True, False))


def main() -> None:
    set_flag()
    runs = rl.load_dataset("scalerl").select("ScaleRL")
    _, members = next(runs.iter_recipes())
    recipe, size = prepare(members, evaluation_error=0.5), dimension(1)
    priors = rl.SigmoidPriors().distributions()
    with jax.enable_x64(True):
        given = side_by_side([(recipe, least_squares_centre(recipe), priors)])
        began = time.perf_counter()
        how = WindowSettings(0, False, False, False, 0.9, 10)
        start = nuts.start(stream_key(0)[None], CHAINS, size, size)
        traced = nuts.window.trace(start, given, how, density=potential(RECIPE))
        tracing = time.perf_counter() - began
        lowered = traced.lower()
        began = time.perf_counter()
        lowered.compile()
        compiling = time.perf_counter() - began

        warm, drawn, warm_steps, draw_steps = steps_of(given, potential(RECIPE), size)
        tree_warm, tree_drawn, *tree_steps = steps_of(side_by_side([(np.ones(size),)]), flat, size)
        tree = (tree_warm + tree_drawn) / sum(tree_steps)

        @jax.jit
        def gradients(z: Array, given: Any) -> Array:
            one = jax.vmap(lambda z, *of: jax.vmap(jax.value_and_grad(potential(RECIPE)(*of)))(z))

            def step(_: int, z: Array) -> Array:
                value, gradient = one(z, *given)
                return z - 1e-9 * gradient - 1e-12 * value[..., None]

            return jax.lax.fori_loop(0, 5000, step, z)

        gradient = best(lambda: gradients(jnp.zeros((1, CHAINS, size)), given)) / 5000
        rows = jnp.zeros((1, CHAINS, nuts.WINDOW, size + len(TransitionStats._fields)))
        windows = DRAWS // nuts.WINDOW
        natural = windows * best(lambda: _kept(rows, *given, family=RECIPE))
        out = _kept(rows, *given, family=RECIPE)
        transfer = windows * best(lambda: [np.array(values) for group in out for values in group.values()])
        centre = best(lambda: least_squares_centre(recipe))

    (fit,) = rl.fit(runs, progress=False).values()
    draws = {**fit.draws, **{name: values[..., 0] for name, values in fit.run_draws.items()}}
    diagnosing = best(lambda: diagnose(draws, fit.sample_stats["diverging"], fit.sample_stats["energy"]))

    def judged() -> str:
        for cached in ("checks", "verdict"):
            fit.__dict__.pop(cached, None)
        return fit.verdict.name

    judging = best(judged)
    whole = warm + drawn + natural + transfer + centre + diagnosing + judging
    steps = warm_steps + draw_steps
    table = {
        "gradients": steps * gradient,
        "trees and adaptation": warm + drawn - steps * gradient,
        "(of both, warm-up)": warm,
        "parameters from coordinates": natural,
        "copies to numpy": transfer,
        "least-squares start": centre,
        "diagnostics": diagnosing,
        "checks and verdict": judging,
        "all": whole,
    }
    lines = [
        f"Python {sys.version.split()[0]}, JAX {jax.__version__}; ScaleRL, {CHAINS} chains x ({TUNE} + {DRAWS})",
        f"steps of the loop: {warm_steps:,} in warm-up, {draw_steps:,} after it; each moves {CHAINS} chains",
        f"a step: {1e6 * (warm + drawn) / steps:.1f} us, of which {CHAINS} gradients {1e6 * gradient:.1f} us; "
        f"with a density that costs nothing {1e6 * tree:.1f} us",
        f"compiling, once: {tracing:.1f} s tracing, {compiling:.1f} s XLA",
    ]
    print("\n".join(lines) + "\n")
    shown = pd.DataFrame({"ms": {k: 1000 * v for k, v in table.items()}})
    shown["share"] = [f"{v / whole:.0%}" for v in table.values()]
    print(shown.to_string(float_format=lambda v: f"{v:.1f}"))
    tables = {"of one fit": shown.rename_axis("part")}
    record("where-time-goes", "where_time_goes.py", tables, lines, folder=Path(__file__).parent)


if __name__ == "__main__":
    main()
