"""Local teacher: a small teacher that knows only the request's surroundings says what the request should be taken for.

After Dolgova & Stich 2026 (arXiv 2605.31317), known from its abstract: errors against retraining grow with closeness
to the request, and soft labels of a small teacher trained on retained neighbours alone mend it. Ours: the search says
who is similar and must not teach; the teacher, a new initialisation of the same network, is trained on the
``neighbours`` nearest other retained samples of each requested one, of any class, for ``teacher_share`` of the
recipe's gradient evaluations in batches of a quarter of the recipe's under a one-cycle schedule. The method runs on
the request and what was found; then its students are distilled (`distil`) to the teacher on both, and to themselves
on retained batches. With `do_nothing` that is the teacher alone. The teacher's training is part of the cost.
"""

from __future__ import annotations

import numpy as np

from unlearn_jax.methods import retrain
from unlearn_jax.methods.support.parts import frozen
from unlearn_jax.population.plans import Plan, uniform_plan
from unlearn_jax.remedies.common import Remedied, Remedy, RemedyContext, by_request, costing, moved, without
from unlearn_jax.remedies.distil import NUMERIC, STATIC, distilled, numbers_of
from unlearn_jax.remedies.search import CHOICES, SEARCH, searched, similarity
from unlearn_jax.trees import split_shared


def goal(problem, kept, batch, hp):
    """The teacher's logits."""
    del hp
    return frozen(problem, kept["teacher"], batch.inputs).logits


def apply(evidence: RemedyContext, settings: dict) -> Remedied:
    """Search, train the teachers, run the method, distil."""
    found, spent = searched(evidence, settings)
    treat = moved(evidence, found)
    rows = by_request(evidence, lambda member: surroundings(evidence, member, found[member], settings))
    context, before = evidence.context(treat), sum(evidence.clock)
    fold, _, numeric = context.training
    plan = teacher_plan(evidence.problem.recipe, settings["teacher_share"])
    teacher = split_shared(context.train(f"{evidence.name}_teacher", fold, plan, rows, hp=numeric))[0]
    seconds = (sum(evidence.clock) - before) / len(rows)
    unlearned = evidence.run(treat)
    after = distilled(evidence, unlearned, found, goal, {"teacher": teacher}, numbers_of(settings))
    after = after._replace(population=after.population._replace(seconds=after.population.seconds + seconds))
    return Remedied(costing(after, spent[0], spent[1] + plan.grad_evals_retain), found)


def teacher_plan(recipe, share: float) -> Plan:
    """The share of the recipe's gradient evaluations in batches of a quarter of its own; at least one update."""
    batch = max(1, recipe.batch // 4)
    steps = max(1, int(share * recipe.steps * recipe.batch // batch))
    return uniform_plan(steps, retain_batch=batch, rate=retrain.rates(recipe._replace(schedule="cosine", steps=steps)))


def surroundings(evidence: RemedyContext, member: int, found: np.ndarray, settings: dict) -> np.ndarray:
    """Retained rows that may teach: the nearest of each requested row that were not found, ascending."""
    others = np.setdiff1d(evidence.kept[member], found)
    cosine = similarity(evidence, member, settings["similarity"], np.asarray(evidence.requested[member]), others)
    return np.unique(others[np.argsort(-cosine, axis=1, kind="stable")[:, : settings["neighbours"]]]).astype(np.int32)


REMEDY = Remedy(
    name="local_teacher",
    paper="Dolgova & Stich 2026, arXiv 2605.31317",
    rule="after the method, soft labels of a small teacher trained on retained neighbours that are not similar",
    apply=apply,
    numeric=dict(NUMERIC),
    static=SEARCH | STATIC | {"neighbours": 50, "teacher_share": 0.1},
    methods=without("fresh_init", "protocol", "reference"),
    choices=CHOICES,
    shares=("teacher_share",),
)
