"""Figures for papers: true to size, letters of 7 to 9 points, vectors with their fonts inside, the same bytes again."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

from unlearn_jax.errors import InputError, choose
from unlearn_jax.reports.style import WIDE, Look, colour, looking, settings

WIDTHS = {"single": 3.25, "text": 5.5, "double": 6.75, "page": WIDE}  # inches: a column, NeurIPS, two columns, the page
UNITS = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}  # points of TeX
KINDS = ("pdf", "svg", "png")
MIN_INCHES, MAX_INCHES = 2.5, 20.0  # inches
LETTERS = (7.0, 9.0)  # points
METADATA = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": None}


def inches(text: str) -> float:
    """A width: single, text, double, page, or a length such as 3.25in, 8.2cm, 82mm or 234pt.

    Raises:
        InputError: another word, or a length outside 2.5 to 20 inches.
    """
    word = text.strip().lower()
    if word in WIDTHS:
        return WIDTHS[word]
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(in|cm|mm|pt)", word)
    if not match:
        raise InputError(f"--width '{text}' is not understood: give {', '.join(WIDTHS)}, or a length such as 3.25in.")
    width = float(match[1]) * UNITS[match[2]]
    if not MIN_INCHES <= width <= MAX_INCHES:
        raise InputError(
            f"--width {text} is {width:.2f} inches: give {MIN_INCHES} to {MAX_INCHES:g}, such as single or double."
        )
    return width


def look_of(theme: str, letters: float) -> Look:
    """The look of a figure on this paper whose letters have this size, the smaller ones a point less, none under 7.

    Raises:
        InputError: an unknown theme, or letters outside 7 to 9 points.
    """
    choose("theme", theme, ("light", "dark"))
    if not LETTERS[0] <= letters <= LETTERS[1]:
        raise InputError(f"--letters {letters:g} is outside 7 to 9 points: give a size that can be read in print.")
    return Look(theme, letters, max(LETTERS[0], letters - 1), letters)


def kind_of_file(out: Path) -> str:
    """pdf, svg or png, by the end of a name; raises `InputError`."""
    kind = out.suffix.lower().lstrip(".")
    if kind not in KINDS:
        raise InputError(f"cannot save a figure as '{out.name}': end the name in .pdf, .svg or .png.")
    return kind


def drawn(draw: Callable, kind: str, width: float, look: Look, outlines: bool = False) -> bytes | None:
    """The bytes of a figure; None where there is nothing to draw.

    Args:
        draw: called with the width in inches, gives a matplotlib ``Figure`` or None.
        kind: pdf, svg or png (300 dots an inch).
        width: inches.
        look: paper and letters.
        outlines: letters of an SVG as shapes, which need no font and cannot be searched.
    """
    import matplotlib

    buffer = io.BytesIO()
    with looking(look), matplotlib.rc_context(settings("path" if outlines else "none")):
        figure = draw(width)
        if figure is None:
            return None
        figure.savefig(buffer, format=kind, dpi=300, facecolor=colour("paper"), metadata=METADATA[kind])
    content = buffer.getvalue()
    if kind == "svg" and not outlines:
        return with_font(content.decode("utf-8")).encode("utf-8")
    return _same_again(content) if kind == "pdf" else content


def with_font(svg: str) -> str:
    """An SVG with the letters of DejaVu Sans that its words use inside, so that it looks alike everywhere."""
    import matplotlib
    from fontTools import subset

    words = "".join(re.findall(r"<(?:text|tspan)\b[^>]*>([^<]*)", svg))
    if not words.strip():
        return svg
    options = subset.Options(layout_features=[], recalc_timestamp=False, hinting=False)
    options.drop_tables += ["FFTM"]  # of the font's editor
    file, buffer = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", io.BytesIO()
    with subset.load_font(str(file), options) as font:
        chosen = subset.Subsetter(options)
        chosen.populate(text=unescape(words))
        chosen.subset(font)
        font.save(buffer)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    face = f"@font-face{{font-family:'DejaVu Sans';src:url(data:font/ttf;base64,{data})}}"
    return svg.replace("<defs>", f"<defs>\n  <style>{face}</style>", 1)


def _same_again(pdf: bytes) -> bytes:
    """A PDF whose font subsets have names that do not change between processes: AAAAAA, AAAAAB and so on."""
    names = list(dict.fromkeys(re.findall(rb"/([A-Z]{6})\+", pdf)))
    for number, name in enumerate(names):
        pdf = pdf.replace(b"/" + name + b"+", b"/AAAAA%c+" % (ord("A") + number))
    return pdf
