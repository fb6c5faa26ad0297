"""From plain values to a page: cells, tables, figures and how numbers were made; the templates hold all HTML."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from unlearn_jax.reports.style import COLOURS, NARROW, WIDE, inline_svg
from unlearn_jax.runtime import signals

HERE = Path(__file__).parent
FRAME = {"answer": "", "facts": [], "about_words": "How to read this", "about_made": "To reproduce"}
LONG = 32  # letters of a fact that takes more room
MAX_LETTERS = 300  # of a document in a gallery


class Td(NamedTuple):
    """A cell of a table, of its body or its head."""

    text: str = ""  # a line break is a new line
    below: str = ""  # an interval, in smaller letters
    tag: str = ""  # a remark below
    title: str = ""  # on hover
    kind: str = ""  # classes of the style sheet
    link: str = ""
    dot: str = ""  # the name of a colour
    columns: int = 1
    rows: int = 1
    breaks: bool = False  # whether the text may break within names
    parts: Any = ()  # cells in place of one text, with commas between


class Tr(NamedTuple):
    """A row of a table."""

    name: Td | None
    cells: list[Td]
    kind: str = ""
    anchor: str = ""


class Table(NamedTuple):
    """A table that scrolls."""

    heads: list[list[Td]]
    rows: list[Tr]
    kind: str = ""
    fit: bool = False


class Item(NamedTuple):
    """A sample in a gallery: its picture, or the words of a document."""

    text: str = ""
    below: str = ""  # of a picture
    title: str = ""
    picture: str = ""  # its address
    own: bool = False  # framed
    first: bool = False  # what the others are about


class Figure(NamedTuple):
    """A drawing for wide and for narrow windows, of which the page shows one, and the level whose numbers it shows."""

    wide: Markup
    narrow: Markup
    level: int | None = None


class Made(NamedTuple):
    """How numbers were made."""

    command: str
    pairs: list[tuple[str, str]]
    about: str = ""
    levels: Table | None = None
    prefix: str = "reproduce"


@functools.cache
def _environment() -> jinja2.Environment:
    """The templates; whatever they show is escaped."""
    loader = jinja2.FileSystemLoader([HERE / "templates", HERE])
    made = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    made.globals["colours"] = COLOURS
    return made


def page(template: str, **values) -> str:
    """The whole page as one HTML document."""
    return _environment().get_template(template).render(**(FRAME | values))


def drawn(draw: Callable | None, name: str, label: str, level: int | None = None) -> Figure | None:
    """A figure of the page; None where there is nothing to draw.

    Args:
        draw: called with the width in inches, gives a matplotlib ``Figure`` or None.
        name: what the ids inside begin with.
        label: for those who do not see it.
        level: copies, where it shows one level.
    """
    signals.look()
    if draw is None or (sheet := draw(WIDE)) is None:
        return None
    return Figure(inline_svg(sheet, f"{name}-w", label), inline_svg(draw(NARROW), f"{name}-n", label), level)


def facts(values: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Names and values of a strip, and whether they are long; without those that are not known."""
    shown = [(name, str(value)) for name, value in values.items() if value not in (None, "")]
    return [(name, value, len(value) > LONG) for name, value in shown]


def cell(value, kind: str = "") -> Td:
    """A cell of a text, as it is where it is one already."""
    return value if isinstance(value, Td) else Td(str(value), kind=kind)


def row(name: str | Td, cells: Iterable, kind: str = "", said: Iterable[int] = ()) -> Tr:
    """A row of texts and cells, of which those at ``said`` are words."""
    said = set(said)
    return Tr(cell(name), [cell(c, "said" if n in said else "") for n, c in enumerate(cells)], kind)


def group(text: str, columns: int) -> Tr:
    """A row that names those below it."""
    return Tr(None, [Td(text, kind="said", columns=columns)], "group")


def table(first: str, heads: Iterable, rows: list[Tr], kind: str = "audit", said: Iterable[int] = ()) -> Table:
    """A table with one line of headings, of which those at ``said`` are of words."""
    name = Td(first, kind="name")
    return Table([[name, *row(name, heads, said=said).cells]], rows, kind)


def minus(text: str) -> str:
    """A number with a true minus sign, and with none on zero."""
    return text.replace("-", "−") if float(text) else text.replace("-", "")


def number(value, digits: int | None = 2, missing: str = "") -> str:
    """A number with so many decimals (None = two significant digits); ``missing`` where it is not known."""
    if not isinstance(value, int | float) or math.isnan(value):
        return missing
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return minus(f"{value:.2g}" if digits is None else f"{value:.{digits}f}")


def known(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def interval(low: Any, high: Any, digits: int | None = 2) -> str:
    """[0.78, 0.84]; nothing where it is not known."""
    return f"[{number(low, digits)}, {number(high, digits)}]" if known(low) and known(high) else ""


def figure_cell(estimate, digits: int | None = 2, missing: str = "", **how) -> Td:
    """A figure, whose first entries are value, low and high, with its interval below."""
    value, low, high = estimate[:3]
    if not known(value):
        return Td(missing, kind=how.get("kind", ""))
    return Td(number(value, digits), interval(low, high, digits), **how)


def inline(value: Any) -> str:
    """A manifest value in one line of words."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{key} {inline(item) or 'none'}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(inline, value))
    return str(value)


def made(manifest: dict[str, Any], config: dict[str, Any] | None = None, **more: str) -> Made:
    """Command, device, versions and seconds of a run, as far as they are recorded; ``more``: further entries."""
    set_ones = {name: value for name, value in (config or {}).items() if value not in ("", 0, None, [], False)}
    notes = manifest.get("notes") or []
    pairs = {
        "Finished": inline(manifest.get("finished")),
        "Seconds": number(manifest.get("seconds_total"), 1),
        "Device": inline(manifest.get("device")),
        "Commit": inline(manifest.get("git_commit")),
        "Configuration": inline(set_ones),
        "Versions": inline(manifest.get("versions")),
        "Notes": notes if isinstance(notes, str) else "; ".join(map(inline, notes)),
    } | {name.replace("_", " "): value for name, value in more.items()}
    return Made(command_of(manifest), [pair for pair in pairs.items() if pair[1]])


def command_of(manifest: dict[str, Any]) -> str:
    """The command that made a run; '' where it was not recorded."""
    command = manifest.get("command") or ""
    return " ".join(map(str, command)) if isinstance(command, list) else str(command)


def readable(text) -> str:
    """The beginning of a document, up to a word's end."""
    text = " ".join(str(text).split())
    return text if len(text) <= MAX_LETTERS else text[:MAX_LETTERS].rsplit(" ", 1)[0] + " …"


def data_name(dataset) -> str:
    """The data set, of a file the name alone."""
    return Path(str(dataset)).name
