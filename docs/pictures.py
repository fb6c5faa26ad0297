"""The pictures of concepts.md, made anew by `python docs/pictures.py` into docs/images/.

Each is an SVG of words, dots and lines in a few colours, which the style inside the file sets for light and dark
readers, and docs/styles/site.css for the site's own switch. Figures in them are of docs/results.md: digits,
`--methods all --requests 4 --members 32 --copies 4`.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

STYLE = """
.picture { --ink: #24292f; --faint: #6e7781; --line: #d0d7de; --target: #cf222e; --similar: #bf8700; --rest: #0969da;
  --good: #1a7f37; --wash: #0969da22; font: 14px sans-serif; }
@media (prefers-color-scheme: dark) { .picture { --ink: #e6edf3; --faint: #9198a1; --line: #3d444d; --target: #ff7b72;
  --similar: #e3b341; --rest: #79c0ff; --good: #56d364; --wash: #79c0ff2e; } }
"""


def picture(title: str, width: int, height: int, parts: list[str]) -> str:
    """An SVG with a title for those who cannot see it."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="picture" viewBox="0 0 {width} {height}" '
    head += f'width="{width}" height="{height}" role="img" aria-label="{title}">'
    return "\n".join([head, f"<title>{title}</title>", f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def text(x, y, words, colour="ink", anchor="start", size=14, bold=False) -> str:
    """Words at a point."""
    weight = ' font-weight="bold"' if bold else ""
    said = words.replace("&", "&amp;").replace("<", "&lt;")
    look = f'fill="var(--{colour})" text-anchor="{anchor}" font-size="{size}"{weight}'
    return f'<text x="{x:g}" y="{y:g}" {look}>{said}</text>'


def dot(x, y, colour, radius=6, hollow=False) -> str:
    """A sample: full where it is seen, hollow where it is not."""
    fill = "none" if hollow else f"var(--{colour})"
    dash = ' stroke-dasharray="2 2"' if hollow else ""
    return (
        f'<circle cx="{x:g}" cy="{y:g}" r="{radius}" fill="{fill}" stroke="var(--{colour})" stroke-width="1.5"{dash}/>'
    )


def line(x1, y1, x2, y2, colour="line", width=1.5, dash="") -> str:
    """A straight line."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    ends = f'x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"'
    return f'<line {ends} stroke="var(--{colour})" stroke-width="{width}"{dashed}/>'


def box(x, y, width, height, colour="wash", outline="", radius=6) -> str:
    """A rectangle, filled or only outlined."""
    look = f'fill="none" stroke="var(--{outline})" stroke-dasharray="5 4"' if outline else f'fill="var(--{colour})"'
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" {look}/>'


def arrow(x1, y1, x2, y2, colour) -> str:
    """A line with a head at its end."""
    angle, wing = math.atan2(y2 - y1, x2 - x1), []
    for turn in (2.6, -2.6):
        wing.append(f"{x2 + 8 * math.cos(angle + turn):.1f},{y2 + 8 * math.sin(angle + turn):.1f}")
    head = f'<polygon points="{x2:g},{y2:g} {wing[0]} {wing[1]}" fill="var(--{colour})"/>'
    return line(x1, y1, x2, y2, colour, 2) + head


def interval(y, low, value, high, at, colour) -> list[str]:
    """A figure with its interval on a horizontal axis."""
    return [line(at(low), y, at(high), y, colour, 2.5), dot(at(value), y, colour, 5)]


def clusters() -> str:
    """Targets, the similar samples around them, and everything else."""
    rng, parts = random.Random(3), []
    centres = [(130, 110), (330, 90), (255, 205)]
    for _ in range(400):
        x, y = rng.uniform(20, 440), rng.uniform(20, 270)
        if all(math.hypot(x - cx, y - cy) > 62 for cx, cy in centres) and rng.random() < 0.2:
            parts.append(dot(x, y, "rest", 3.5))
    for cx, cy in centres:
        parts.append(f'<circle cx="{cx}" cy="{cy}" r="50" fill="var(--wash)"/>')
        for k in range(4):
            angle = k * math.pi / 2 + cx
            parts.append(dot(cx + 30 * math.cos(angle), cy + 30 * math.sin(angle), "similar"))
        parts += [dot(cx, cy, "target", 8), box(cx - 14, cy - 14, 28, 28, outline="target")]
    words = [
        ("target", "target: asked to be forgotten", "The request F names the targets (dashed),"),
        ("similar", "similar: near copies, paraphrases,", "or, with gamma, some of their copies too."),
        ("similar", "or mined neighbours of a target", "S is what stays of the clusters."),
        ("rest", "rest: all other training samples", ""),
    ]
    for row, (colour, said, _) in enumerate(words):
        y = 60 + 24 * row
        parts += [] if row == 2 else [dot(470, y - 5, colour, 5)]
        parts.append(text(486, y, said))
    parts += [text(464, 185 + 22 * row, said, "faint") for row, (*_, said) in enumerate(words)]
    return picture("Clusters: targets with their similar samples", 760, 290, parts)


def references() -> str:
    """What each of the five reference populations sees."""
    rows = {
        "original": ("everything", (1, 1, 1, 1)),
        "retrain": ("all but the request", (0, 1, 1, 1)),
        "oracle": ("all but the whole clusters", (0, 0, 1, 1)),
        "placebo": ("retrain, less as many random samples", (0, 1, 0, 1)),
        "dedup": ("retrain, near-duplicates thinned", (0, 2, 1, 1)),
    }
    groups = (("targets", "target", 3), ("similar", "similar", 8), ("rest", "rest", 8), ("more rest", "rest", 6))
    parts, start = [], [150]
    for _, _, count in groups:
        start.append(start[-1] + 16 * count + 22)
    for (name, _, count), x in zip(groups, start):
        parts.append(text(x + 8 * count - 8, 24, name, "faint", "middle", 13))
    for row, (name, (what, seen)) in enumerate(rows.items()):
        y = 56 + 36 * row
        parts.append(text(14, y + 5, name, bold=True))
        for (_, colour, count), x, kept in zip(groups, start, seen):
            parts += [dot(x + 16 * k, y, colour, 5, not (k % 4 == 0 if kept == 2 else kept)) for k in range(count)]
        parts.append(text(start[-1], y + 5, what, "faint", size=13))
    return picture("What each reference population is trained on", 900, 226, parts)


def residual() -> str:
    """Residual influence on the axis from oracle to original, with figures of the digits."""
    at = lambda value: 320 + 230 * value
    shown = (
        ("retrain", 0.78, 0.83, 0.88, "rest", "most of the influence stays"),
        ("finetune", 0.80, 0.82, 0.83, "rest", "hardly touched"),
        ("amnesiac", -0.04, 0.05, 0.12, "good", "on average at the oracle"),
        ("wga", -0.75, -0.55, -0.37, "target", "over-forgotten"),
    )
    parts = [line(at(v), 46, at(v), 226, "line") for v in (-0.5, 0, 0.5, 1)]
    parts += [text(at(v), 246, f"{v:g}", "faint", "middle", 13) for v in (-0.5, 0, 0.5, 1)]
    parts += [
        text(at(0), 24, "oracle", "good", "middle", bold=True),
        text(at(1), 24, "original", "ink", "middle", bold=True),
    ]
    parts += [text(at(v), 40, said, "faint", "middle", 12) for v, said in ((0, "gone"), (1, "untouched"))]
    for row, (name, low, value, high, colour, said) in enumerate(shown):
        y = 76 + 42 * row
        parts += [text(14, y + 5, name, bold=True), *interval(y, low, value, high, at, colour)]
        parts.append(text(at(1) + 20, y + 5, said, "faint", size=13))
    parts.append(
        text(320, 270, "residual influence = (margin - oracle's) / (original's - oracle's)", "ink", "middle", 13)
    )
    return picture("Residual influence of four populations of the digits study", 760, 284, parts)


def distance() -> str:
    """Why the residual can be zero while every target is wrong: errors of opposite sign."""
    parts, middle = [], 150
    for left, title, errors, said in (
        (40, "a good method", (0.2, -0.15, 0.1, -0.2, 0.15), "residual 0, distance small"),
        (400, "a scrambler", (1.0, -0.9, 0.8, -0.8, -0.1), "residual 0, distance large"),
    ):
        parts += [text(left, 28, title, bold=True), text(left, 276, said)]
        parts += [
            line(left, middle, left + 300, middle, "good", 2, "6 4"),
            text(left + 304, middle - 6, "oracle", "good", size=12),
        ]
        for k, error in enumerate(errors):
            x = left + 30 + 58 * k
            parts += [arrow(x, middle, x, middle - 90 * error, "target"), dot(x, middle, "good", 3)]
            parts.append(text(x, 250, f"target {k + 1}", "faint", "middle", 12))
    return picture("The signed residual and the distance", 760, 292, parts)


def null_band() -> str:
    """How far apart two populations lie that differ in nothing but their seeds, by the number of members."""
    from scipy.stats import t

    spread, half = 1.0, 110  # of members' mean margins, nats; pixels of one nat
    at_x, at_y = lambda n: 70 + 150 * math.log2(n / 4), lambda v: 160 - half * v / 1.8
    sizes = [4 * 2 ** (k / 8) for k in range(33)]
    band = [t.ppf(0.975, 2 * n - 2) * spread * math.sqrt(2 / n) for n in sizes]
    edge = [f"{at_x(n):.1f},{at_y(b):.1f}" for n, b in zip(sizes, band)]
    edge += [f"{at_x(n):.1f},{at_y(-b):.1f}" for n, b in zip(sizes[::-1], band[::-1])]
    parts = [f'<polygon points="{" ".join(edge)}" fill="var(--wash)"/>', line(70, 160, 670, 160, "good", 1.5, "6 4")]
    parts += [text(at_x(n), 292, str(n), "faint", "middle", 13) for n in (4, 8, 16, 32, 64)]
    parts += [text(370, 314, "members N", "ink", "middle", 13), text(680, 164, "oracle", "good", size=13)]
    for n, value, said, anchor, shift in (
        (8, 0.6, "inside: noise", "middle", -14),
        (32, 0.9, "outside: a difference", "middle", -14),
    ):
        colour = "faint" if value < 1 and n == 8 else "target"
        parts += [dot(at_x(n), at_y(value), colour, 5), text(at_x(n), at_y(value) + shift, said, colour, anchor, 13)]
    parts.append(text(70, 24, "difference of two populations' mean margins; shaded: the null band", "faint", size=13))
    return picture("The null band narrows with the number of members", 760, 326, parts)


def price() -> str:
    """Excess price on similar and on test samples, with figures of the digits."""
    shown = {
        "similar": (
            -60,
            20,
            ((-54.7, -49.9, -44.9), (-54.7, -49.9, -44.9), (-42.2, -37.3, -32.3), (-37.2, -31.0, -25.3)),
        ),
        "test": (-5, 5, ((-0.7, 0.1, 0.9), (-0.8, 0.0, 0.7), (0.5, 1.4, 2.4), (1.9, 3.1, 4.4))),
    }
    parts = [
        text(14, 77 + 36 * row, name, bold=True) for row, name in enumerate(("original", "retrain", "amnesiac", "wga"))
    ]
    for left, (split, (low, high, figures)) in zip((120, 480), shown.items()):
        at = lambda value, left=left, low=low, high=high: left + 300 * (value - low) / (high - low)
        ticks = [
            low + (high - low) * k / (4 if split == "similar" else 5) for k in range(5 if split == "similar" else 6)
        ]
        parts += [line(at(v), 52, at(v), 198) for v in ticks] + [line(at(0), 52, at(0), 198, "good", 2, "6 4")]
        parts += [text(at(v), 218, f"{v:g}", "faint", "middle", 13) for v in ticks]
        parts += [text(left + 150, 20, f"on {split} samples", "ink", "middle", bold=True)]
        parts += [text(at(0), 44, "oracle", "good", "middle", 12)]
        for row, (least, value, most) in enumerate(figures):
            colour = "rest" if least <= 0 else "target"
            parts += interval(72 + 36 * row, least, value, most, at, colour)
    parts.append(
        text(450, 246, "excess price = oracle's accuracy less the population's, in points", "ink", "middle", 13)
    )
    return picture("Excess price on similar and on test samples", 820, 260, parts)


PICTURES = {one.__name__: one for one in (clusters, references, residual, distance, null_band, price)}


def main() -> None:
    """Write every picture."""
    for name, draw in PICTURES.items():
        (Path(__file__).parent / "images" / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
