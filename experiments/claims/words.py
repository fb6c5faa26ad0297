"""A claim's record in words: lines for the terminal, a page of Markdown, and the list of all claims."""

from __future__ import annotations

import math
from typing import Any

UNKNOWN = "not defined"


def number(value: float, digits: int = 2) -> str:
    """A number with so many decimals, without a minus before zero."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    shown = f"{value:,.{digits}f}"
    return shown.lstrip("-") if float(shown.replace(",", "")) == 0 else shown


def interval(value: float, low: float, high: float, digits: int = 2) -> str:
    """A number with its interval, if it has one."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    between = low is not None and high is not None and math.isfinite(low + high)
    bounds = f" [{number(low, digits)}, {number(high, digits)}]" if between else ""
    return number(value, digits) + bounds


def shown(figure: dict[str, Any]) -> str:
    """A figure of a record."""
    return interval(figure["value"], figure["low"], figure["high"], figure["digits"])


def decides(figure: dict[str, Any]) -> str:
    """What the figure must be for the claim, and whether it is: above 0: agrees."""
    if figure["null"] is None:
        return ""
    return f"{figure['claimed']} {figure['null']:g}: {figure['verdict']}"


def plain(record: dict[str, Any]) -> str:
    """The short table for the terminal."""
    width = max(len(f["name"]) for f in record["figures"])
    lines = [f"{record['claim']}: {record['title']}", f"{'figure':<{width}}  {'ours, 95% interval':<24} expected"]
    for figure in record["figures"]:
        decision = decides(figure)
        ending = "; ".join(part for part in (figure["expected"], decision and f"decides, {decision}") if part)
        lines.append(f"{figure['name']:<{width}}  {shown(figure):<24} {ending}".rstrip())
    lines += [*record["notes"], f"verdict: {record['verdict']}"]
    return "\n".join(lines)


def markdown(record: dict[str, Any]) -> str:
    """The page of a claim."""
    rows = [(f["name"], shown(f), f["expected"], decides(f)) for f in record["figures"]]
    parts = [
        f"# {record['title']}",
        f"**Claim.** {record['statement']}",
        "**Source.** " + ". ".join(record["sources"]) + ".",
        f"```bash\n{record['command']}\n```",
        f"**Expected, written before the run.** {record['expected']}",
        f"**Rule.** {record['rule']}",
        f"**Verdict: {record['verdict']}.**",
        _grid(("figure", "ours, 95% interval", "expected", "decides"), rows),
        *(f"{table['caption']}\n\n{_table(table)}" for table in record["tables"]),
        *record["notes"],
        "**Limits.** " + " ".join(record["limits"]),
        f"**Run.** {made(record)}",
    ]
    return "\n\n".join(parts)


def made(record: dict[str, Any]) -> str:
    """Device, versions, seeds and seconds."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    studies = "; ".join(f"{name}: {_as_options(config)}" for name, config in record["studies"].items())
    return (
        f"{record['device']}; {versions}; seed {record['seed']}; "
        f"{record['seconds']:.0f} s, less where populations were in the store. Studies: {studies}."
    )


def _as_options(config: dict[str, Any]) -> str:
    """What a study asks for, as options."""
    words = []
    for name, value in config.items():
        text = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
        words.append(f"`--{name.replace('_', '-')} {text}`")
    return " ".join(words)


def _table(table: dict[str, Any]) -> str:
    rows = []
    for name, cells in table["rows"]:
        each = (interval(*cell, digits) if cell else "" for cell, digits in zip(cells, table["digits"]))
        rows.append((name, *each))
    return _grid(table["heads"], rows)


def _grid(heads, rows) -> str:
    line = lambda cells: "| " + " | ".join(str(c).replace("|", "/") for c in cells) + " |"
    return "\n".join([line(heads), line(["---"] * len(heads)), *map(line, rows)])


def listed(claims, records: dict[str, dict]) -> str:
    """All claims, a line each, with their cost and what was found where they ran."""
    width = max(map(len, claims))
    lines = [f"{'claim':<{width}}  minutes  verdict     what"]
    for name, claim in claims.items():
        verdict = records[name]["verdict"] if name in records else ""
        lines.append(f"{name:<{width}}  {claim.minutes:>7g}  {verdict:<10}  {claim.title}")
    return "\n".join(lines)


def index(claims, records: dict[str, dict]) -> str:
    """All claims as a Markdown table, with links to the pages of those that ran."""
    rows = []
    for name, claim in claims.items():
        record = records.get(name)
        verdict = f"**{record['verdict']}**" if record else "not run"
        keys = (
            "; ".join(f"{f['name']}: {shown(f)}" for f in record["figures"] if f["null"] is not None) if record else ""
        )
        title = f"[{claim.title}]({name}.md)" if record else claim.title
        rows.append((f"`{name}`", title, verdict, keys, f"{claim.minutes:g}"))
    return _grid(("name", "claim", "verdict", "figures that decide", "minutes"), rows)
