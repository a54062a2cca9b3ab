"""The report: one file, whole in itself, harmless whatever recipes are called."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

import rlceiling as rl
from handmade import made_recipe
from handmade_sizes import LENIENT, made_sizes
from recipes import made_fits
from rlceiling.calibration.growth import Growth
from rlceiling.cli import app
from rlceiling.report.size_tables import headline
from rlceiling.text import interval, number, probability

NASTY = ("<script>alert(1)</script> quo\"te's & co", f"rocket \U0001f680 {'x' * 200}", "$a_{b}$ </svg></style>")

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """A page as a tree that must close what it opens."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(self.html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open[-1] not in ("style", "script"):
            self.texts.append(" ".join(data.split()))
        if self.rows and {"td", "th"} & set(self.open):
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data.strip()}".strip()

    def named(self, name: str) -> list[str]:
        return [value for attribute, value in self.attributes if attribute == name]


@pytest.fixture(scope="module")
def fits() -> rl.Fits:
    return made_fits()


@pytest.fixture(scope="module")
def page(fits: rl.Fits, tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("report") / "report.html"
    early = replace(fits["early"], name="best")
    grown = Growth({0.5: rl.Fits([early]), 1.0: fits})
    rl.write_report(
        fits, path, margin=0.01, target=0.6, growth=grown, command="rlceiling report x -o report.html", progress=False
    )
    return Page(path)


def test_it_opens_with_the_answer(page: Page, fits: rl.Fits) -> None:
    start = page.texts.index("How it was made") + 1
    answer = fits.answer(0.01)
    assert page.texts[start : start + len(answer)] == answer


def test_the_table_says_what_the_library_says(page: Page, fits: rl.Fits) -> None:
    header = page.rows[0]
    rows = {row[0]: dict(zip(header, row, strict=True)) for row in page.rows[1 : 1 + len(fits)]}
    assert list(rows) == list(fits)
    for name, fit in fits.items():
        row = rows[name]
        assert row["verdict"] == fit.verdict.name
        void = fit.verdict is rl.Verdict.NOT_CONVERGED
        assert row["A"] == ("-" if void else " ".join(filter(None, fit.quoted_ceiling())))
        assert row["compute so far (gpu_hours)"] == number(fit.largest_compute)
        ahead = fits.forecast(2 * fit.largest_compute, of="runs").set_index("recipe").loc[name]
        told = " ".join(
            interval(ahead["lower"], fit.curve_at([2 * fit.largest_compute])[1][0], ahead["upper"], fit.units.show)
        )
        assert row["curve at 2 x that"] == ("-" if void else told)
    assert rows["early"]["what to do"] == fits["early"].advice()
    assert (rows["best"]["what to do"], rows["early"]["chance of the highest ceiling"]) == ("", "?")


def test_every_recipe_has_its_page(page: Page, fits: rl.Fits) -> None:
    for place, fit in enumerate(fits.values(), start=1):
        assert f"recipe-{place}" in page.named("id")
        assert f"#recipe-{place}" in page.named("href")
        assert fit.sentence() in page.texts
    # Eight of all recipes, three of each, and what was known of each when it was shorter.
    assert page.tags.count("svg") == page.tags.count("figure") == 8 + 4 * len(fits)
    assert all(page.named("aria-label"))


def test_it_says_how_it_was_made(page: Page, fits: rl.Fits) -> None:
    assert "rlceiling report x -o report.html" in page.texts
    assert page.texts[page.texts.index("seed") + 1] == "0"
    for prior in rl.SigmoidPriors().shown().values():
        assert prior in page.texts
    for verdict in rl.Verdict:
        assert f"{verdict.sentence} {verdict.advice}" in page.texts


def test_report_has_no_external_resources(page: Page) -> None:
    links = page.named("href") + page.named("src") + page.named("xlink:href")
    assert all(link.startswith("#") for link in links)
    targets = set(page.named("id"))
    assert {link[1:] for link in links} <= targets
    assert len(page.named("id")) == len(targets)  # those of pictures too
    assert set(re.findall(r"url\((.)", page.html)) == {"#"}
    assert {used[1:] for used in re.findall(r"url\((#[^)]*)\)", page.html)} <= targets
    assert "@import" not in page.html
    assert not re.search(r"https?://", page.html)


def test_only_its_own_script_may_run(page: Page) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", page.html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.html
    assert "default-src 'none'" in page.html


def test_names_of_any_kind_are_harmless(tmp_path: Path) -> None:
    fits = rl.Fits([made_recipe(name, [0.6 + 0.01 * i]) for i, name in enumerate(NASTY)])
    rl.write_report(fits, tmp_path / "r.html", title="<b>&", command="rm -rf '<x>'", progress=False)
    page = Page(tmp_path / "r.html")
    assert page.tags.count("script") == 1
    assert "b" not in page.tags
    for name in NASTY:
        assert name in page.texts
    assert "<b>&" in page.texts
    assert "rm -rf '<x>'" in page.texts


def test_several_runs_and_a_single_recipe(tmp_path: Path) -> None:
    rl.write_report(rl.Fits([made_recipe("a", [0.6, 0.61, 0.62])]), tmp_path / "r.html", progress=False)
    page = Page(tmp_path / "r.html")
    assert [row[0] for row in page.rows if row[0] in ("run", "1", "2", "3")] == ["run", "1", "2", "3"]
    assert page.tags.count("svg") == 4 + 3  # nothing is compared


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"margin": float("nan")}, "margin=nan is not a finite difference"),
        ({"target": 2.0}, "target=2.0 is not inside the bounds of the reward, 0 to 1"),
        (
            {"path": "nowhere/r.html"},
            "r.html would lie in nowhere, which is no folder; name a file such as report.html",
        ),
        ({"path": "."}, " is a folder; name a file such as report.html."),
        ({"fits": rl.Fits([])}, "write_report: there are no fits to report on; give at least one."),
    ],
)
def test_bad_requests(
    fits: rl.Fits, options: dict[str, object], sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(rl.DataError) as error:
        rl.write_report(**{"fits": fits, "path": "r.html"} | options)  # type: ignore[arg-type]
    assert sentence in str(error.value)
    assert list(tmp_path.iterdir()) == []


# The command ----------------------------------------------------------------------------------------------------------


def test_command_from_kept_fits(fits: rl.Fits, tmp_path: Path) -> None:
    kept = rl.Fits([fits["best"], fits["early"]])
    kept.save(tmp_path / "fits")
    result = CliRunner().invoke(
        app, ["report", str(tmp_path / "fits"), "-o", str(tmp_path / "r.html"), "--title", "Mine"]
    )
    assert result.exit_code == 0, result.output
    loaded = rl.load_fits(tmp_path / "fits")
    assert result.stdout.splitlines() == [*loaded.answer(), f"wrote {tmp_path / 'r.html'}"]
    assert "Mine" in Page(tmp_path / "r.html").texts


def test_command_that_cannot_go_on_says_so_first(tmp_path: Path) -> None:
    def ask(*more: str) -> str:
        result = CliRunner().invoke(app, ["report", "scalerl", "-o", str(tmp_path / "no" / "r.html"), *more])
        assert result.exit_code == 2
        return result.stderr

    assert "which is no folder" in ask()
    assert "margin=" in ask("--margin", "nan")
    result = CliRunner().invoke(app, ["report", "scalerl", "-o", str(tmp_path / "r.html"), "--target", "7"])
    assert (result.exit_code, "target=7.0 is not inside the bounds" in result.stderr) == (2, True)


def test_command_that_is_stopped_reports_what_is_done(
    fits: rl.Fits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> rl.Fits:
        raise rl.FitInterrupted(rl.Fits([fits["best"]]), 23)

    monkeypatch.setattr("rlceiling.fitting.fit_recipes.fit", stopped)
    result = CliRunner().invoke(app, ["report", "scalerl", "-o", str(tmp_path / "r.html"), "--quiet"])
    assert (result.exit_code, result.stderr) == (130, "rlceiling: stopped before all recipes were fitted\n")
    assert fits["best"].sentence() in Page(tmp_path / "r.html").texts


# Laws across model sizes ----------------------------------------------------------------------------------------------

NASTY_SIZE = "size <b>&"
NOTE = "drop: left out run '<i>2</i>' of recipe 'a'"


@pytest.fixture(scope="module")
def law() -> rl.Sizes:
    return made_sizes(name=NASTY_SIZE, notes=(NOTE,))


@pytest.fixture(scope="module")
def law_page(law: rl.Sizes, tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("sizes") / "report.html"
    rl.write_report(rl.Fits(), path, sizes=[law], progress=False)
    return Page(path)


def test_report_of_a_law_alone(law_page: Page, law: rl.Sizes) -> None:
    assert law.verdict is rl.SizeVerdict.SATURATION_SEEN
    assert "Power law across 5 model sizes" in law_page.texts
    assert f"flops and pass_rate of 5 sizes: {law.sentence()}" in law_page.texts
    assert f"{NOTE}." in law_page.texts
    assert law_page.texts.count(law.verdict.name) == 2  # of the law, and in the list of verdicts
    assert {"Every recipe", "Recipe by recipe", "Pictures"}.isdisjoint(law_page.texts)
    assert not [v for v in rl.Verdict if v.name in law_page.texts and v.name != "NOT_CONVERGED"]
    assert law_page.tags.count("svg") == law_page.tags.count("figure") == 3
    assert {"b", "i"}.isdisjoint(law_page.tags)


def test_table_of_sizes_in_the_report(law_page: Page, law: rl.Sizes) -> None:
    header, *rows = law_page.rows[: 1 + len(law.sizes)]
    summary = law.summary()
    assert header == [NASTY_SIZE, "K", "E", "sigma", "runs", "evaluations"]
    for row, (size, told) in zip(rows, summary.iterrows(), strict=True):
        shown = [" ".join(interval(told[f"{n}_lower"], told[n], told[f"{n}_upper"], number)) for n in header[1:4]]
        assert row == [size, *shown, "1", "14"]
    sorted_by = [float(value) for value in law_page.named("data-value")[:: len(header)][: len(rows)]]
    assert sorted_by == list(law.sizes)


def test_saturation_convergence_priors_and_settings_of_a_law(law_page: Page, law: rl.Sizes) -> None:
    cells = {row[0]: row[1:] for row in law_page.rows}
    told = law.saturation()
    lower, median, upper = (number(told[name]) for name in ("E_max_lower", "E_max", "E_max_upper"))
    assert cells["E_max: exponent that models without limit approach"] == [f"{median} [{lower}, {upper}]"]
    assert cells["chance that this gain is below 10%"] == [probability(told["p_small_gain"])]
    assert cells["power law"][0] == f"{law.convergence.r_hat:.4f}"
    for name, prior in law.priors.shown().items():
        assert cells[name] == [prior]
    assert law_page.texts[law_page.texts.index("warm-up steps") + 1] == str(law.settings.tune)


Both = tuple[rl.Fits, list[rl.Sizes], Path]


@pytest.fixture(scope="module")
def both(fits: rl.Fits, law: rl.Sizes, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Two recipes, two laws and their report."""
    few, laws = rl.Fits([fits["best"], fits["early"]]), [law, made_sizes((4.0, 12.0))]
    path = tmp_path_factory.mktemp("both") / "r.html"
    rl.write_report(few, path, sizes=laws, progress=False)
    return few, laws, path


def test_report_of_recipes_and_two_laws(both: Both) -> None:
    few, laws, path = both
    page = Page(path)
    start = page.texts.index("How it was made") + 1
    answer = [*few.answer(), *(headline(one) for one in laws)]
    assert page.texts[start : start + len(answer)] == answer
    assert {"Every recipe", "Laws across model sizes"} <= set(page.texts)
    assert f"What to do: {rl.SizeVerdict.TOO_FEW_SIZES.advice}" in page.texts
    ids = page.named("id")
    assert {"law-1", "law-2"} <= set(ids)
    assert len(ids) == len(set(ids))


def test_the_same_posteriors_make_the_same_report(both: Both, tmp_path: Path) -> None:
    few, laws, path = both
    rl.write_report(few, tmp_path / "again.html", sizes=laws, progress=False)
    assert (tmp_path / "again.html").read_bytes() == path.read_bytes()


def test_a_law_that_is_not_known_is_not_quoted(tmp_path: Path) -> None:
    unseen = made_sizes(rules=replace(LENIENT, min_p_bend=2.0))
    void = made_sizes(rules=replace(LENIENT, min_ess=10**9))
    for fit, panels in ((unseen, 3), (void, 0)):
        rl.write_report(rl.Fits(), tmp_path / "r.html", sizes=[fit], progress=False)
        page = Page(tmp_path / "r.html")
        assert f"What to do: {fit.verdict.advice}" in page.texts
        assert page.tags.count("svg") == panels
        limits = [row[1] for row in page.rows if row[0].startswith(("E_max:", "N0:"))]
        assert len(limits) == (2 if panels else 0)
        assert all(re.fullmatch(r"\([\d.,]+ to [\d.,]+\)", text) for text in limits)
    assert void.rules.sentence(void.convergence) in " ".join(page.texts)


def test_a_target_needs_recipes(law: rl.Sizes, tmp_path: Path) -> None:
    with pytest.raises(rl.DataError, match=r"target=0\.6 is about recipes and there are none; leave it out"):
        rl.write_report(rl.Fits(), tmp_path / "r.html", sizes=[law], target=0.6)
    assert list(tmp_path.iterdir()) == []


def test_command_with_saved_laws(fits: rl.Fits, law: rl.Sizes, tmp_path: Path) -> None:
    rl.Fits([fits["best"]]).save(tmp_path / "fits")
    law.save(tmp_path / "law")
    made_sizes((4.0, 12.0)).save(tmp_path / "two")

    def report(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["report", *arguments, "-o", str(tmp_path / "r.html"), "--quiet"])
        return result.exit_code, result.stdout, result.stderr

    alone = headline(rl.load_sizes(tmp_path / "law"))
    two = headline(rl.load_sizes(tmp_path / "two"))
    assert report(str(tmp_path / "law")) == (0, f"{alone}\nwrote {tmp_path / 'r.html'}\n", "")
    given = ["--sizes", str(tmp_path / "law"), "--sizes", str(tmp_path / "two")]
    code, said, _ = report(str(tmp_path / "fits"), *given)
    assert (code, said.splitlines()[-3:-1]) == (0, [alone, two])
    assert {fits["best"].sentence(), "Laws across model sizes"} <= set(Page(tmp_path / "r.html").texts)
    code, _, said = report(str(tmp_path / "law"), "--growth", "--target", "0.6")
    assert (code, said) == (
        2,
        f"rlceiling: {tmp_path / 'law'} holds a law across sizes and no recipes, which these are about; leave out"
        " --target, --growth.\n",
    )
    code, _, said = report(str(tmp_path / "law"), "--tune", "200")
    assert (code, said.endswith("which stay as they were made; leave out --tune.\n")) == (2, True)
    code, _, said = report(str(tmp_path / "fits"), "--sizes", str(tmp_path / "fits"))
    assert (code, "holds no sizes.nc" in said) == (2, True)
