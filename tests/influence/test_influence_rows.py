"""Which rows count and how: absent rows, weights, labels that do not exist, queries in parts and equal selections."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from refusals import refuses

from unlearn_jax.influence import (
    batch_of,
    cosine,
    ekfac_fit,
    ekfac_influence,
    ekfac_self_influence,
    gradient_norms,
    gram,
    group_influence,
    influence,
    projected_gradients,
    representer,
    representer_logits,
    representer_values,
    tracin,
    tracin_self,
    trak,
)
from unlearn_jax.influence.checks import check_targets
from unlearn_jax.models import build_model
from unlearn_jax.tasks import classification, free_text

TASK, ROWS, ABSENT = classification(), 60, 60
RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(ROWS + ABSENT, 4)).astype(np.float32), RNG.integers(0, 3, ROWS + ABSENT).astype(np.int32)
MODEL = build_model("mlp", 3, (4,), widths=(5,))
VARIABLES = jax.jit(MODEL.init)(jax.random.key(0), X[:1])
TRAIN = batch_of(X[:ROWS], Y[:ROWS])
PADDED = batch_of(X, Y, np.r_[np.ones(ROWS), np.zeros(ABSENT)].astype(np.float32))
QUERIES = batch_of(X[5:12] + 0.1, Y[5:12])
MODULES = {  # functions of the same names hide some of them
    name: sys.modules[f"unlearn_jax.influence.{name}"]
    for name in ("ekfac", "gram", "kfac", "projection", "score_checks", "trak")
}
GIVEN = MODEL, TASK, VARIABLES

# (train, n l2, n damping) -> scores; the second kind have no curvature, so n is not in the score itself
CURVED = {  # the first three by default
    "trak": lambda b, l2, d: trak(*GIVEN, b, QUERIES, lam=len(b.weight) * d, relative=0.0),
    "kfac": lambda b, l2, d: ekfac_influence(*GIVEN, b, QUERIES, labels="empirical", variant="kfac", l2=l2, damping=d),
    "influence": lambda b, l2, d: influence(*GIVEN, b, QUERIES, curvature="ggn", l2=l2, damping=d),
    "influence relative": lambda b, l2, d: influence(*GIVEN, b, QUERIES, curvature="ggn", relative_damping=0.1),
    "group": lambda b, l2, d: group_influence(*GIVEN, b, QUERIES, [[0, 1], [7]], curvature="ggn", l2=l2, damping=d),
    "ekfac": lambda b, l2, d: ekfac_influence(*GIVEN, b, QUERIES, labels="exact", l2=l2, damping=d),
    "ekfac relative": lambda b, l2, d: ekfac_influence(*GIVEN, b, QUERIES, labels="exact", relative_damping=0.1),
    "ekfac self": lambda b, l2, d: ekfac_self_influence(*GIVEN, b, labels="exact", l2=l2, damping=d)[:, None],
    "representer": lambda b, l2, d: representer(*GIVEN, b, QUERIES, l2=l2),
    "trak relative": lambda b, l2, d: trak(*GIVEN, b, QUERIES, relative=0.1),
    "trak projected": lambda b, l2, d: trak(*GIVEN, b, QUERIES, dim=8, key=jax.random.key(2)),
}
PLAIN = {
    "cosine": lambda b: cosine(*GIVEN, b, QUERIES),
    "tracin self": lambda b: tracin_self(*GIVEN[:2], [VARIABLES], b, rates=[0.3])[:, None],
    "gram": lambda b: gram(*GIVEN, b, QUERIES),
    "gram margin": lambda b: gram(*GIVEN, b, QUERIES, quantity="margin"),
    "tracin": lambda b: tracin(*GIVEN[:2], [VARIABLES], b, QUERIES, rates=[0.3]),
}


def close(got, want, tolerance):
    assert np.abs(np.asarray(got) - np.asarray(want)).max() <= tolerance * np.abs(want).max()


@pytest.mark.parametrize("name", toy.some(CURVED, 3))
def test_absent_rows_change_no_predicted_removal(name):
    """score / n, n counting them, where n l2 and n damping are kept: the objective is then the same sum."""
    few = np.asarray(CURVED[name](TRAIN, 0.05, 0.02))
    many = np.asarray(CURVED[name](PADDED, 0.05 / 2, 0.02 / 2))
    close(many[:ROWS] / (ROWS + ABSENT), few / ROWS, 1e-3)
    assert not many[ROWS:].any()


@pytest.mark.parametrize("name", toy.some(PLAIN, 2))
def test_absent_rows_score_nothing_where_there_is_no_curvature(name):
    few, many = np.asarray(PLAIN[name](TRAIN)), np.asarray(PLAIN[name](PADDED))
    close(many[:ROWS], few, 1e-5)
    assert not many[ROWS:].any() and few.any()


def test_normalise_is_a_name_or_yes():
    want = np.asarray(PLAIN["cosine"](TRAIN))
    for normalise in ("cosine", True):
        np.testing.assert_array_equal(gram(*GIVEN, TRAIN, QUERIES, normalise=normalise), want)
    refuses("unknown normalise 'sine'", gram, *GIVEN, TRAIN, QUERIES, normalise="sine")


@pytest.mark.slow
def test_a_row_of_weight_two_is_two_rows():
    twice = TRAIN._replace(weight=jnp.ones(ROWS).at[0].set(2.0))
    again = batch_of(np.concatenate([X[:ROWS], X[:1]]), np.concatenate([Y[:ROWS], Y[:1]]))
    for name in PLAIN.keys() - {"cosine"}:
        close(PLAIN[name](twice)[0], 2 * np.asarray(PLAIN[name](again)[0]), 1e-5)
    close(PLAIN["cosine"](twice), np.asarray(PLAIN["cosine"](TRAIN)), 1e-6)
    shift, n = 0.02, ROWS + 1
    for name in ("influence", "ekfac", "kfac"):
        one = np.asarray(CURVED[name](twice, 0.0, shift)) / ROWS
        other = np.asarray(CURVED[name](again, 0.0, shift * ROWS / n)) / n
        close(one[0], 2 * other[0], 1e-3)
        close(one[1:], other[1:-1], 1e-3)


SCORERS = {
    "gram": lambda t, q: gram(*GIVEN, t, q),
    "cosine": lambda t, q: cosine(*GIVEN, t, q),
    "tracin": lambda t, q: tracin(*GIVEN[:2], [VARIABLES], t, q, rates=[1.0]),
    "tracin_self": lambda t, q: tracin_self(*GIVEN[:2], [VARIABLES], t, rates=[1.0]),
    "gradient_norms": lambda t, q: gradient_norms(*GIVEN, t),
    "projected_gradients": lambda t, q: projected_gradients(*GIVEN, t, dim=3, key=jax.random.key(0)),
    "trak": lambda t, q: trak(*GIVEN, t, q),
    "trak ensemble": lambda t, q: trak(*GIVEN[:2], jax.tree.map(lambda x: x[None], VARIABLES), t, q, ensemble=True),
    "representer": lambda t, q: representer(*GIVEN, t, q, l2=0.1),
    "representer_logits": lambda t, q: representer_logits(*GIVEN, t, q, l2=0.1),
    "representer_values": lambda t, q: representer_values(*GIVEN, t, l2=0.1),
    "ekfac_fit": lambda t, q: ekfac_fit(*GIVEN, t),
    "ekfac_influence": lambda t, q: ekfac_influence(*GIVEN, t, q),
    "ekfac_self_influence": lambda t, q: ekfac_self_influence(*GIVEN, t),
}
ALONE = {"tracin_self", "gradient_norms", "projected_gradients", "representer_values", "ekfac_fit"}
ALONE |= {"ekfac_self_influence"}


@pytest.mark.parametrize("name", SCORERS)
def test_labels_that_do_not_exist_are_told(name):
    for bad, message in (
        (TRAIN._replace(targets=TRAIN.targets.at[3].set(3)), "targets from 0 to 3 and the model 3 classes"),
        (TRAIN._replace(targets=TRAIN.targets.at[3].set(-1)), "targets from -1 to 2 and the model 3 classes"),
        (TRAIN._replace(weight=TRAIN.weight.at[3].set(-1.0)), "weights that are negative"),
        (TRAIN._replace(weight=TRAIN.weight.at[3].set(jnp.nan)), "weights that are negative or not finite"),
    ):
        refuses(f"^(train|batch) has {message}", SCORERS[name], bad, QUERIES)
    if name not in ALONE:
        queries = QUERIES._replace(targets=QUERIES.targets.at[0].set(7).at[1].set(0))
        refuses("^queries has targets from 0 to 7", SCORERS[name], TRAIN, queries)


def test_tokens_may_be_no_part_of_an_answer_and_no_others_below_nought():
    model = build_model("decoder", 7, (4,), width=4, depth=1, heads=2)
    tokens, targets = np.ones((2, 4), np.int32), np.array([[-1, -1, 6, 0], [-1, 1, 2, -1]], np.int32)
    variables = jax.jit(model.init)(jax.random.key(0), tokens)
    check_targets(model, variables, batch_of(tokens, targets))
    for said, message in (
        (targets - 1, "from -2 to 5 and the model 7 tokens: give -1 for no part of an answer, and tokens from 0 to 6"),
        (targets + 1, "from 0 to 7 and the model 7 tokens"),
        (targets[:, 0], r"targets \(2,\) for logits \(2, 4, 7\)"),
        (targets[:, :3], r"targets \(2, 3\) for logits \(2, 4, 7\)"),
    ):
        refuses(message, gram, model, free_text(), variables, *[batch_of(tokens, said)] * 2)


def test_nothing_is_checked_that_is_not_known_yet():
    bad = TRAIN.targets.at[0].set(9)
    jax.jit(lambda y: check_targets(MODEL, VARIABLES, TRAIN._replace(targets=y)))(bad)
    scores = jax.jit(lambda v: gram(MODEL, TASK, v, TRAIN, QUERIES))(VARIABLES)  # labels are known here
    close(scores, np.asarray(gram(*GIVEN, TRAIN, QUERIES)), 1e-5)
    of = lambda v: gram(MODEL, TASK, v, TRAIN._replace(targets=bad), QUERIES)
    refuses("targets from 0 to 9", jax.jit(of), VARIABLES)


def test_queries_in_parts_score_the_same(monkeypatch):
    fit = ekfac_fit(*GIVEN, TRAIN, labels="exact")
    size = sum(block.values.size for block in fit.values())
    whole = np.asarray(ekfac_influence(*GIVEN, TRAIN, QUERIES, fit=fit))
    sizes, program = [], MODULES["ekfac"]._pair_program

    def watched(*settings):
        run = program(*settings)
        return lambda v, t, q, *more: (sizes.append(len(q.weight)), run(v, t, q, *more))[1]

    monkeypatch.setattr(MODULES["ekfac"], "_pair_program", watched)
    monkeypatch.setattr(MODULES["score_checks"], "HELD", 3 * size + 1)  # 7 queries by 3
    close(ekfac_influence(*GIVEN, TRAIN, QUERIES, fit=fit), whole, 1e-6)
    assert sizes == [3, 3, 3]
    monkeypatch.setattr(MODULES["score_checks"], "HELD", 1)  # not even one
    close(jax.jit(lambda v: ekfac_influence(MODEL, TASK, v, TRAIN, QUERIES, fit=fit))(VARIABLES), whole, 1e-5)
    assert sizes[3:] == [1] * 7


@pytest.mark.slow
def test_equal_selections_share_a_program():
    programs = [
        (MODULES["gram"]._gram_program, lambda s: gram(*GIVEN, TRAIN, QUERIES, select=s)),
        (MODULES["gram"]._norm_program, lambda s: gradient_norms(*GIVEN, TRAIN, select=s)),
        (MODULES["trak"]._program, lambda s: trak(*GIVEN, TRAIN, QUERIES, select=s)),
        (MODULES["kfac"].fit_program, lambda s: ekfac_fit(*GIVEN, TRAIN, select=s)),
        (
            MODULES["projection"]._program,
            lambda s: projected_gradients(*GIVEN, TRAIN, dim=3, key=jax.random.key(0), select=s),
        ),
    ]
    for program, of in programs:
        first = of(lambda path: path.startswith("head"))
        made = program.cache_info().misses
        second = of(lambda path: path.startswith("head"))
        assert program.cache_info().misses == made
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second)):
            np.testing.assert_array_equal(a, b)
        of(lambda path: path.startswith("dense0"))
        assert program.cache_info().misses == made + 1
