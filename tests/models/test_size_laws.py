"""Laws across sizes: their curves, their covariances, and the coordinates in which they are sampled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import rlceiling as rl
from rlceiling.curves import sigmoid_curve
from rlceiling.curves.power_law import power_law, power_law_inverse
from rlceiling.curves.sigmoid import SIGMOID
from rlceiling.curves.size_laws import ceiling_exponent, ceiling_of_size, saturating_exponent
from rlceiling.models.family import log_posterior
from rlceiling.models.pooling import brownian_motion, integrated_brownian_motion
from rlceiling.models.size_coordinates import dimension, least_squares_centre, to_natural
from rlceiling.models.size_data import SizeData, prepare_sizes
from rlceiling.models.size_family import SIZE_FAMILIES
from rlceiling.models.size_laws import LAWS
from rlceiling.models.size_model import size_parameters, standard_normals
from rlceiling.runs import Run

NOT_OPTIMISED = {"xla_backend_optimization_level": 0}
"""Of programs that run once or twice, while to optimise them would take seconds."""

X = np.linspace(-3.0, 3.0, 13)
NAMES = tuple(LAWS)


class TestCurves:
    def test_power_law(self) -> None:
        expected = 1.0 - 0.7 * np.exp(X) ** -0.12
        np.testing.assert_allclose(power_law(X[:, None], np.log(0.7), np.log(0.12)), expected, rtol=1e-13)

    def test_ceiling_law_is_the_sigmoid(self) -> None:
        A, R0 = 0.6, 0.15
        curve = SIGMOID.value(X[:, None], np.log(A / (1 - A)), np.log(R0 / (A - R0)), 0.4, np.log(1.7))
        np.testing.assert_allclose(curve, sigmoid_curve(np.exp(X), A, 1.7, np.exp(0.4), R0), rtol=1e-12)

    def test_where_a_rate_is_reached(self) -> None:
        own = (0.4, -1.0, 0.3, 0.2)
        at = np.array([SIGMOID.inverse(0.4, *own)])
        np.testing.assert_allclose(SIGMOID.value(at, *own), 0.4, rtol=1e-12)
        at = np.array([power_law_inverse(0.4, -0.3, -2.0)])
        np.testing.assert_allclose(power_law(at, -0.3, -2.0), 0.4, rtol=1e-12)
        assert SIGMOID.inverse(0.7, *own) == np.inf  # the ceiling is .6
        assert SIGMOID.inverse(0.1, *own) == -np.inf

    def test_half_of_the_exponent_at_N0(self) -> None:
        np.testing.assert_allclose(saturating_exponent(np.array([13.0, 1e12]), 0.14, 13.0), [0.07, 0.14], rtol=1e-9)

    def test_ceilings_follow_the_published_form(self) -> None:
        L_inf, N1, alpha = 0.1, 2.0, 0.4
        sizes = np.array([4.0, 10.0, 100.0])
        expected = 1.0 - L_inf - (N1 / sizes) ** alpha
        t = np.log(sizes)
        span = t[0], t[-1]
        np.testing.assert_allclose(ceiling_of_size(t, span, expected[0], expected[-1], 1 - L_inf), expected, rtol=1e-12)
        np.testing.assert_allclose(ceiling_exponent(span, expected[0], expected[-1], 1 - L_inf), alpha, rtol=1e-12)


class TestKernels:
    """Covariances against the processes they are of, simulated step by step."""

    PLACES = np.array([-2.0, -0.7, 0.0, 0.5, 1.4])

    def processes(self, number: int = 20_000, steps: int = 200) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        wandering, bending = (np.zeros((number, len(self.PLACES))) for _ in range(2))
        for sign in (-1, 1):
            at = np.linspace(0.0, 2.0, steps + 1)
            path = np.concatenate(
                [np.zeros((number, 1)), np.cumsum(rng.normal(0, np.sqrt(2.0 / steps), (number, steps)), axis=1)], axis=1
            )
            line = np.concatenate([np.zeros((number, 1)), np.cumsum(path[:, :-1] * (2.0 / steps), axis=1)], axis=1)
            for i, place in enumerate(self.PLACES):
                if place * sign > 0:
                    k = int(np.argmin(abs(at - abs(place))))
                    wandering[:, i], bending[:, i] = path[:, k], line[:, k]
        return wandering, bending

    def test_walk_and_smooth(self) -> None:
        s = self.PLACES[:, None]
        for values, kernel in zip(self.processes(), (brownian_motion, integrated_brownian_motion), strict=True):
            expected = kernel(s, self.PLACES)
            found = np.cov(values.T)
            np.testing.assert_allclose(found, expected, atol=0.03 * expected.max())


def simulated(sizes: tuple[float, ...] = (0.5, 3.0, 20.0), runs: int = 1, seed: int = 0) -> list[list[Run]]:
    rng = np.random.default_rng(seed)
    x = np.geomspace(1e17, 1e20, 12)
    made = []
    for i, size in enumerate(sizes):
        E = 0.12 / (1.0 + 8.0 / size)
        reward = 1.0 - (0.9 - 0.1 * i) * (x / 1e18) ** -E
        own = [reward + 0.005 * rng.standard_normal(12) for _ in range(runs)]
        made.append([Run(str(size), str(j), x, r, np.full(12, np.nan), None) for j, r in enumerate(own)])
    return made


@pytest.fixture(scope="module", params=NAMES)
def prepared(request: pytest.FixtureRequest) -> tuple[str, SizeData]:
    runs = simulated(runs=2)
    runs[1] = runs[1][:1]
    return request.param, prepare_sizes((0.5, 3.0, 20.0), runs, 0.5)


class TestCoordinates:
    def test_log_determinant_is_that_of_the_derivative(self, prepared: tuple[str, SizeData]) -> None:
        name, data = prepared
        law, priors = LAWS[name], LAWS[name].priors().distributions()
        with jax.enable_x64(True):
            centre = least_squares_centre(data, law)

            def natural(z: jax.Array) -> tuple[jax.Array, jax.Array]:
                values, standard, log_det = to_natural(z, data, centre, priors, law)
                flat = jnp.concatenate([jnp.stack([values[n] for n in law.pooling.sampled]), standard.ravel()])
                return flat, log_det

            derivative = jax.jit(jax.jacfwd(natural, has_aux=True), compiler_options=NOT_OPTIMISED)
            for seed in range(2):
                z = 0.7 * jax.random.normal(jax.random.key(seed), (dimension(data, law),))
                matrix, log_det = derivative(z)
                np.testing.assert_allclose(log_det, np.linalg.slogdet(matrix)[1], rtol=1e-8)

    def test_log_posterior_is_that_of_scipy(self, prepared: tuple[str, SizeData]) -> None:
        """Everything but the constant of the data's own coordinates, factor by factor, with dense noise."""
        name, data = prepared
        law, family = LAWS[name], SIZE_FAMILIES[name]
        priors = law.priors().distributions()
        with jax.enable_x64(True):
            centre = least_squares_centre(data, law)
            z = 0.5 * jax.random.normal(jax.random.key(3), (dimension(data, law),))
            names = [parameter.name for parameter in law.pooling.parameters]

            def at(z: jax.Array) -> tuple[object, ...]:
                values, standard, log_det = to_natural(z, data, centre, priors, law)
                columns = size_parameters(standard, values, data, priors, law)
                again = standard_normals(dict(zip(names, columns, strict=True)), values, data, priors, law)
                return log_posterior(z, family, data, centre, priors), values, standard, log_det, columns, again

            computed = jax.tree.map(np.asarray, jax.jit(at, compiler_options=NOT_OPTIMISED)(z))
            found, values, standard, log_det, columns, again = computed
            np.testing.assert_allclose(again, standard, rtol=1e-6, atol=1e-9)
            values = {k: float(v) for k, v in values.items()}
            expected = float(log_det) + sum(float(priors[n].log_prob(values[n])) for n in law.pooling.sampled)
        expected += stats.norm.logpdf(standard).sum()
        for lane, size in enumerate(data.size_of):
            seen = data.runs.observed[lane]
            x, reward = data.runs.clock[lane][seen], data.runs.reward[lane][seen]
            *own, ln_sigma = (c[size] for c in columns)
            variance, share = np.exp(2 * ln_sigma), values["share"]
            covariance = share * variance * np.exp(-abs(x[:, None] - x) / values["length"])
            covariance += np.diag((1 - share) * variance + data.runs.eval_var[lane][seen])
            expected += stats.multivariate_normal(
                law.curve.value(data.runs.inputs[lane][seen], *own), covariance
            ).logpdf(reward)
        np.testing.assert_allclose(found, expected, rtol=1e-9)

    def test_the_centre_finds_the_curves(self) -> None:
        data = prepare_sizes((0.5, 3.0, 20.0), simulated(), 0.5)
        centre = least_squares_centre(data, LAWS["power law"])
        np.testing.assert_allclose(
            np.exp(centre.estimate[1]), 0.12 / (1.0 + 8.0 / np.array([0.5, 3.0, 20.0])), rtol=0.25
        )
        np.testing.assert_allclose(np.exp(centre.estimate[2]), 0.005, rtol=0.5)


class TestPriors:
    def test_they_are_replaced_described_and_read_back(self) -> None:
        priors = rl.PowerLawPriors(N0=dist.LogNormal(1.0, 0.5), evaluation_error=1.0)
        again = rl.PowerLawPriors.from_dict(priors.to_dict())
        assert repr(again) == repr(priors)
        assert "N0=LogNormal(1, 0.5)" in repr(priors)

    def test_what_is_integrated_must_be_normal(self) -> None:
        with pytest.raises(rl.DataError, match="ln_K is a Cauchy, and ln_K is integrated in closed form"):
            rl.PowerLawPriors(ln_K=dist.Cauchy(0.0, 1.0))

    def test_a_prior_needs_its_support(self) -> None:
        with pytest.raises(rl.DataError, match="A_limit is a Normal, whose support is not the unit interval"):
            rl.CeilingLawPriors(A_limit=dist.Normal(0.0, 1.0))
        with pytest.raises(rl.DataError, match="evaluation_error=-1"):
            rl.CeilingLawPriors(evaluation_error=-1)
