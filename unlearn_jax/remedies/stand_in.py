"""Stand-in: a brief training without the cluster predicts what an oracle would say; the model is fitted to that.

Ours: oracle matching (Georgiev et al. 2024, arXiv 2410.23232) without an oracle. The search says who is similar. A new
network, the stand-in, is trained by `brief_retrain` on what is neither requested nor found, for ``share`` of the
recipe's gradient evaluations; its confidence is set by held-out examples, of which it and the original are equally
ignorant, as an oracle is of the cluster. Then the method's students are fitted, by squared error of centred logits, to
the stand-in on the request and on what was found, and to themselves on retained batches (``retain_weight``), until
``total`` of the recipe's gradient evaluations is spent. Squared error, since a margin far from zero hardly moves a
divergence. Where a brief training is accurate enough by itself, `brief_retrain` with `expand` is simpler; this remedy
is for where it is not: the student keeps the original's accuracy elsewhere.
"""

from __future__ import annotations

from unlearn_jax.methods import brief_retrain, prepare
from unlearn_jax.population.plans import FORWARD
from unlearn_jax.remedies.common import Remedied, Remedy, RemedyContext, costing, moved, without
from unlearn_jax.remedies.distil import distilled, squared_error
from unlearn_jax.remedies.local_teacher import goal
from unlearn_jax.remedies.search import CHOICES, SEARCH, searched
from unlearn_jax.trees import split_shared


def apply(evidence: RemedyContext, settings: dict) -> Remedied:
    """Search, train the stand-ins, run the method, fit."""
    found, spent = searched(evidence, settings)
    treat = moved(evidence, found)
    teacher, cost, seconds = stand_ins(evidence, treat, settings)
    unlearned = evidence.run(treat)
    steps = steps_of(evidence, settings, cost)
    numbers = {name: settings[name] for name in ("lr", "retain_weight", "batch")} | {"steps": steps}
    after = distilled(evidence, unlearned, found, goal, {"teacher": teacher}, numbers, squared_error)
    after = after._replace(population=after.population._replace(seconds=after.population.seconds + seconds))
    return Remedied(costing(after, spent[0], spent[1] + cost), found)


def stand_ins(evidence: RemedyContext, treat, settings: dict) -> tuple:
    """Variables of every member's stand-in, gradient evaluations and seconds of its making, a member."""
    overrides = {"share": settings["share"], "calibrate": settings["calibrate"], "lr": settings["teacher_lr"]}
    fold, plan, numeric = prepare("brief_retrain", evidence.problem, overrides)
    static = brief_retrain.ENTRY.static | overrides
    context, before = evidence.context(treat), sum(evidence.clock)
    trained = context.train(f"{evidence.name}_stand_in", fold, plan, treat.kept, hp=numeric)
    trained, more = brief_retrain.end(context, static, evidence.original, trained)
    seconds = (sum(evidence.clock) - before) / len(treat.kept)
    return split_shared(trained)[0], plan.grad_evals_retain + sum(more), seconds


def steps_of(evidence: RemedyContext, settings: dict, spent: float) -> int:
    """Updates of the fit that the rest of ``total`` pays for, at least one: forward for the goal, and both ways."""
    each = 2 * settings["batch"] * (1.0 + FORWARD)
    return max(1, int((settings["total"] * evidence.train_cost - spent) // each))


REMEDY = Remedy(
    name="stand_in",
    paper="this project; oracle matching of arXiv 2410.23232 without an oracle",
    rule="after the method, fit the calibrated outputs of a brief training that never saw request and similar samples",
    apply=apply,
    numeric={"lr": 3e-3, "retain_weight": 0.3, "teacher_lr": 5e-3},
    static=SEARCH | {"share": 0.06, "total": 0.1, "calibrate": 128, "batch": 32},
    methods=without("fresh_init", "protocol", "reference"),
    choices=CHOICES,
    shares=("share", "total"),
    notes="`total` does not count what the method itself spends",
)
