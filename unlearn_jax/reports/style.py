"""Colours, matplotlib settings and the way from a figure to themeable inline SVG or a PNG."""

from __future__ import annotations

import base64
import io
import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape


class Colour(NamedTuple):
    """A colour on light and on dark paper."""

    light: str
    dark: str


# The references use the Okabe-Ito set, which stays apart under the common colour-vision deficiencies.
COLOURS = {
    "original": Colour("#c74f00", "#ff8f4d"),
    "retrain": Colour("#0068a8", "#5cb8f0"),
    "oracle": Colour("#00805c", "#35c99b"),
    "placebo": Colour("#b4568f", "#eaa3cb"),
    "dedup": Colour("#c98a00", "#f2c14e"),
    "method": Colour("#3b4654", "#c3cbd5"),
    "ink": Colour("#171c23", "#e8ecf1"),
    "muted": Colour("#56606d", "#a3adb9"),
    "grid": Colour("#e1e6ec", "#323b46"),
    "band": Colour("#8793a1", "#8894a2"),
    "paper": Colour("#ffffff", "#14181d"),
}
MARKERS = {"original": "s", "retrain": "o", "placebo": "D", "dedup": "^", "oracle": "v"}
DASHES = {"placebo": (0, (4, 2)), "dedup": (0, (4, 1.5, 1, 1.5))}  # apart without colours too
WIDE, NARROW = 9.4, 3.9  # inches; the page shows one or the other by the width of the window


class Look(NamedTuple):
    """How a figure is drawn: on which paper, and in letters of which size (points)."""

    theme: str = "light"
    text: float = 9.0
    small: float = 8.0
    title: float = 9.5


PAGE = Look()
_LOOK: ContextVar[Look] = ContextVar("look", default=PAGE)


@contextmanager
def looking(look: Look):
    """Draw the figures of a block in this look, however deep they are; as matplotlib's own settings are given."""
    token = _LOOK.set(look)
    try:
        yield
    finally:
        _LOOK.reset(token)


def colour(name: str) -> str:
    """The colour of a reference or a role on the paper in use; methods share one neutral colour."""
    return getattr(COLOURS.get(name, COLOURS["method"]), _LOOK.get().theme)


def small() -> float:
    """The size of the smaller letters of a figure, in points."""
    return _LOOK.get().small


def settings(fonttype: str = "none") -> dict:
    """matplotlib settings of every figure; `none` keeps SVG text as text."""
    ink, muted, look = colour("ink"), colour("muted"), _LOOK.get()
    sizes = dict.fromkeys(
        ("font.size", "figure.labelsize", "legend.fontsize", "xtick.labelsize", "ytick.labelsize", "axes.labelsize"),
        look.text,
    )
    inks = dict.fromkeys(
        ("axes.labelcolor", "axes.titlecolor", "text.color", "xtick.labelcolor", "ytick.labelcolor"), ink
    )
    edges = dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), muted)
    fixed = {
        "svg.fonttype": fonttype, "svg.hashsalt": "report", "pdf.fonttype": 42, "font.family": "DejaVu Sans",
        "axes.titlesize": look.title, "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "none",
        "figure.facecolor": "none", "axes.linewidth": 0.8, "grid.color": colour("grid"), "grid.linewidth": 0.8,
        "lines.linewidth": 1.8,
    }  # fmt: skip
    return sizes | inks | edges | fixed


def inline_svg(figure, prefix: str, label: str) -> Markup:
    """A figure as an SVG element whose colours follow the page and whose ids start with `prefix`."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(settings()):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg, prefix = buffer.getvalue(), re.sub(r"[^\w-]", "-", prefix)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    svg = svg.replace("url(#", f"url(#{prefix}-")
    for name, tone in COLOURS.items():
        svg = re.sub(tone.light, f"var(--{name})", svg, flags=re.IGNORECASE)
    svg = re.sub(r"'DejaVu Sans'(, [^;\"]*)?(?=[;\"])", "var(--sans)", svg)
    view = re.search(r'viewBox="[^"]*"', svg)
    opening = f'<svg {view.group(0) if view else ""} role="img" aria-label="{escape(label)}">'
    return Markup(opening + svg[svg.index(">") + 1 :].strip())


def png_uri(image: np.ndarray) -> str:
    """An (H, W, C) uint8 picture as a data URI."""
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
