"""What protocols are given, on the toy: the job and the context of a study, and a context that writes down."""

from __future__ import annotations

import numpy as np

from unlearn_jax.data.splits import RequestRows
from unlearn_jax.methods import prepare
from unlearn_jax.methods.runner import RunOverrides, RunSpec, context_of
from unlearn_jax.population.run import Options
from unlearn_jax.testing import toy

EMPTY = np.zeros(0, np.int32)
SIMILAR = toy.KEPT[-4:]  # kept rows that stand for the request's similar ones: the oracle never sees them
ROOM = len(toy.KEPT) + len(toy.REQUESTED)


def job(members, *, kept=toy.KEPT, requested=toy.REQUESTED, similar=SIMILAR, heldout=toy.UNUSED, recipe=toy.RECIPE,
        seed=0, data=None, chunk=8, model=None):  # fmt: skip
    """The `RunSpec` of a toy study; each set is one for all members or a list by member."""
    by_member = lambda rows: rows if isinstance(rows, list) else [rows] * members
    sets = [
        RequestRows(
            *(np.asarray(request, np.int32), EMPTY, np.intersect1d(stay, near), np.setdiff1d(stay, near)),
            *(unseen, EMPTY, EMPTY, 1.0),
        )
        for stay, request, near, unseen in zip(*map(by_member, (kept, requested, similar, heldout)), strict=True)
    ]
    problem = toy.problem(model, recipe)
    training = prepare("retrain", problem)
    data = toy.stored() if data is None else data
    return RunSpec(problem, data, sets, training, Options(chunk=chunk), seed, ROOM, "small", 0.0)


def context(members, **given):
    """The `Context` of a toy study by its own `context_of`; arguments as of `job`."""
    spec = job(members, **given)
    stay = [np.sort(np.concatenate([r.similar, r.rest])).astype(np.int32) for r in spec.rows]
    return context_of(spec, RunOverrides(stay, [r.requested for r in spec.rows], role="toy"), [])


def recorded(own, answer=None):
    """(context, calls) like ``own`` whose ``train`` writes down what it is asked, then asks ``answer`` or ``own``."""
    calls, answer = [], answer or own.train

    def train(role, fold, plan, rows, *, start=None, hp=None):
        calls.append({"role": role, "fold": fold, "plan": plan, "rows": rows, "start": start, "hp": hp})
        return answer(role, fold, plan, rows, start=start, hp=hp)

    return own._replace(train=train), calls
