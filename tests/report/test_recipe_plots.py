"""Plots of many recipes and of one: every number drawn is the one told elsewhere, and no unknown ceiling is drawn."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

import rlceiling as rl
from handmade import COMPUTE, made_fit, made_recipe, made_run
from recipes import CEILINGS, KNOWN, VERDICTS, made_fits
from rlceiling.calibration.growth import Growth
from rlceiling.calibration.ranks import simultaneous_band
from rlceiling.decisions.forecast import draws_to_reach
from rlceiling.posterior.predictive_checks import evaluation_pits
from rlceiling.report.style import GREY
from rlceiling.text import probability


@pytest.fixture(scope="module")
def fits():
    return made_fits()


@pytest.fixture(scope="module")
def known(fits):
    return rl.Fits([fits[name] for name in KNOWN])


@pytest.fixture(scope="module")
def few(fits):
    """One recipe whose ceiling is known, and one whose ceiling is not."""
    return rl.Fits([fits["best"], fits["early"]])


@pytest.fixture(scope="module")
def exported(fits):
    """Draws from the prior by NumPyro, as a file for ArviZ has them: one for each draw of seven posteriors.

    Each posterior has as many draws as the one of `test_datatree`, so that one compiled program does for all.
    """
    best = fits["best"]
    few = {of: {k: v[:2, :300] for k, v in getattr(best, of).items()} for of in ("draws", "unit_draws", "sample_stats")}
    priors = [replace(best, name=str(number), **few).to_datatree()["prior"] for number in range(7)]
    return {name: np.concatenate([prior[name].to_numpy() for prior in priors]) for name in priors[0].data_vars}


def texts(ax):
    return [text.get_text() for text in ax.texts]


def names(ax):
    return [tick.get_text() for tick in ax.get_yticklabels()]


def mesh(ax):
    (cells,) = [c for c in ax.collections if isinstance(c, QuadMesh)]
    return np.ma.filled(cells.get_array(), np.nan)


def all_inside(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.get_tightbbox(canvas.get_renderer())
    assert min(box.x0, box.y0) >= -0.01
    assert (box.x1, box.y1) <= (figure.get_figwidth() + 0.01, figure.get_figheight() + 0.01)


PLOTS = {
    "plot_curves": lambda fits, ax: rl.plot_curves(fits, ax=ax),
    "plot_forest": lambda fits, ax: rl.plot_forest(fits, ax=ax),
    "plot_chances": lambda fits, ax: rl.plot_chances(fits, ax=ax),
    "plot_ranks": lambda fits, ax: rl.plot_ranks(fits, ax=ax),
    "plot_best": lambda fits, ax: rl.plot_best(fits, ax=ax),
    "plot_compute_to_reach": lambda fits, ax: rl.plot_compute_to_reach(fits, 0.6, ax=ax),
    "plot_residuals": lambda fits, ax: rl.plot_residuals(fits["best"], ax=ax),
    "plot_pit": lambda fits, ax: rl.plot_pit(fits["best"], ax=ax),
    "plot_growth": lambda fits, ax: rl.plot_growth(Growth({1.0: fits}), "best", ax=ax),
}


@pytest.mark.parametrize("plot", PLOTS)
def test_each_is_usable_alone_and_in_axes_of_ones_own(few, plot):
    before = plt.get_fignums()
    ax = PLOTS[plot](few, None)
    assert ax._repr_png_().startswith(b"\x89PNG")
    all_inside(ax.figure)
    own = Figure().add_subplot()
    assert PLOTS[plot](few, own) is own
    assert own.has_data()
    assert plt.get_fignums() == before
    assert getattr(rl.report, plot) is getattr(rl, plot)


# Chances --------------------------------------------------------------------------------------------------------------


def test_cells_are_the_chances_and_what_cannot_be_judged_is_hatched(fits):
    ax = rl.plot_chances(fits, margin=0.01)
    order = [*KNOWN, "early", "flat", "apart"]
    assert names(ax) == order
    table = fits.chances(0.01).loc[order, order].to_numpy()
    np.testing.assert_array_equal(mesh(ax), table)
    hatched = {(round(p.get_y() + 0.5), round(p.get_x() + 0.5)) for p in ax.patches if p.get_hatch()}
    # Early has passed the third recipe already, whatever its ceiling is.
    open_ = {(r, c) for r in range(6) for c in range(6) if r != c and (r > 2 or c > 2)}
    assert hatched == open_ - {(r, c) for r, c in open_ if not np.isnan(table[r, c])}
    assert len(open_ - hatched) < 8
    assert texts(ax) == [probability(p) for p in table.ravel() if not np.isnan(p)]
    assert "by more than 0.01" in ax.get_xlabel()
    assert "hatched: cannot be judged yet" in ax.get_xlabel()
    assert all(len(line) <= 60 for line in ax.get_xlabel().split("\n"))


def test_nothing_is_hatched_where_all_are_known(known):
    ax = rl.plot_chances(known)
    assert [p for p in ax.patches if p.get_hatch()] == []
    assert "hatched" not in ax.get_xlabel()


def test_truncated_chance_matrix_is_labelled(fits):
    ax = rl.plot_chances(fits, most=2)
    assert names(ax) == ["best", "close"]
    assert "the 2 of 6 recipes that come first" in ax.get_xlabel()
    assert names(rl.plot_best(fits, most=4)) == list(fits.rank().index[:4])


def test_lines_of_the_chance_to_lead_are_those_of_the_table_and_end_where_it_does(fits):
    budgets = [1000.0, 10_000.0, 40_000.0, 60_000.0, 200_000.0]
    table = fits.best_at(budgets)
    ax = rl.plot_best_at(fits, budgets)
    drawn = {}
    for line in ax.get_lines():
        if line.get_linestyle() in ("-", "--") and len(line.get_xdata()) > 1:
            drawn.setdefault(line.get_color(), []).append(np.asarray(line.get_ydata(), float))
    told = [name for name in fits if table[name].notna().any()]
    assert len(drawn) == len(told)
    order = table.max().sort_values(ascending=False).index
    for (solid, dashed), name in zip(drawn.values(), [name for name in order if name in told], strict=True):
        expected = table[name].to_numpy()
        together = np.where(np.isnan(solid), dashed, solid)
        np.testing.assert_array_equal(together, expected)
        within = np.array(budgets) <= fits[name].largest_compute
        assert np.isnan(solid[~within]).all()
    assert "cannot be extrapolated further" in ax.get_xlabel()
    (legend,) = ax.figure.legends
    assert {text.get_text() for text in legend.get_texts()} == set(told)
    with pytest.raises(rl.DataError, match="only one"):
        rl.plot_best_at(fits.select("best"))


def test_ranks_are_those_of_the_table(fits):
    ax = rl.plot_ranks(fits)
    assert names(ax) == list(KNOWN)
    ranks = fits.rank().loc[list(KNOWN), ["rank_1", "rank_2", "rank_3"]]
    np.testing.assert_array_equal(mesh(ax), ranks)
    assert ax.get_xlabel().endswith("not ranked: early, flat, apart")


def test_no_ranks_without_a_ceiling(fits):
    ax = rl.plot_ranks(rl.Fits([fits["early"], fits["flat"]]))
    assert texts(ax) == ["no ceiling is known yet"]


def test_bars_are_the_chance_of_the_highest_ceiling(fits):
    ax = rl.plot_best(fits)
    table = fits.rank()
    assert names(ax) == list(table.index)
    bars = [p for p in ax.patches if not p.get_hatch()]
    assert [bar.get_width() for bar in bars] == list(table["p_best"][:3])
    assert len([p for p in ax.patches if p.get_hatch()]) == 3
    assert [t for t in texts(ax) if t.startswith("cannot")] == [
        f"cannot be judged yet ({v})" for v in VERDICTS.values()
    ]


# Forest ---------------------------------------------------------------------------------------------------------------


def lines_of(ax, place):
    """What is drawn in a row: (grey?, ends) of its lines with two ends."""
    rows = [line for line in ax.lines if len(line.get_ydata()) == 2 and round(line.get_ydata()[0]) == place]
    return [(line.get_color() == GREY, tuple(line.get_xdata())) for line in rows]


@pytest.mark.parametrize("parameter", ["A", "B", "C_mid"])
def test_a_forest_has_posterior_and_prior(fits, parameter):
    ax = rl.plot_forest(fits, parameter, prob=0.8)
    assert names(ax) == list(CEILINGS)
    for place, fit in enumerate(fits.values()):
        (grey, prior), *posterior = lines_of(ax, place)
        assert grey
        assert prior == pytest.approx(np.quantile(fit.prior_draws()[parameter], [0.1, 0.9]))
        lower, _, upper = fit.interval(parameter, 0.8)
        drawn = fit.name in KNOWN or (parameter != "A" and fit.name != "apart")
        assert posterior == ([(fit.name not in KNOWN, (lower, upper))] if drawn else [])
    left_out = list(VERDICTS.values()) if parameter == "A" else ["NOT_CONVERGED"]
    assert texts(ax) == left_out


def test_priors_are_those_of_the_model(fits, exported):
    own = fits["best"].prior_draws()
    for name in ("A", "B", "C_mid", "R0", "sigma", "share", "length"):
        low, middle, high = np.quantile(own[name], [0.1, 0.5, 0.9])
        places = [(exported[name] < v).mean() for v in (low, middle, high)]
        assert places == pytest.approx([0.1, 0.5, 0.9], abs=0.04), name  # 2,000 and 4,200 draws: 3 errors are .03


def test_prior_draws_differ_for_another_prior(fits, exported):
    own = replace(fits["best"], priors=rl.SigmoidPriors(C_mid_origin=1000.0)).prior_draws()["C_mid"]
    assert abs((exported["C_mid"] < np.median(own)).mean() - 0.5) > 0.1


# Checks ---------------------------------------------------------------------------------------------------------------


def test_residuals_are_evaluations_minus_the_curve():
    fit = made_recipe("a", [0.6, 0.62])
    ax = rl.plot_residuals(fit)
    points = [line for line in ax.lines if line.get_linestyle() == "None"]
    for drawn, run in zip(points, fit.runs, strict=True):
        np.testing.assert_allclose(drawn.get_xdata(), run.compute)
        curve = fit.curve_at(run.compute, run=run.run)[1]
        np.testing.assert_allclose(drawn.get_ydata(), run.reward - curve, atol=1e-9)


def test_the_band_holds_what_it_says():
    fit = made_recipe("a", [0.6])
    (band,) = rl.plot_residuals(fit, prob=0.5).collections
    sigma = np.median(fit.draws["sigma"])
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(0.6745 * sigma, rel=0.05)


def pits_outside(fits, factor):
    """How far the pits of these runs leave their band, if the noise is taken for this many times what it is."""
    found = []
    for fit in fits:
        draws = {name: values[:, ::4] for name, values in fit.scaled_draws_of(fit.run_names[0]).items()}
        # The curve as good as known, and white noise, which made runs have.
        near = {"A": 0.6, "B": 1.8, "C_mid": 2000.0, "R0": 0.4}
        draws |= {name: value + 0.1 * (draws[name] - value) for name, value in near.items()}
        draws |= {"sigma": factor * draws["sigma"], "share": 1e-3 * draws["share"]}
        found.append(evaluation_pits(fit.data, 0, draws))
    pits = np.concatenate(found)
    places, lower, upper = simultaneous_band(len(pits))
    share = np.searchsorted(np.sort(pits), places, side="right") / len(pits)
    return max(np.max(lower - share), np.max(share - upper))


def test_pits_of_the_truth_stay_in_the_band_and_others_leave_it():
    fits = [made_fit([made_run("a", str(place), 0.6)], [0.6]) for place in range(12)]
    assert pits_outside(fits, 1.0) <= 0.0
    assert pits_outside(fits, 1.0 / 3.0) > 0.05
    assert pits_outside(fits, 3.0) > 0.05


def test_steps_are_the_pits(fits):
    ax = rl.plot_pit(fits["best"])
    steps = ax.lines[-1]
    pits = evaluation_pits(fits["best"].data, 0, fits["best"].scaled_draws_of("1"))
    np.testing.assert_array_equal(steps.get_xdata()[1:-1], np.sort(pits))


# Compute --------------------------------------------------------------------------------------------------------------


def test_a_line_is_the_chance_to_have_reached_the_target(fits):
    ax = rl.plot_compute_to_reach(fits, 0.645)
    drawn = {line.get_label().split(",")[0]: line for line in ax.lines}
    assert set(drawn) == {*KNOWN, "early"}
    for name, line in drawn.items():
        compute, share = line.get_xdata(), line.get_ydata()
        draws = draws_to_reach(fits[name], 0.645)
        assert share[200] == np.mean(draws <= compute[200])
        assert line.get_linestyle() == ("-" if name in KNOWN else "--")  # dotted has no name of its own
        assert compute[-1] == pytest.approx((10 if name in KNOWN else 2) * COMPUTE[-1])
    table = fits.compute_to_reach(0.645)
    assert f"close, never: {probability(table['p_never']['close'])}" in [line.get_label() for line in ax.lines]
    assert "not identified (PRE_INFLECTION)" in drawn["early"].get_label()
    assert ax.get_xlabel().endswith("left out, without a sigmoid: flat, apart")


def test_growth_draws_ceilings_that_are_known_and_boxes_for_others(fits):
    grown = Growth({0.3: rl.Fits([replace(fits["early"], name="best")]), 0.5: rl.Fits([]), 1.0: fits})
    ax = rl.plot_growth(grown, "best")
    (box,) = ax.patches
    lower, _, upper = fits["early"].interval("A")
    assert (box.get_y(), box.get_y() + box.get_height()) == pytest.approx((lower, upper))
    assert box.get_hatch()
    medians = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_ydata()[0] for line in medians] == [fits["best"].interval("A")[1]]
    (crosses,) = [line for line in ax.lines if line.get_marker() == "x"]
    assert list(crosses.get_ydata()) == list(grown.table().query("recipe == 'best'")["A_least_squares"])
    assert not [line for line in rl.plot_growth(grown, "best", least_squares=False).lines if line.get_marker() == "x"]


def test_nothing_is_drawn_where_chains_do_not_agree(fits):
    ax = rl.plot_growth(Growth({1.0: fits}), "apart", least_squares=False)
    assert ax.patches[:] == []
    assert [line.get_marker() for line in ax.lines] == ["."]


NASTY = ("<script>alert(1)</script>", "x" * 200, "$a_{b}$ \\frac", "quo\"te's & more", "two\nlines")


@pytest.fixture(scope="module")
def nasty():
    return rl.Fits([made_recipe(name, [0.6]) for name in (*NASTY, "best")])


@pytest.mark.parametrize("plot", PLOTS)
def test_names_of_any_kind_fit(nasty, plot):
    all_inside(PLOTS[plot](nasty, None).figure)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda f: rl.plot_forest(f, "D"), "plot_forest has no parameter 'D'; it has: A, B, C_mid."),
        (lambda f: rl.plot_forest({}), "plot_forest: there are no fits to draw; give at least one."),
        (
            lambda f: rl.plot_compute_to_reach(f, 1.5),
            "target=1.5 is not inside the bounds of the reward, 0 to 1; give a reward that is.",
        ),
        (lambda f: rl.plot_growth(Growth({1.0: f}), "bset"), "this growth has no recipe 'bset' (did you mean 'best'?)"),
        (lambda f: rl.plot_pit(f["best"], prob=0), "plot_pit: prob=0 is not between 0 and 1"),
    ],
)
def test_bad_requests(fits, ask, sentence):
    with pytest.raises(rl.DataError) as error:
        ask(fits)
    assert str(error.value).startswith(sentence)
