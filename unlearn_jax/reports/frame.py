"""What every page is made of: its frame with the style sheet, a strip of facts, a list of terms, values in words."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from unlearn_jax.reports.style import COLOURS


def document(title: str, parts: list[str], shown: int = 1) -> str:
    """A page of these sections; ``shown`` = pictures in a strip."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{_css(shown)}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main></body></html>\n"
    )


def _css(shown: int) -> str:
    """The style sheet with both palettes."""
    light = ";".join(f"--{name}:{tone.light}" for name, tone in COLOURS.items())
    dark = ";".join(f"--{name}:{tone.dark}" for name, tone in COLOURS.items())
    css = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    css = css.replace("/*light*/", light).replace("/*dark*/", dark)
    return css.replace("STRIP", f"{min(540, 52 * shown + 16)}px")


def facts_strip(facts: dict[str, Any]) -> str:
    """Names and values in one strip, without those that are not known."""
    cells = [
        f"<div{' class=long' * (len(str(value)) > 32)}><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in facts.items()
        if value not in (None, "")
    ]
    return f'<dl class="facts">{"".join(cells)}</dl>'


def definitions(pairs) -> str:
    """A list of terms."""
    items = "".join(f"<dt>{escape(str(term))}</dt><dd>{escape(str(text))}</dd>" for term, text in pairs)
    return f'<dl class="words">{items}</dl>'


def inline(value: Any) -> str:
    """A manifest value in one line of words."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{key} {inline(item) or 'none'}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(inline, value))
    return str(value)
