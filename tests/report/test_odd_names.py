"""Names that once broke the page, and figures that cannot be drawn: the rest of the page stands."""

from __future__ import annotations

from pathlib import Path

import pytest

import rlceiling as rl
from handmade import made_recipe
from rlceiling.report import page
from rlceiling.report.style import plain


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("_a", r"$\_$a"),
        ("__init__", r"$\_$_init__"),
        ("a_b", "a_b"),
        ("a$b", r"a\$b"),
        ("a\x1b[1m\x00\ud800", "a\ufffd[1m\ufffd\ufffd"),
    ],
)
def test_names_as_they_are_drawn(name: str, shown: str) -> None:
    assert plain(name) == shown


def test_odd_names_are_all_in_the_page(tmp_path: Path) -> None:
    """Warnings are errors here, also those of glyphs that a font lacks."""
    names = ["_hidden", "🚀 x", "a\x1bb"]
    rl.write_report(rl.Fits([made_recipe(name, [0.6]) for name in names]), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert text.count("could not be drawn") == 0
    for place in (1, 2, 3):
        assert f'id="r{place}-' in text
    for part in ("_hidden", "🚀 x", "a\ufffdb"):
        assert part in text


def test_a_figure_that_cannot_be_drawn_is_told_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = page.plot_residuals

    def broken(fit: rl.Fit, **options: object) -> object:
        if fit.name == "bad":
            raise OverflowError("<infinity>")
        return draw(fit, **options)

    monkeypatch.setattr(page, "plot_residuals", broken)
    with pytest.warns(UserWarning, match=r"r\d-residuals: This figure could not be drawn \(OverflowError"):
        rl.write_report(rl.Fits([made_recipe(name, [0.6]) for name in ("bad", "good")]), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert text.count("This figure could not be drawn (OverflowError: &lt;infinity&gt;).") == 1
    assert text.count("Evaluations minus curve.") >= 2
