"""What is drawn, and above all what is not."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.stats import norm

import rlceiling as rl
from handmade import COMPUTE, given, made_fit, made_recipe, made_run
from rlceiling.models.paths import paths_at_evaluations
from rlceiling.posterior.predictive_checks import evaluation_pits
from rlceiling.report.style import COLOURS
from rlceiling.text import number, probability

NAMES = ("ScaleRL", "Magistral", "ScaleRL-34k")


@pytest.fixture(scope="module")
def fits():
    """Two recipes with a known ceiling, and one that stops too early; the computes of no two are the same."""
    made = []
    for name, ceiling, ends, verdict in (
        ("ScaleRL", 0.605, (1020.0, 7700.0), rl.Verdict.IDENTIFIED),
        ("Magistral", 0.53, (1180.0, 7100.0), rl.Verdict.IDENTIFIED),
        ("ScaleRL-34k", 0.7, (1040.0, 3400.0), rl.Verdict.PRE_INFLECTION),
    ):
        made.append(made_fit([made_run(name, "0", ceiling, np.geomspace(*ends, 14))], [ceiling], verdict=verdict))
    fits = rl.Fits(made)
    assert [v.name for v in fits.verdicts.values()] == ["IDENTIFIED", "IDENTIFIED", "PRE_INFLECTION"]
    return fits


def in_percent(fit):
    """The same recipe with rewards between 0 and 100 and compute in FLOPs."""
    factor = {"A": 100, "R0": 100, "sigma": 100, "C_mid": 1e18}
    return replace(
        fit,
        units=replace(fit.units, compute="FLOPs", reward="score", bounds=(0.0, 100.0)),
        runs=tuple(replace(run, compute=run.compute * 1e18) for run in fit.runs),
        draws={name: values * factor.get(name, 1) for name, values in fit.draws.items()},
        unit_draws={name: values * factor.get(name, 1) for name, values in fit.run_draws.items()},
    )


def curves(fits, **options):
    """The whole figure of a plot of curves."""
    return rl.plot_curves(fits, **options).figure


def axes_of(figure):
    (ax,) = figure.axes
    return ax


def lines_and_points(ax):
    """Curves, and markers of evaluations, of the axes themselves."""
    drawn = [line for line in ax.lines if line.get_transform() == ax.transData]
    return [li for li in drawn if li.get_linestyle() != "None"], [li for li in drawn if li.get_linestyle() == "None"]


def lines_beyond(ax, compute):
    """Lines of the curve that reach beyond a compute."""
    return [line for line in ax.lines if line.get_transform() == ax.transData and line.get_xdata().max() > compute]


def bars(ax):
    """Intervals drawn outside the right edge: their colours and ends."""
    outside = [line for line in ax.lines if line.get_transform() != ax.transData and min(line.get_xdata()) > 1]
    return {to_hex(line.get_color()): list(line.get_ydata()) for line in outside if len(line.get_ydata()) == 2}


def all_inside(figure):
    """Fail if anything leaves the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.get_tightbbox(canvas.get_renderer())
    assert min(box.x0, box.y0) >= 0
    assert box.x1 <= figure.get_figwidth()
    assert box.y1 <= figure.get_figheight()


def test_points_are_the_evaluations(fits):
    ax = axes_of(curves(fits))
    for name, label in zip(NAMES, ax.get_legend_handles_labels()[0], strict=True):
        (run,) = fits[name].runs
        np.testing.assert_array_equal(label.get_xdata(), run.compute)
        np.testing.assert_array_equal(label.get_ydata(), run.reward)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("gpu_hours", "pass_rate", "log")


def test_only_known_ceilings_are_drawn(fits):
    figure = curves(fits, prob=0.8)
    expected = {}
    for colour, name in zip(COLOURS, NAMES[:2], strict=False):
        lower, _, upper = fits[name].interval("A", 0.8)
        expected[colour.lower()] = [lower, upper]
    assert bars(axes_of(figure)) == expected
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[2] == "ScaleRL-34k: not identified (PRE_INFLECTION)"
    assert labels[0] == "ScaleRL: ceiling {} {}".format(*fits["ScaleRL"].quoted_ceiling(0.8))


def test_the_curve_is_the_forecast(fits):
    ax = axes_of(curves({"ScaleRL": fits["ScaleRL"]}, until=50_000, prob=0.5))
    row = fits.forecast(50_000, prob=0.5).iloc[0]  # the run that goes on
    ends = [v for v in ax.collections[-1].get_paths()[0].vertices if v[0] == pytest.approx(50_000)]
    assert sorted({round(y, 6) for _, y in ends}) == pytest.approx([row["lower"], row["upper"]], abs=8e-4)
    (dashed,) = lines_beyond(ax, fits["ScaleRL"].largest_compute * 1.001)
    assert dashed.is_dashed()
    assert ax.get_xlim()[1] == 50_000


def test_forecast_of_a_run_starts_from_its_level(fits):
    """The curve alone, which the last evaluation has left, would start elsewhere."""
    (run,) = fits["ScaleRL"].runs
    above = replace(run, reward=run.reward + np.where(run.compute > 5000.0, 0.01, 0.0))
    moved = replace(fits["ScaleRL"], runs=(above,))
    last = moved.largest_compute
    (dashed,) = lines_beyond(axes_of(curves({"ScaleRL": moved}, until=50_000)), last * 1.001)
    level = rl.Fits([moved]).forecast(last, prob=0.5).iloc[0]["mean"]
    assert dashed.get_ydata()[0] == pytest.approx(level, abs=1e-3)
    assert dashed.get_ydata()[0] > moved.reached + 0.002


def test_what_all_were_fitted_to_is_shaded(fits):
    (shade,) = curves(fits).axes[0].patches
    first, last = shade.get_x(), shade.get_x() + shade.get_width()
    assert first == max(fit.first_compute for fit in fits.values())
    assert last == pytest.approx(min(fit.largest_compute for fit in fits.values()))


def test_single_recipe_plot_has_two_forecast_bands(fits):
    inner, outer = (rl.Fits([fits["ScaleRL"]]).forecast(50_000, p).iloc[0] for p in (0.5, 0.9))
    bands = rl.plot_curves(fits["ScaleRL"], until=50_000).collections
    ends = [[y for x, y in band.get_paths()[0].vertices if x == pytest.approx(50_000)] for band in bands[2:]]
    for found, row in zip(ends, (outer, inner), strict=True):
        assert (min(found), max(found)) == pytest.approx((row["lower"], row["upper"]), abs=1e-3)


def test_no_line_leads_to_an_unknown_ceiling(fits):
    fit = fits["ScaleRL-34k"]
    ax = axes_of(curves({"ScaleRL-34k": fit}))
    assert lines_beyond(ax, fit.largest_compute * 1.001) == []
    assert bars(ax) == {}
    beyond, hatched = ax.collections[-2:]
    assert [band.get_hatch() for band in ax.collections[:-1]] == [None] * (len(ax.collections) - 1)
    assert hatched.get_hatch() == "///"
    assert len(hatched.get_facecolor()) == 0
    red, green, blue, opacity = beyond.get_facecolor()[0]
    assert red == green == blue
    assert opacity < 0.2
    assert "cannot be known" in ax.get_title(loc="left")
    assert "dashed" not in ax.get_title(loc="left")


def test_no_extrapolation_without_a_rise(fits):
    flat = replace(fits["ScaleRL"], rules=rl.VerdictRules(min_p_rise=1.1))
    ax = axes_of(curves({"ScaleRL": flat}))
    assert (len(ax.collections), bars(ax)) == (2, {})  # with probability .9 and .5
    assert lines_beyond(ax, flat.largest_compute * 1.001) == []


def test_only_data_without_convergence(fits):
    bad = replace(fits["ScaleRL"], rules=rl.VerdictRules(min_ess=1e9))
    ax = axes_of(curves({"ScaleRL": bad}))
    assert (len(ax.collections), bars(ax)) == (0, {})
    assert lines_and_points(ax)[0] == []
    assert ax.get_title(loc="left") == "Evaluations only: the chains do not agree"


def test_step_0(fits):
    fit = fits["ScaleRL"]
    ax = axes_of(curves({"ScaleRL": fit}))
    assert [0.4, 0.4] in [list(line.get_ydata()) for line in ax.lines if line.get_xdata()[0] == 0]
    assert [text.get_text() for text in ax.texts] == ["ceiling", "step 0"]
    without = replace(fit, runs=tuple(replace(run, start=None) for run in fit.runs))
    assert [text.get_text() for text in axes_of(curves({"ScaleRL": without})).texts] == ["ceiling"]


@pytest.mark.parametrize("copies", [1, 2, 3, 5])
def test_layout(fits, copies):
    many = {f"{k} {n}": replace(f, name=f"{k} {n}") for k in range(copies) for n, f in fits.items()}
    # Known, for to compute each costs as much as its picture.
    many = {n: given(fit, verdict=fits[NAMES[place % 3]].verdict) for place, (n, fit) in enumerate(many.items())}
    figure = curves(many) if len(many) <= 6 else rl.plot_panels(many)
    all_inside(figure)
    drawn = [ax for ax in figure.axes if ax.axison]
    assert len(drawn) == (1 if len(many) <= 6 else len(many))
    if len(many) > 6:
        assert [ax.get_title(loc="left").split("\n")[0] for ax in drawn] == list(many)
        assert len({(*ax.get_xlim(), *ax.get_ylim()) for ax in drawn}) == 1
        assert [len(bars(ax)) for ax in drawn] == [1, 1, 0] * copies
    assert len(figure.axes) - len(drawn) < 5


def test_other_units(fits):
    figure = curves({name: in_percent(fit) for name, fit in fits.items()})
    ax = axes_of(figure)
    all_inside(figure)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("FLOPs", "score")
    for (_, ends), name in zip(bars(ax).items(), NAMES[:2], strict=True):
        lower, _, upper = fits[name].interval("A")
        assert ends == pytest.approx([100 * lower, 100 * upper])
    assert figure.legends[0].get_texts()[0].get_text().startswith("ScaleRL: ceiling 60.")


def test_names_are_not_parsed_as_mathtext(fits):
    figure = curves({"a": replace(fits["ScaleRL"], name="$a_{$b")})
    figure.draw_without_rendering()
    assert figure.legends[0].get_texts()[0].get_text().startswith(r"\$a_{\$b")


def test_until_within_the_data(fits):
    ax = axes_of(curves({"ScaleRL": fits["ScaleRL"]}, until=4000))
    assert ax.get_xlim()[1] == 4000
    assert len(ax.collections) == 2  # with probability .9 and .5
    assert ax.get_title(loc="left") == "Fitted curves (solid) with 90% bands"


def test_own_axes_and_no_global_state(fits, tmp_path):
    before = plt.get_fignums()
    own = Figure()
    ax = own.add_subplot()
    assert rl.plot_curves(fits, ax=ax) is ax
    assert len(ax.get_legend().get_texts()) == 3
    alone = rl.plot_curves(fits)
    figure = alone.figure
    assert alone._repr_png_().startswith(b"\x89PNG")
    assert figure._repr_png_().startswith(b"\x89PNG")
    for ending in ("png", "pdf", "svg"):
        figure.savefig(tmp_path / f"plot.{ending}")
    assert plt.get_fignums() == before


def test_pits_are_places_in_the_prediction_without_the_evaluation_itself(fits):
    fit = fits["ScaleRL"]
    (run,) = fit.run_names
    pits = evaluation_pits(fit.data, 0, fit.scaled_draws_of(run))
    draws = {name: values.reshape(-1) for name, values in fit.scaled_draws_of(run).items()}
    paths = paths_at_evaluations(fit.data, 0, draws)
    weight = np.exp(-paths.log_prob)  # of all draws, not smoothed
    left_out = (weight * norm.cdf(paths.innovation)).sum(axis=0) / weight.sum(axis=0)
    np.testing.assert_allclose(pits, left_out, atol=0.05)
    own = norm.cdf(paths.innovation).mean(axis=0)
    assert np.mean(np.abs(pits - 0.5)) > np.mean(np.abs(own - 0.5))  # an evaluation draws its prediction to itself


# Several runs of a recipe ---------------------------------------------------------------------------------------------

CEILINGS = (0.60, 0.62, 0.58)
LATE = COMPUTE[5:] * 1.1


@pytest.fixture(scope="module")
def seeds():
    """Three runs, of which the last starts late and goes on longest."""
    runs = [made_run("a", str(i), A, LATE if i == 3 else COMPUTE) for i, A in enumerate(CEILINGS, start=1)]
    return made_fit(runs, CEILINGS, verdict=rl.Verdict.IDENTIFIED)


def test_every_run_has_its_points_and_a_thin_line(seeds):
    figure = curves({"a": seeds}, until=2 * LATE[-1])
    ax = axes_of(figure)
    all_inside(figure)
    (recipe, *own, beyond), points = lines_and_points(ax)
    assert len(points) == len(own) == 3
    for run, drawn, line in zip(seeds.runs, points, own, strict=True):
        np.testing.assert_array_equal(drawn.get_xdata(), run.compute)
        np.testing.assert_array_equal(drawn.get_ydata(), run.reward)
        assert (line.get_xdata()[0], line.get_xdata()[-1]) == pytest.approx((run.compute[0], run.compute[-1]))
        told = rl.Fits([seeds]).forecast(run.compute[-1], of="runs").set_index("run")
        assert line.get_ydata()[-1] == pytest.approx(told.loc[run.run, "mean"], abs=0.001)
        assert line.get_linewidth() < 0.5 * recipe.get_linewidth()
    assert {to_hex(line.get_color()) for line in (recipe, *own, beyond, *points)} == {COLOURS[0].lower()}
    # One name for all of them, and bars of the recipe's ceiling.
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "a: ceiling {} {}".format(*seeds.quoted_ceiling()),
    ]
    lower, _, upper = seeds.interval("A")
    assert bars(ax) == {COLOURS[0].lower(): [lower, upper]}


def test_line_and_band_are_those_of_the_recipe(seeds):
    ax = axes_of(curves({"a": seeds}, until=100_000, prob=0.5))
    recipe, *_, beyond = lines_and_points(ax)[0]
    assert (recipe.get_xdata()[0], recipe.get_xdata()[-1]) == pytest.approx((COMPUTE[0], LATE[-1]))
    assert (beyond.get_xdata()[0], beyond.get_xdata()[-1]) == pytest.approx((LATE[-1], 100_000))
    assert beyond.is_dashed()
    assert not recipe.is_dashed()
    row = rl.Fits([seeds]).forecast(100_000, prob=0.5).iloc[0]
    ends = [v for v in ax.collections[-1].get_paths()[0].vertices if v[0] == pytest.approx(100_000)]
    assert sorted({round(y, 6) for _, y in ends}) == pytest.approx([row["lower"], row["upper"]], abs=1e-4)
    assert beyond.get_ydata()[-1] == pytest.approx(row["mean"], abs=1e-3)


def test_runs_that_start_after_the_end_of_the_plot_have_no_line(seeds):
    until = float(LATE[0]) * 0.9
    ax = axes_of(curves({"a": seeds}, until=until))
    (_, *own), points = lines_and_points(ax)
    assert (len(own), len(points)) == (2, 3)
    assert all(line.get_xdata().max() <= until * (1 + 1e-9) for line in own)


def test_only_data_of_every_run_without_convergence(seeds):
    bad = replace(seeds, rules=rl.VerdictRules(min_ess=1e9))
    lines, points = lines_and_points(axes_of(curves({"a": bad})))
    assert (len(lines), len(points)) == (0, 3)


def test_different_starts_are_marked_once_each(seeds):
    one, two, three = seeds.runs
    other = replace(seeds, runs=(one, two, replace(three, start=(0.41, np.nan))))
    ax = axes_of(curves({"a": other}))
    marks = [list(line.get_ydata()) for line in ax.lines if len(line.get_xdata()) and line.get_xdata()[0] == 0]
    assert sorted(marks) == [[0.4, 0.4], [0.41, 0.41]]
    assert [text.get_text() for text in ax.texts] == ["ceiling", "step 0"]


def test_panels_of_recipes_with_several_runs(seeds):
    many = {name: made_recipe(name, CEILINGS, verdict=rl.Verdict.IDENTIFIED) for name in "abcde"}
    figure = rl.plot_panels(many)
    all_inside(figure)
    for ax, fit in zip(figure.axes, many.values(), strict=False):
        lines, points = lines_and_points(ax)
        assert (len(lines), len(points)) == (1 + 3 + 1, 3)
        assert ax.get_title(loc="left").startswith(f"{fit.name}\nceiling ")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"until": 0},
            "plot_curves: until=0 is not beyond the first evaluation of 'ScaleRL', at 1,020 gpu_hours; "
            "give a larger compute.",
        ),
        (
            {"until": 1050},
            "plot_curves: until=1050 is not beyond the first evaluation of 'Magistral', at 1,180 gpu_hours; "
            "give a larger compute.",
        ),
        (
            {"until": float("nan")},
            "plot_curves: until=nan is not beyond the first evaluation of 'ScaleRL', at 1,020 gpu_hours; "
            "give a larger compute.",
        ),
        ({"prob": 1.0}, "plot_curves: prob=1.0 is not between 0 and 1; give the probability of the interval."),
    ],
)
def test_bad_requests(fits, given, sentence):
    with pytest.raises(rl.DataError) as error:
        rl.plot_curves(fits, **given)
    assert str(error.value) == sentence


def test_nothing_to_draw():
    with pytest.raises(rl.DataError, match="no fits to draw"):
        rl.plot_curves({})


def test_numbers():
    shown = [number(v) for v in (0.03524, 0.5, 9.4, 605.2, 1023.0, 20_615.8, 2.57e22)]
    assert shown == ["0.0352", "0.5", "9.4", "605", "1,020", "20,600", "2.57e+22"]
    assert [probability(v) for v in (1.0, 0.9951, 0.99, 0.005, 0.0049, float("nan"))] == [
        *(">0.99", ">0.99", "0.99", "0.01", "<0.01", "?"),
    ]
