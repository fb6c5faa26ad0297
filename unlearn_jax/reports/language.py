"""The table of what language models answer."""

from __future__ import annotations

import math
from html import escape

from unlearn_jax.reports.provenance import link
from unlearn_jax.reports.summary import Summary
from unlearn_jax.reports.table import figure_cell, name_cell

# heading, metric, split, reference, digits (none = two significant ones)
COLUMNS = (
    ("targets,<br>probability", "answer_probability", "forget", None, 3),
    ("targets,<br>ROUGE-L", "rouge_l", "forget", None, 2),
    ("extraction<br>strength", "extraction_strength", "forget", None, 2),
    ("new words,<br>probability", "answer_probability", "test_similar", None, 3),
    ("log truth<br>ratio", "log_truth_ratio", "test_similar", None, 2),
    ("D against<br>retrain", "forget_quality_distance", "test_similar", "retrain", 2),
    ("D against<br>oracle", "forget_quality_distance", "test_similar", "oracle", 2),
    ("forget quality<br>against oracle", "forget_quality", "test_similar", "oracle", None),
    ("AUC of<br>min-k%", "auc_min_k", "forget", None, 2),
    ("model<br>utility", "model_utility", "rest", None, 2),
)
WORDS = (
    "Probability: of the true answer, geometric mean of its tokens. New words: held-out statements of the targets' "
    "facts, in which the truth ratio (wrong answers over the right one; higher = forgotten) is taken too. "
    "D: largest gap between the truth ratios' distributions and a reference's (0 = alike; two populations of one kind "
    "are not at 0); forget quality: the p-value of that gap for one model, mean over members. "
    "AUC: how well the score tells targets from test statements (0.5 = not at all). Utility: harmonic mean of "
    "probability, ROUGE-L and truth ratio on retained and test statements."
)


def language_table(summary: Summary, level: int) -> str:
    """Every population's answers at a level; '' where the run is not of language."""
    entries = summary.entries(level)
    if not any(math.isfinite(summary.find(level, e, "model_utility").mean) for e in entries):
        return ""
    head = "".join(f'<th scope="col">{heading}</th>' for heading, *_ in COLUMNS)
    rows = []
    for entry in entries:
        cells = "".join(
            figure_cell(summary.find(level, entry, metric, split, against), digits)
            for _, metric, split, against, digits in COLUMNS
        )
        kind = ' class="reference"' if entry.is_reference else ""
        rows.append(f"<tr{kind}>{name_cell(summary, entry)}{cells}</tr>")
    table = f'<table><thead><tr><th class="name" scope="col">Population</th>{head}</tr></thead>'
    caption = f'<p class="caption">{escape(WORDS)} {link(level)}</p>'
    return f'{caption}<div class="scroll">{table}<tbody>{"".join(rows)}</tbody></table></div>'
