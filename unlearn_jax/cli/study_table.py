"""The table that a study prints: a row for each population, or of many the ones that matter."""

from __future__ import annotations

from unlearn_jax.cli.common import interval
from unlearn_jax.metrics.residual import why_unidentifiable
from unlearn_jax.reports.load import Run
from unlearn_jax.reports.summary import REFERENCES
from unlearn_jax.results.tables import read_csv

WHY = {  # by what `why_unidentifiable` says
    "few": "fewer than 8 members in a request",
    "lost": "too many members of the original or the oracle diverged",
    "noise": "the span is within the noise",
}
ALL, MANY = 24, 10  # rows up to which all are shown, for so many are looked through; and of more, how many are shown
NAME, WIDE = 32, 90  # letters of a population's name, and of a row
FIGURES = ("residual_influence", "residual_distance")
Key = tuple[str, str, str, str]  # copies, gamma, population, setting


def table_of(run: Run, width: int = 0) -> list[str]:
    """The signed residual and the distance of every population, a line each, with a heading.

    Of more than `ALL`, those of the largest number of copies: the references, then the nearest methods.

    Args:
        run: the study, complete.
        width: of the terminal, to which names give way; 0 = there is none.
    """
    pooled = [row for row in read_csv(run.path / "summary.csv") if row["request"] == "all"]
    for row in pooled:
        row["method"] += f"+{row['remedy']}" if row["remedy"] else ""
    of = lambda row: (row["copies"], row["gamma"], row["method"], row["setting"])
    lost = {of(row): row for row in pooled if row["metric"] == "n_diverged"}
    cells = {
        (of(row), row["metric"]): row for row in pooled if (row["reference"], row["split"]) == ("oracle", "forget")
    }
    every = [key for key, metric in cells if metric == FIGURES[0]]
    shown = every if len(every) <= ALL else _foremost(run, every)
    room = min(NAME, width - (WIDE - NAME)) if width else NAME
    room = max([room, *(len(_name(key)) for key in shown if len(_name(key)) <= NAME)])
    lines = [f"{'copies':>6} {'gamma':>5}  {'population':<{room}} {'residual influence':<22} residual distance"]
    for key in shown:
        influence, distance = (interval(cells[key, metric]) for metric in FIGURES)
        gone = lost.get(key, {"value": 0})
        note = f"  {float(gone['value']):.0f} of {gone['n']} members diverged" if float(gone["value"]) else ""
        lines.append(f"{key[0]:>6} {float(key[1]):>5.2f}  {_name(key):<{room}} {influence:<22} {distance}{note}")
    levels = {key[:2] for key in shown}
    lines += [
        f"copies {key[0]}, gamma {float(key[1]):.2f}: not identifiable, {_why(run, key, cells, lost)}"
        for (key, metric), row in cells.items()
        if metric == "identifiable" and float(row["value"]) == 0 and key[:2] in levels
    ]
    if len(shown) < len(every):
        what = f"at {shown[0][0]} copies, references and the nearest methods of practice"
        lines += [f"{len(shown)} of {len(every)} rows: {what};", "all are in summary.csv and the report"]
    return lines


def _foremost(run: Run, every: list[Key]) -> list[Key]:
    """The rows that matter: of the largest level, references and then methods, nearest to the oracle first."""
    level = run.summary.levels[-1]
    at = {(key[2], key[3]): key for key in reversed(every) if int(key[0]) == level}
    at |= {(key[2], key[3]): key for key in every if int(key[0]) == level and float(key[1]) == run.summary.gamma[level]}
    entries = run.summary.entries(level)
    place = lambda e: REFERENCES.index(e.method) if e.is_reference else len(REFERENCES) + bool(e.kind)
    entries.sort(key=place)  # what is given retrained models, or trains one in full, is no method of practice
    named = [(f"{e.method}+{e.remedy}" if e.remedy else e.method, e.setting) for e in entries]
    return [at[name] for name in named if name in at][:MANY]


def _name(key: Key) -> str:
    return f"{key[2]}[{key[3]}]" if key[3] else key[2]


def _why(run: Run, key: Key, cells: dict, lost: dict) -> str:
    """Why the residuals of a level cannot be read."""
    config = run.manifest["config"]
    at = lambda name: (*key[:2], name, "")
    span, band = cells[at("original"), "influence_span"], cells[at("oracle"), "null_band"]
    gone = sum(float(lost[at(name)]["value"]) for name in ("original", "oracle"))
    each = config["members"] // config["requests"]
    return WHY[why_unidentifiable(each, int(gone), _number(span["ci_low"]), _number(band["value"]))]


def _number(text: str) -> float:
    return float(text or "nan")
