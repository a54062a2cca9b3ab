"""What is drawn, and above all what is not."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import rlceiling as rl
from rlceiling.report.plots import COLOURS
from rlceiling.report.text import ceiling, number, probability

NAMES = ("ScaleRL", "Magistral", "ScaleRL-34k")


@pytest.fixture(scope="module")
def fits():
    fits = rl.fit(rl.load_dataset("scalerl").select(*NAMES))
    assert [v.name for v in fits.verdicts.values()] == ["IDENTIFIED", "IDENTIFIED", "PRE_INFLECTION"]
    return fits


def in_percent(fit):
    """The same run with rewards between 0 and 100 and compute in FLOPs."""
    factor = {"A": 100, "R0": 100, "sigma": 100, "C_mid": 1e18}
    return replace(
        fit,
        units=replace(fit.units, compute="FLOPs", reward="score", bounds=(0.0, 100.0)),
        evaluations=replace(fit.evaluations, compute=fit.evaluations.compute * 1e18),
        draws={name: values * factor.get(name, 1) for name, values in fit.draws.items()},
    )


def axes_of(figure):
    (ax,) = figure.axes
    return ax


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
    ax = axes_of(rl.plot_curves(fits))
    for name, label in zip(NAMES, ax.get_legend_handles_labels()[0], strict=True):
        run = fits[name].evaluations
        np.testing.assert_array_equal(label.get_xdata(), run.compute)
        np.testing.assert_array_equal(label.get_ydata(), run.reward)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("gpu_hours", "pass_rate", "log")


def test_only_known_ceilings_are_drawn(fits):
    figure = rl.plot_curves(fits, prob=0.8)
    expected = {}
    for colour, name in zip(COLOURS, NAMES[:2], strict=False):
        lower, _, upper = fits[name].interval("A", 0.8)
        expected[colour.lower()] = [lower, upper]
    assert bars(axes_of(figure)) == expected
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[2] == "ScaleRL-34k: not identified (PRE_INFLECTION)"
    assert labels[0] == "ScaleRL: ceiling {} {}".format(*ceiling(fits["ScaleRL"], 0.8))


def test_the_curve_is_the_forecast(fits):
    ax = axes_of(rl.plot_curves({"ScaleRL": fits["ScaleRL"]}, until=50_000, prob=0.5))
    row = fits.forecast(50_000, prob=0.5).iloc[0]
    ends = [v for v in ax.collections[-1].get_paths()[0].vertices if v[0] == pytest.approx(50_000)]
    assert sorted({round(y, 6) for _, y in ends}) == pytest.approx([row["lower"], row["upper"]], abs=1e-4)
    (dashed,) = lines_beyond(ax, fits["ScaleRL"].evaluations.compute[-1] * 1.001)
    assert dashed.is_dashed()
    assert ax.get_xlim()[1] == 50_000


def test_no_line_leads_to_an_unknown_ceiling(fits):
    fit = fits["ScaleRL-34k"]
    ax = axes_of(rl.plot_curves({"ScaleRL-34k": fit}))
    assert lines_beyond(ax, fit.evaluations.compute[-1] * 1.001) == []
    assert bars(ax) == {}
    fitted, beyond = ax.collections
    assert (fitted.get_hatch(), beyond.get_hatch()) == (None, "///")
    red, green, blue, opacity = beyond.get_facecolor()[0]
    assert red == green == blue
    assert opacity < 0.2
    assert "cannot be known" in ax.get_title(loc="left")
    assert "dashed" not in ax.get_title(loc="left")


def test_no_extrapolation_without_a_rise(fits):
    flat = replace(fits["ScaleRL"], rules=rl.VerdictRules(min_p_rise=1.1))
    ax = axes_of(rl.plot_curves({"ScaleRL": flat}))
    assert (len(ax.collections), bars(ax)) == (1, {})
    assert lines_beyond(ax, flat.evaluations.compute[-1] * 1.001) == []


def test_only_data_without_convergence(fits):
    bad = replace(fits["ScaleRL"], rules=rl.VerdictRules(min_ess=1e9))
    ax = axes_of(rl.plot_curves({"ScaleRL": bad}))
    assert (len(ax.collections), bars(ax)) == (0, {})
    assert [line for line in ax.lines if line.get_transform() == ax.transData and line.get_linestyle() != "None"] == []
    assert ax.get_title(loc="left") == "Evaluations only: the chains do not agree"


def test_step_0(fits):
    fit = fits["ScaleRL"]
    ax = axes_of(rl.plot_curves({"ScaleRL": fit}))
    assert [0.4004, 0.4004] in [list(line.get_ydata()) for line in ax.lines if line.get_xdata()[0] == 0]
    assert [text.get_text() for text in ax.texts] == ["ceiling", "step 0"]
    without = replace(fit, evaluations=replace(fit.evaluations, start=None))
    assert [text.get_text() for text in axes_of(rl.plot_curves({"ScaleRL": without})).texts] == ["ceiling"]


@pytest.mark.parametrize("copies", [1, 2, 3, 8])
def test_layout(fits, copies):
    many = {f"{k} {n}": replace(f, name=f"{k} {n}") for k in range(copies) for n, f in fits.items()}
    figure = rl.plot_curves(many)
    all_inside(figure)
    drawn = [ax for ax in figure.axes if ax.axison]
    assert len(drawn) == (1 if len(many) <= 6 else len(many))
    if len(many) > 6:
        assert [ax.get_title(loc="left").split("\n")[0] for ax in drawn] == list(many)
        assert len({(*ax.get_xlim(), *ax.get_ylim()) for ax in drawn}) == 1
        assert [len(bars(ax)) for ax in drawn] == [1, 1, 0] * copies
    assert len(figure.axes) - len(drawn) < 5


def test_other_units(fits):
    figure = rl.plot_curves({name: in_percent(fit) for name, fit in fits.items()})
    ax = axes_of(figure)
    all_inside(figure)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("FLOPs", "score")
    for (_, ends), name in zip(bars(ax).items(), NAMES[:2], strict=True):
        lower, _, upper = fits[name].interval("A")
        assert ends == pytest.approx([100 * lower, 100 * upper])
    assert figure.legends[0].get_texts()[0].get_text().startswith("ScaleRL: ceiling 60.")


def test_names_are_no_formulas(fits):
    figure = rl.plot_curves({"a": replace(fits["ScaleRL"], name="$a_{$b")})
    figure.draw_without_rendering()
    assert figure.legends[0].get_texts()[0].get_text().startswith(r"\$a_{\$b")


def test_until_within_the_data(fits):
    ax = axes_of(rl.plot_curves({"ScaleRL": fits["ScaleRL"]}, until=4000))
    assert ax.get_xlim()[1] == 4000
    assert len(ax.collections) == 1
    assert ax.get_title(loc="left") == "Fitted curves (solid) with 90% bands"


def test_own_axes_and_no_global_state(fits, tmp_path):
    before = plt.get_fignums()
    own = Figure()
    ax = own.add_subplot()
    assert rl.plot_curves(fits, ax=ax) is own
    assert len(ax.get_legend().get_texts()) == 3
    figure = rl.plot_curves(fits)
    assert figure._repr_png_().startswith(b"\x89PNG")
    for ending in ("png", "pdf", "svg"):
        figure.savefig(tmp_path / f"plot.{ending}")
    assert plt.get_fignums() == before


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
