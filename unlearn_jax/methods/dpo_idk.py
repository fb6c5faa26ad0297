"""DPO with refusals: prefer "I do not know", or another answer, to the requested one, beside retained data.

Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290) as used in TOFU (Maini et al. 2024, arXiv
2401.06121): minimise ``-(2 / beta) mean over F of log sigmoid(beta (r(winner) - r(requested))) + retain_weight l(R)``
with r the logarithm of p(answer) over the original's, of whole answers. The factor 2 / beta, as in public benchmarks,
makes `npo` the case without a winner. ``winner=refusal`` is the task's refusal; ``winner=other`` is another answer of
its kind, one for each example, drawn once from the member's key: AltPO (Mekala et al. 2024, arXiv 2409.13474), whose
alternatives a language model writes. Classes know no refusal, so with them the winner is always another class. The
preference saturates, so there is no ``bound``. Batch statistics in evaluation mode on the request and in the
original, in training mode on the retained batch.
"""

from __future__ import annotations

import jax

from unlearn_jax.errors import choose
from unlearn_jax.methods.npo import repulsion
from unlearn_jax.methods.random_label import wrong_answers
from unlearn_jax.methods.support.common import (
    BOTH,
    EARLIER,
    LANGUAGE,
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    Span,
    TrainSpec,
    weighted_mean,
)
from unlearn_jax.methods.support.parts import frozen
from unlearn_jax.methods.support.sequences import beside_plan, beside_retained, logits_of, sequence_logprob
from unlearn_jax.population.plans import FORWARD
from unlearn_jax.types import Array, Batch, Method


def preferred(problem: TrainSpec, winner: str, key: Array, batch: Batch) -> Batch:
    """The batch with what is preferred as answers; ``key`` is key data, by which other answers are drawn."""
    if choose("winner", winner, ("refusal", "other")) == "refusal" and problem.task.refuse is not None:
        return problem.task.refuse(batch)
    return wrong_answers(jax.random.wrap_key_data(key), batch, problem.num_classes, False, problem.task.swap)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Preference on F beside descent on R."""

    def ratio(student, teacher, batch):
        logprob = sequence_logprob(problem, logits_of(problem, student, batch), batch)
        return logprob - sequence_logprob(problem, frozen(problem, teacher, batch.inputs).logits, batch)

    def lose(student, trained, batch):
        teacher = trained.extra["teacher"]
        winner = preferred(problem, static["winner"], trained.extra["key"], batch)
        apart = ratio(student, teacher, batch) - ratio(student, teacher, winner)
        return weighted_mean(repulsion(apart, hp["beta"]), batch.weight)

    extra = lambda key, variables: {"teacher": variables, "key": jax.random.key_data(key)}
    return beside_retained(problem, static, hp, lose, extra=extra)


ENTRY = MethodSpec(
    name="dpo_idk",
    paper="Rafailov et al. 2023, arXiv 2305.18290; Maini et al. 2024, arXiv 2401.06121; AltPO, arXiv 2409.13474",
    rule="prefer a refusal, or another answer, to the requested one; descend the loss on retained data",
    needs=frozenset({"forget", "retain", "teacher"}),
    build=build,
    plan=beside_plan(forget_cost=2.0 * (1.0 + FORWARD)),  # both answers
    numeric={"lr": 3e-5, "beta": 0.1, "retain_weight": 1.0},
    static={"epochs": 10, "batch": 128, "pieces": 12, "optimizer": "adam", "momentum": 0.9, "winner": "refusal"},
    presets={
        "small": TUNED,
        "small_text": ({"pieces": 1, "lr": 5e-4}, RULE),
        "small_conv": ({"pieces": 1, "lr": 9e-5}, RULE),
        "small_transformer": ({"pieces": 1, "lr": 3e-4}, EARLIER),
        "cifar": (
            {"pieces": 0, "lr": 1e-4},
            "ours, not tuned: the papers are on text; a third of the small scale's rate",
        ),
        "language": (LANGUAGE[0] | {"pieces": 0}, LANGUAGE[1] + "; beta .1 and weight 1 as there"),
    },
    notes="of classes, another class is preferred, as in AltPO",
    reads=BOTH,
    space=(RATE, Span("beta", 0.3, 30.0)),
)
