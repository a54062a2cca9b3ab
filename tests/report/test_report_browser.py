"""The report in a real browser: no errors, no requests, sortable by mouse and keyboard, and readable at any width."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rlceiling as rl
from handmade import made_recipe
from handmade_sizes import made_sizes
from recipes import VERDICTS, made_fits

api = pytest.importorskip("playwright.sync_api", reason="needs pip install 'rlceiling[browser]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

ALONE = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
NASTY = ("<script>window.hit = 1</script>", "<img src=x onerror='window.hit = 1'>", "rocket \U0001f680", "x" * 200)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    nasty = dict(zip(VERDICTS, NASTY, strict=False))  # instead of the names that no test asks for
    fits = [replace(fit, name=nasty.get(name, name)) for name, fit in made_fits().items()]
    laws = [made_sizes(name=NASTY[0])]
    rl.write_report(rl.Fits([*fits, made_recipe(NASTY[-1], [0.5])]), path, sizes=laws, progress=False)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ALONE))
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Any]:
    """Open the report; whatever it complains of or asks for fails the test."""
    contexts, said = [], []

    def go(width: int = 1600, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url != report.as_uri() else None)
        page.goto(report.as_uri())
        return page

    yield go
    for context in contexts:
        context.close()
    assert said == []


def column(page: Any, place: int) -> list[str]:
    return [text.strip() for text in page.locator(f"#table tbody tr > :nth-child({place})").all_inner_texts()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_it_fits_the_window(visit: Any, width: int, scheme: str) -> None:
    page = visit(width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.hit") is None
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 24, 27)")
    ink = page.evaluate("getComputedStyle(document.querySelector('svg text')).fill")
    assert ink == page.evaluate("getComputedStyle(document.body).color")
    for svg in page.locator("#pictures svg, #sizes svg").all():
        assert svg.bounding_box()["width"] >= 350


def test_the_table_is_sorted_by_mouse_and_keyboard(visit: Any) -> None:
    page = visit()
    written = column(page, 1)
    header = page.locator("#table thead th", has_text="chance of the highest ceiling")
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    first, *_, last = column(page, 2)
    assert (first, last) == ("<0.01", "?")  # unknown last
    header.get_by_role("button").press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert column(page, 1)[0] == "best"
    assert column(page, 2)[-1] == "?"
    name = page.locator("#table thead th", has_text="recipe")
    name.get_by_role("button").press("Space")
    assert column(page, 1) == page.evaluate(
        "names => names.sort((a, b) => a.localeCompare(b, undefined, {numeric: true}))", written
    )
    assert page.locator("#table [aria-sort]").count() == 1


def test_tab_leads_past_the_navigation_to_the_answer(visit: Any) -> None:
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the answer"
    page.keyboard.press("Enter")
    assert page.url.endswith("#answer")


def test_a_name_leads_to_its_page(visit: Any) -> None:
    page = visit(400)
    page.locator("#table a", has_text="close").click()
    article = page.locator("article:target")
    assert article.locator("h3").inner_text() == "close"
    assert article.bounding_box()["y"] < 50


def test_screen_readers_are_told_what_there_is(visit: Any) -> None:
    page = visit()
    tree = page.locator("main").aria_snapshot()
    assert 'heading "Every recipe"' in tree
    assert page.get_by_role("img").count() == page.locator("figure").count()
    assert page.get_by_role("rowheader", name="best", exact=True).count() >= 1
    for table in page.get_by_role("table").all():
        assert table.get_attribute("aria-label")


def test_without_scripts_all_is_there(visit: Any) -> None:
    page = visit(java_script_enabled=False)
    assert page.locator("#table button").count() == 0
    assert column(page, 1)[:3] == ["low", "best", "close"]
    assert page.locator("svg").count() > 20


def test_the_table_of_sizes_is_sorted(visit: Any) -> None:
    page = visit()
    header = page.locator("#sizes thead th").first
    header.get_by_role("button").click()
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    rows = page.locator("#sizes table").first.locator("tbody tr > :first-child").all_inner_texts()
    assert [float(size) for size in rows] == [40.0, 12.0, 4.0, 1.5, 0.5]
