"""The sampler alone, on densities that are known: right moments, chains that do not wait and do not see each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arviz_stats.base import array_stats
from jax import Array
from scipy import stats

import rlceiling as rl
import several
from rlceiling.inference import nuts, trajectory
from rlceiling.inference.nuts import WINDOW, run_chains, side_by_side, statistics, windows
from rlceiling.inference.sampling import potential
from rlceiling.inference.stream_keys import stream_key
from rlceiling.models.recipe_centre import least_squares_centre
from rlceiling.models.recipe_coordinates import dimension
from rlceiling.models.recipe_data import prepare
from rlceiling.models.recipe_family import RECIPE

SIZE, DENSE = 5, 3
"""Of the normal: its first coordinates are correlated, the others not, as the metric takes them."""


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def normal(mean: Array, precision: Array) -> Callable[[Array], Array]:
    return lambda z: 0.5 * (z - mean) @ precision @ (z - mean)


def funnel(width: Array) -> Callable[[Array], Array]:
    """Of `v`, normal, and two numbers with standard deviation exp(v); far from normal and still all known."""
    return lambda z: 0.5 * (z[0] / width) ** 2 + 0.5 * (z[1:] ** 2).sum() * jnp.exp(-2.0 * z[0]) + 2.0 * z[0]


def normals(number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(3)
    made = []
    for _ in range(number):
        covariance = np.diag(rng.uniform(0.05, 4.0, SIZE))
        root = rng.normal(size=(DENSE, DENSE))
        covariance[:DENSE, :DENSE] = root @ root.T + 0.05 * np.eye(DENSE)
        made.append((rng.normal(size=SIZE), covariance))
    return made


def drawn(given: list[Any], density: Any, size: int, dense: int, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """Places, shape (fits, chains, draws, size), and statistics."""
    settings = {"chains": 4, "tune": 500, "draws": 1000, "target_accept": 0.8} | options
    keys = np.stack([stream_key(0, str(i)) for i in range(len(given))])
    parts = [
        np.asarray(rows)[:, :, :made]
        for rows, made in run_chains(keys, side_by_side(given), density, dimension=size, dense=dense, **settings)
    ]
    rows = np.concatenate(parts, axis=2)
    return rows[..., :size], statistics(rows[..., size:])


def z_scores(draws: np.ndarray, mean: float, sd: float) -> list[float]:
    """How far the mean, the spread and two quantiles of draws, shape (chains, draws), lie off, in their errors."""
    places = [("mean", {}, mean, draws.mean()), ("sd", {}, sd, draws.std())]
    places += [("quantile", {"prob": p}, stats.norm.ppf(p, mean, sd), np.quantile(draws, p)) for p in (0.05, 0.95)]
    return [(found - true) / float(array_stats.mcse(draws, method=m, **o)) for m, o, true, found in places]


def test_normals_side_by_side_have_their_moments() -> None:
    given = normals(3)
    z, sampled = drawn([(mean, np.linalg.inv(covariance)) for mean, covariance in given], normal, SIZE, DENSE)
    assert z.shape == (3, 4, 1000, SIZE)
    off = [
        z_scores(z[i, :, :, k], mean[k], np.sqrt(covariance[k, k]))
        for i, (mean, covariance) in enumerate(given)
        for k in range(SIZE)
    ]
    assert np.abs(off).max() < 4.5  # of 60
    assert 0.7 < np.std(off) < 1.3
    for i, (_, covariance) in enumerate(given):
        np.testing.assert_allclose(np.corrcoef(z[i].reshape(-1, SIZE).T), correlation(covariance), atol=0.06)
    # The metric is learnt: steps as for a standard normal, and acceptance as asked for.
    assert sampled["step_size"].min() > 0.6
    assert 0.78 < sampled["acceptance_rate"].mean() < 0.96  # dual averaging errs to this side
    assert not sampled["diverging"].any()
    assert set(np.unique(sampled["n_steps"])) <= {1, 2, 3, 4, 5, 6, 7, 15}


def correlation(covariance: np.ndarray) -> np.ndarray:
    sd = np.sqrt(np.diag(covariance))
    return covariance / np.outer(sd, sd)


@pytest.mark.parametrize("broken", ["weights", "turning"])
def test_broken_sampler_fails_moment_check(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative controls: points drawn as if all weighed the same; trajectories that go on after they have turned."""
    if broken == "weights":
        # Long steps, all of whose points count alike.
        right = nuts.grow
        monkeypatch.setattr(nuts, "grow", lambda state, current, value, u: right(state, current, 0.0 * value, u))
    else:
        monkeypatch.setattr(trajectory, "turns", lambda first, last, total: jnp.zeros(total.shape[:-1], bool))
    mean, covariance = normals(1)[0]
    # A function of its own, or the program compiled before would run. Broken trajectories are long, so there are few.
    steps = {"tune": 100, "draws": 500 if broken == "weights" else 100}
    z, sampled = drawn([(mean, np.linalg.inv(covariance))], lambda *given: normal(*given), SIZE, DENSE, **steps)
    off = [z_scores(z[0, :, :, k], mean[k], np.sqrt(covariance[k, k])) for k in range(SIZE)]
    if broken == "weights":
        assert np.abs(off).max() > 10.0
    else:
        assert sampled["n_steps"].max() == 1023


def test_a_funnel_has_its_marginal() -> None:
    z, sampled = drawn([(np.float64(0.7),)], funnel, 3, 3, target_accept=0.95, draws=2000)
    assert sampled["diverging"].mean() < 0.001
    assert np.abs(z_scores(z[0, :, :, 0], 0.0, 0.7)).max() < 4.0
    # Standardised by the first, the others are standard normal.
    assert np.abs(z_scores(z[0, :, :, 1] * np.exp(-z[0, :, :, 0]), 0.0, 1.0)).max() < 4.0
    # Negative control: the funnel is one that needs care.
    assert drawn([(np.float64(3.0),)], funnel, 3, 3, target_accept=0.8)[1]["diverging"].mean() > 0.005


def test_draws_are_independent_of_other_fits_in_batch() -> None:
    given = [(mean, np.linalg.inv(covariance)) for mean, covariance in normals(3)]
    together, _ = drawn(given, normal, SIZE, DENSE, tune=100, draws=300)
    first, _ = drawn(given[:1], normal, SIZE, DENSE, tune=100, draws=300)
    other, _ = drawn([given[0], given[2], given[1]], normal, SIZE, DENSE, tune=100, draws=300)
    np.testing.assert_array_equal(together[0], other[0])
    # Another number of lanes is another program, which rounds differently; the walk is the same until that has grown.
    np.testing.assert_allclose(together[0, :, :20], first[0, :, :20], atol=1e-5)


def test_number_of_draws_does_not_change_draws() -> None:
    given = [(mean, np.linalg.inv(covariance)) for mean, covariance in normals(1)]
    long, _ = drawn(given, normal, SIZE, DENSE, tune=100, draws=2 * WINDOW + 7)
    short, _ = drawn(given, normal, SIZE, DENSE, tune=100, draws=11)
    assert long.shape[2] == 2 * WINDOW + 7
    np.testing.assert_array_equal(long[:, :, :11], short)
    assert np.unique(long[0, 0, :, 0]).size > WINDOW  # windows go on where the last one ended


@pytest.mark.parametrize("tune", [100, 137, 200, 300, 500, 1000, 2000, 5000])
def test_windows_of_warm_up(tune: int) -> None:
    lengths = [length for length, _ in windows(tune)]
    assert sum(lengths) == tune
    assert max(lengths) <= WINDOW
    assert [learns for _, learns in windows(tune)][:2] == [False, True]
    assert not windows(tune)[-1][1]
    assert lengths[-2] >= lengths[1]


def test_uniform_numbers_are_those_of_splitmix64() -> None:
    # The first outputs for seed 1234567, as published with other implementations.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    found = nuts._uniform(jnp.array([1234567], jnp.uint64), jnp.arange(4)[:, None])[:, 0]
    np.testing.assert_array_equal(found, [(x >> 11) * 2.0**-53 for x in published])
    many = np.asarray(nuts._uniform(jnp.arange(50, dtype=jnp.uint64), jnp.arange(400)[:, None]))
    assert stats.kstest(many.ravel(), "uniform").pvalue > 0.001
    assert abs(np.corrcoef(many[1:].ravel(), many[:-1].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(many[:, 1:].ravel(), many[:, :-1].ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("several_runs", [False, True])
def test_the_loop_of_a_recipe_can_be_one_kernel(
    several_runs: bool, scalerl: rl.Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XLA starts every operation of a loop by itself, several times as slow, if there is a scatter or a call in it."""
    _, members = next((several.simulated() if several_runs else scalerl).iter_recipes())
    recipe = prepare(members, evaluation_error=0.5)
    given = side_by_side([(recipe, least_squares_centre(recipe), rl.SigmoidPriors().distributions())])
    size = dimension(len(recipe.order))
    assert (size > dimension(1)) == several_runs

    def text_of(density: Any) -> str:
        seen: list[str] = []
        program = nuts.window

        def lowered(*args: Any, **options: Any) -> Any:
            seen.append(program.lower(*args, **options).as_text())
            raise StopIteration

        with monkeypatch.context() as patch:
            patch.setattr(nuts, "window", lowered)
            with pytest.raises(RuntimeError):
                next(
                    run_chains(
                        stream_key(0)[None],
                        given,
                        density,
                        chains=4,
                        dimension=size,
                        dense=dimension(1),
                        tune=100,
                        draws=100,
                        target_accept=0.9,
                    )
                )
        return seen[0]

    assert "stablehlo.scatter" not in text_of(potential(RECIPE))

    def turned(*_: Any) -> Callable[[Array], Array]:
        """Negative control: a density whose gradient needs a scatter."""
        return lambda z: 0.5 * (z[jnp.arange(size)[::-1]] ** 2).sum()

    assert "stablehlo.scatter" in text_of(turned)
