"""Logs as open-unlearning writes them, of invented models, with the aggregates stated by slow transcriptions."""

import json

import numpy as np
from scipy.stats import hmean

SPLITS = {"forget": 40, "retain": 30, "ra": 20, "wf": 20}


def tofu_log(seed=0, forget=0.2, utility=0.8, shift=0.0, questions=0):
    """An EVAL log; ``forget`` = probability of what was to be forgotten, ``shift`` moves every loss alike."""
    noise, rng = np.random.default_rng(questions), np.random.default_rng([7, seed])
    log, level = {}, {"forget": forget, "retain": utility, "ra": utility, "wf": utility}
    for split, count in SPLITS.items():
        mine = -np.log(level[split]) + shift + 0.1 * noise.random(count) + 0.02 * rng.random(count)
        wrong = 2.0 + 0.5 * noise.random((count, 3))
        by = {"Prob": mine, "PERT_Prob": wrong} | ({"PARA_Prob": mine + 0.3} if split in ("forget", "retain") else {})
        for name, loss in by.items():
            log[f"{split}_Q_A_{name}"] = entry(prob=np.exp(-loss), avg_loss=loss)
        rouge = np.clip(level[split] + 0.1 * noise.random(count), 0, 1)
        texts = [f"answer {split} {questions} {number}" for number in range(count)]
        log[f"{split}_Q_A_ROUGE"] = entry(
            rougeL_recall=rouge, rougeL_f1=rouge / 2, rouge1_recall=rouge, ground_truth=texts
        )
        right = mine + 0.3 if split in ("forget", "retain") else mine
        ratio = np.exp(-wrong.mean(1)) / (np.exp(-right) + 1e-10)
        log["forget_truth_ratio" if split == "forget" else f"{split}_Truth_Ratio"] = entry(score=ratio)
        if split in ("ra", "wf"):
            prob = np.exp(-mine) / (np.exp(-mine) + np.exp(-wrong).sum(1) + 1e-10)
            log[f"{split}_Q_A_Prob_normalised"] = entry(prob=prob)
    log["extraction_strength"] = entry(score=np.clip(forget + 0.1 * noise.random(40), 0, 1))
    members, others = 3 - 2 * forget + noise.random(40), 3 + noise.random(40)
    log["mia_min_k"] = {"forget": entry(score=members), "holdout": entry(score=others)}
    return log


def entry(**fields):
    """Values by question."""
    count = len(next(iter(fields.values())))
    plain = lambda value: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return {
        "value_by_index": {str(i): {name: plain(column[i]) for name, column in fields.items()} for i in range(count)}
    }


def column(log, name, field):
    """A field of a metric."""
    return np.asarray([row[field] for row in log[name]["value_by_index"].values()])


def state(log):
    """The aggregates that the log has to state, added to it."""
    for name, one in log.items():
        if name.endswith("_ROUGE"):
            one["agg_value"] = float(column(log, name, "rougeL_recall").mean())
        elif "Prob" in name:
            one["agg_value"] = float(column(log, name, "prob").mean())
        elif name == "extraction_strength":
            one["agg_value"] = float(column(log, name, "score").mean())
        elif name == "forget_truth_ratio":
            ratio = column(log, name, "score")
            one["agg_value"] = float(np.mean([min(r, 1 / (r + 1e-10)) for r in ratio]))
        elif name.endswith("Truth_Ratio"):
            one["agg_value"] = float(np.mean([max(0, 1 - r) for r in column(log, name, "score")]))
        elif name == "mia_min_k":
            one["auc"] = one["agg_value"] = auc_of(one)
    parts = [log[f"retain_{part}"]["agg_value"] for part in ("Q_A_Prob", "Q_A_ROUGE", "Truth_Ratio")]
    for split in ("ra", "wf"):
        parts += [log[f"{split}_{part}"]["agg_value"] for part in ("Q_A_Prob_normalised", "Q_A_ROUGE", "Truth_Ratio")]
    log["model_utility"] = {"agg_value": float(hmean(parts))}
    return log


def auc_of(one):
    """Share of pairs in which the held-out text scores higher."""
    members, others = ([row["score"] for row in one[side]["value_by_index"].values()] for side in ("forget", "holdout"))
    return float(np.mean([(other > member) + 0.5 * (other == member) for member in members for other in others]))


def write(folder, name, log):
    """The log as a file."""
    path = folder / f"{name}_EVAL.json"
    path.write_text(json.dumps(log))
    return path
