"""What deleting one of many copies does: the law of ridge regression, and softmax regression beside it."""

from __future__ import annotations

import numpy as np

from unlearn_jax.attribution.ground import Ground
from unlearn_jax.influence import deletion_effect, logistic_fit, logistic_removal, removal_effects, ridge_removal
from unlearn_jax.metrics.ridge import leave_out_leverage, ridge_fit

COPIES = (0, 1, 2, 4, 8, 16, 32)
TARGETS = 3


def law_rows(ground: Ground, inputs: np.ndarray, l2: float) -> list[dict]:
    """Deletion of one of m + 1 exact copies of a target, for every m.

    Args:
        ground: of the study; the copies that it made take no part.
        inputs: (n, d) of its training rows, with a column of ones.
        l2: weight decay of both regressions.

    Returns:
        Rows with ``model`` (ridge, softmax), ``copies`` m that stay, ``effect`` of the deletion on the target's own
        prediction (ridge: towards 1 for its class against 0; softmax: on its loss, nats) and ``law``, what the closed
        form says of ridge.
    """
    labels = ground.labels(ground.train)
    plain = np.setdiff1d(np.arange(len(inputs)), np.concatenate(ground.clusters))
    rows = []
    for target in ground.targets[:TARGETS]:
        x, target_input = inputs[plain], inputs[target]
        y, mine = (labels[plain] == labels[target]).astype(float), int(labels[target])
        total, start = len(x) * l2, None
        h = leave_out_leverage(np.concatenate([x, target_input[None]]), len(x), total)
        residual = 1.0 - float(target_input @ ridge_fit(x, y, np.ones(len(x)), total))
        for m in COPIES:
            more = np.concatenate([x, np.repeat(target_input[None], m + 1, axis=0)])
            count, answers = len(more), np.concatenate([y, np.ones(m + 1)])
            penalty = total / count  # the same penalty on the sum of losses, however many copies
            full = ridge_fit(more, answers, np.ones(count), total)
            less = ridge_removal(more, answers, [[count - 1]], l2=penalty)[0]
            keys = {"cluster": int(np.flatnonzero(ground.targets == target)[0]), "copies": m}
            effect = float(target_input @ (full - less))
            rows.append(keys | {"model": "ridge", "effect": effect, "law": float(deletion_effect(m, h, residual))})
            classes = np.concatenate([labels[plain], np.full(m + 1, mine)])
            setting = {"l2": penalty, "classes": ground.setup.problem.num_classes}
            start = logistic_fit(more, classes, start=start, **setting)
            gone = logistic_removal(more, classes, [[count - 1]], start=start, **setting)
            change = removal_effects(start, gone, target_input[None], [mine], rows=1)
            rows.append(keys | {"model": "softmax", "effect": float(change[0, 0]), "law": np.nan})
    return rows
