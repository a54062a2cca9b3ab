"""Figures as inline SVG, in the light or dark colours of the page and without references to other files."""

from __future__ import annotations

import io
import re
import warnings
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from rlceiling.report.style import COLOURS, GREY

THEME = {
    "#000000": "currentColor",
    "#ffffff": "var(--paper)",
    GREY.lower(): "var(--grey)",
    **{colour.lower(): f"var(--c{place})" for place, colour in enumerate(COLOURS) if colour != "#000000"},
}
"""Colour of figures -> CSS colour of the page, which has a light and a dark theme."""

FONT = "DejaVu Sans"
"""Font by which labels are measured; the page draws them in fonts that are narrower."""

DECIMALS = re.compile(r"(\.\d\d)\d+")
HEX = re.compile("|".join(THEME), re.IGNORECASE)


def inline_svg(figure: Figure, label: str, prefix: str) -> Markup:
    """Draw a figure as an ``<svg>`` element.

    Parameters
    ----------
    figure : matplotlib Figure
        What is drawn.
    label : str
        What it shows, for those who do not see it.
    prefix : str
        Put before every id, so that those of several drawings in one page differ.

    Returns
    -------
    Markup
        Safe to be put into a page: every text is escaped. It is as wide as its container.
    """
    stream = io.BytesIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": "rlceiling", "font.sans-serif": [FONT]}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # Letters that this font lacks, such as emoji, are drawn by the page, which has others.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(stream.getvalue())
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag.endswith("}metadata") or (c.tag.endswith("}g") and not len(c))]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = dict(_attributes(element, prefix))
    del root.attrib["width"], root.attrib["height"]
    root.attrib |= {"role": "img", "aria-label": label}
    for element in root.iter():  # line breaks of the file are no text
        if element.tag not in ("text", "tspan", "style"):
            element.text = None
        element.tail = None
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _attributes(element: ElementTree.Element, prefix: str) -> list[tuple[str, str]]:
    kept = []
    for name, value in element.attrib.items():
        name = name.rpartition("}")[2]
        if name == "id":
            if element.tag == "g":  # names of groups are of no use in a page
                continue
            value = prefix + value
        elif name == "href":
            value = f"#{prefix}{value.removeprefix('#')}"
        else:
            value = DECIMALS.sub(r"\1", value).replace("url(#", f"url(#{prefix}").replace(f"'{FONT}'", "var(--font)")
            value = HEX.sub(lambda found: THEME[found[0].lower()], value)
        kept.append((name, value))
    return kept
