"""Evaluation logs that other people released, read into arrays by question.

Three formats: the EVAL logs of open-unlearning (TOFU, MUSE), its SUMMARY logs (aggregates alone), and the aggregated
logs of TOFU's own repository of 2024. All may be gzipped. Keys of questions are read as text, whatever their order; a
value that is missing or null is NaN.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.runtime.archives import parse_json

OLD_PARTS = {  # files inside an aggregated log of 2024, and what open-unlearning calls their questions
    "eval_log_forget.json": "forget",
    "eval_log.json": "retain",
    "eval_real_author_wo_options.json": "ra",
    "eval_real_world_wo_options.json": "wf",
}
SIDES = ("forget", "holdout")  # of a membership attack


class Scores(NamedTuple):
    """What a log has of each question, n of them in the order of their ids."""

    ids: tuple[str, ...]
    fields: dict[str, np.ndarray]  # name -> (n,) float64, or (n, K) of K answers; NaN = missing
    texts: dict[str, str]  # id -> the right answer, where the log has it
    group: str  # metrics of one group are of the same questions


class Entry(NamedTuple):
    """One metric of a log."""

    stated: float | None  # the aggregate that the file states
    scores: Scores | None
    sides: dict[str, Scores]  # of a membership attack: forget and holdout


class Log(NamedTuple):
    """One model's log."""

    name: str
    kind: str  # eval, summary or tofu-2024
    entries: dict[str, Entry]


def read_log(path: str | Path) -> Log:
    """Read a log, whichever of the three formats it has.

    Args:
        path: a JSON file, or one that is gzipped.

    Returns:
        Its metrics by the names that the file uses; of an aggregated log of 2024 by today's names.

    Raises:
        InputError: no such file, no JSON, or not a log.
    """
    path = Path(path)
    content = _content(path)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds no metrics: give a *_EVAL.json or *_SUMMARY.json of open-unlearning.")
    name = path.name.removesuffix(".gz").removesuffix(".json")
    if set(content) & set(OLD_PARTS) and all(isinstance(part, dict) for part in content.values()):
        return Log(name, "tofu-2024", _of_2024(content, path))
    if all(value is None or _is_number(value) for value in content.values()):
        return Log(name, "summary", {key: Entry(_stated(value, path, key), None, {}) for key, value in content.items()})
    if not all(isinstance(value, dict) for value in content.values()):
        wrong = next(key for key, value in content.items() if not isinstance(value, dict))
        raise InputError(f"{path}: '{wrong}' is no metric of an evaluation log: give a *_EVAL.json of open-unlearning.")
    entries = {key: _entry(value, path, key) for key, value in content.items()}
    if not any(one.stated is not None or one.scores or one.sides for one in entries.values()):
        raise InputError(f"{path} has neither agg_value nor value_by_index: give a *_EVAL.json of open-unlearning.")
    return Log(name, "eval", entries)


def _content(path: Path) -> Any:
    """What the file holds."""
    try:
        data = path.read_bytes()
        return parse_json(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error}): give the log's path.") from error
    except (ValueError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is no JSON file ({error}): give a log as it was written.") from error


def _entry(value: Mapping, path: Path, key: str) -> Entry:
    """A metric of an EVAL log."""
    sides = {side: _scores(value[side], path, f"{key}.{side}") for side in SIDES if isinstance(value.get(side), dict)}
    return Entry(
        _stated(value.get("agg_value"), path, key),
        _scores(value, path, key),
        {side: scores for side, scores in sides.items() if scores is not None} if len(sides) == len(SIDES) else {},
    )


def _stated(value: Any, path: Path, key: str) -> float | None:
    """The aggregate that is stated; None where there is none."""
    if value is None or (_is_number(value) and np.isnan(value)):
        return None
    if not _is_number(value):
        raise InputError(f"{path}: the aggregate of {key} is {value!r}, not a number: give the log as it was written.")
    return float(value)


def _is_number(value: Any) -> bool:
    """Whether JSON says a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scores(value: Mapping, path: Path, key: str) -> Scores | None:
    """Values by question; None where the metric has none."""
    found = value.get("value_by_index")
    if isinstance(found, list):
        found = {str(place): one for place, one in enumerate(found)}
    if not found:
        return None
    if not isinstance(found, dict) or not all(one is None or isinstance(one, dict) for one in found.values()):
        raise InputError(f"{path}: value_by_index of {key} is not a table by question: give the log as it was written.")
    ids = tuple(sorted(map(str, found), key=_in_order))
    rows = {str(one): row or {} for one, row in found.items()}
    numeric = {name for row in rows.values() for name, cell in row.items() if _is_numeric(cell)}
    fields = {name: _column([rows[one].get(name) for one in ids], path, f"{key}.{name}") for name in sorted(numeric)}
    texts = {one: row["ground_truth"] for one, row in rows.items() if isinstance(row.get("ground_truth"), str)}
    return Scores(ids, fields, texts, group_of(key))


def group_of(name: str) -> str:
    """Which questions a metric is of: those of a split in TOFU, of a side of all attacks, or its own."""
    split, _, rest = name.partition("_")
    if split in OLD_PARTS.values() and (rest.startswith("Q_A_") or rest.lower() == "truth_ratio"):
        return split
    return f"attacks, {name.rpartition('.')[2]}" if name.startswith("mia_") else name


def _in_order(one: str) -> tuple:
    """Numbers as numbers, before words."""
    return (0, int(one), "") if one.lstrip("-").isdigit() else (1, 0, one)


def _is_numeric(cell: Any) -> bool:
    """Whether a cell holds a number or several."""
    return _is_number(cell) or (isinstance(cell, list) and bool(cell) and all(c is None or _is_number(c) for c in cell))


def _column(cells: list, path: Path, name: str) -> np.ndarray:
    """(n,) of numbers, (n, K) of lists; NaN where one is missing."""
    widest = max((len(cell) for cell in cells if isinstance(cell, list)), default=0)
    out = np.full((len(cells), max(widest, 1)), np.nan)
    for row, cell in zip(out, cells):
        values = cell if isinstance(cell, list) else [cell]
        if not all(value is None or _is_number(value) for value in values):
            raise InputError(f"{path}: {name} holds {cell!r} where a number belongs: give the log as it was written.")
        row[: len(values)] = [np.nan if value is None else value for value in values]
    return out if widest else out[:, 0]


def _of_2024(content: Mapping, path: Path) -> dict[str, Entry]:
    """The metrics of an aggregated log of TOFU's repository, under today's names; it states no aggregate."""
    entries = {}
    for file, split in OLD_PARTS.items():
        if file in content:
            entries |= _part_of_2024(content[file], split, path, file)
    return entries | {name: Entry(None, None, {}) for name in ("forget_quality", "model_utility")}


def _part_of_2024(part: Mapping, split: str, path: Path, file: str) -> dict[str, Entry]:
    """The metrics of one file of questions."""
    columns = {name: value for name, value in part.items() if isinstance(value, dict | list) and value}
    texts = columns.pop("generated_text", None)
    table = {name: dict(enumerate(value)) if isinstance(value, list) else value for name, value in columns.items()}
    ids = sorted({str(one) for column in table.values() for one in column}, key=_in_order)
    cells = {name: {str(one): cell for one, cell in column.items()} for name, column in table.items()}
    read = {
        name: _column([column.get(one) for one in ids], path, f"{file}: {name}")
        for name, column in cells.items()
        if any(_is_numeric(cell) for cell in column.values())
    }
    answers = {str(one): text[2] for one, text in dict(texts or {}).items() if isinstance(text, list) and len(text) > 2}

    def entry(**fields: np.ndarray) -> Entry:
        return Entry(None, Scores(tuple(ids), fields, answers, split), {})

    made = {}
    right, wrong, reworded = (read.get(f"{n}_loss") for n in ("avg_gt", "average_perturb", "avg_paraphrased"))
    if right is not None:
        made[f"{split}_Q_A_Prob"] = entry(prob=np.exp(-right), avg_loss=right)
    if wrong is not None:
        made[f"{split}_Q_A_PERT_Prob"] = entry(prob=np.exp(-wrong), avg_loss=wrong)
    if reworded is not None and split in ("forget", "retain"):
        made[f"{split}_Q_A_PARA_Prob"] = entry(prob=np.exp(-reworded), avg_loss=reworded)
    rouge = {name: read[name] for name in ("rouge1_recall", "rougeL_recall") if name in read}
    if rouge:
        made[f"{split}_Q_A_ROUGE"] = entry(**rouge)
    for name in ("Truth_Ratio", *(("Q_A_Prob_normalised",) if split in ("ra", "wf") else ())):
        key = "forget_truth_ratio" if (split, name) == ("forget", "Truth_Ratio") else f"{split}_{name}"
        made[key] = Entry(None, None, {})
    return made
