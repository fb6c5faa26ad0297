"""Methods on a language model: prompt and padding are masked, and answers stay among the values of their attribute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from statements import CUES, PROBLEM, SAID, STATEMENTS, VALUES, VOCABULARY, batch

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, prepare, sisa
from unlearn_jax.methods.random_label import wrong_answers
from unlearn_jax.population.plans import Sizes
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.validate import check
from unlearn_jax.types import Batches

LANGUAGE = [name for name, entry in METHODS.items() if "language" in entry.reads]
ONCE = {"weight_decay": 0.0, "epochs": 2, "batch": 4, "max_epochs": 1, "decay": (), "forget_batch": 4, "bound": np.inf}


def unlearned(name, kept=(2, 3, 4, 5), **settings):
    """Logits before and after a method that sees two statements to forget and four to retain at every update."""
    entry = METHODS[name]
    own = {k: v for k, v in (ONCE | settings).items() if k in entry.static or k in entry.numeric}
    fold, plan, numeric = prepare(name, PROBLEM, own, Sizes(2, 4, 3))
    method = fold.build({k: jnp.float32(v) for k, v in numeric.items()}, {})
    start = PROBLEM.model.init(jax.random.key(0), None)
    state, update = method.init(jax.random.key(1), start), jax.jit(method.update)
    for t in range(plan.steps):
        given = Batches(
            batch([0, 1]), batch(list(kept)), jnp.int32(plan.phase[t]), jnp.int32(t), jnp.float32(plan.rate[t]),
            jnp.float32(t / plan.steps),
        )  # fmt: skip
        state, loss = update(jax.random.fold_in(jax.random.key(2), t), state, given)
        assert loss.shape == () and bool(jnp.isfinite(loss))
    after = method.finish(state)
    return np.asarray(start["params"]["rows"]), np.asarray(after["params"]["rows"])


EVERYWHERE = {  # methods that change all weights whatever they read, and why
    "retrain": "draws all weights anew",
    "brief_retrain": "draws all weights anew",
    "certified_finetune": "begins around a new initialisation, with noise on all weights",
    "do_nothing": "changes nothing",
    "sisa": "trains an ensemble anew before",
    "langevin": "adds noise to all weights",
    "eu_k": "draws the last group of layers anew, here the only one",
    "kde": "draws the first and the last group anew",
    "prmq": "rounds all weights",
}
OWN = {
    "ssd": {"alpha": 1e-3, "scale": 1e-3},
    "lfssd": {"alpha": 1e-3, "scale": 1e-3},
    "l1_sparse": {"alpha": 0.0},
    "woodfisher": {"samples": 4},
    "influence": {"steps": 3},
    "warnecke_second": {"steps": 3},
    "sfron": {"rounds": 2},
    "gauss_newton": {"rounds": 2, "steps": 2, "damping": 1.0},
    "negmerge": {"half": False},  # of two statements
}


@pytest.mark.parametrize("name", toy.some([name for name in LANGUAGE if name not in EVERYWHERE], 8))
def test_only_what_is_said_where_an_answer_is_due_is_changed(name):
    before, after = unlearned(name, **OWN.get(name, {}))
    others = np.setdiff1d(np.arange(VOCABULARY), SAID)
    np.testing.assert_array_equal(after[others], before[others])  # prompt, answer and padding: nothing follows them
    assert np.abs(after[CUES] - before[CUES]).max() > 0
    if name in ("ssd", "lfssd"):
        assert (np.abs(after[CUES]) <= np.abs(before[CUES])).all()  # dampened


@pytest.mark.parametrize("name", ["eu_k", "kde", "prmq", "langevin"])
def test_what_else_is_changed_does_not_depend_on_what_is_read(name):
    one, other = (unlearned(name, kept)[1] for kept in ((2, 3, 4, 5), (2, 3, 2, 3)))
    others = np.setdiff1d(np.arange(VOCABULARY), SAID)
    np.testing.assert_array_equal(one[others], other[others])
    assert np.abs(one[CUES] - other[CUES]).max() > 0


def test_an_ensemble_of_language_models_votes_token_by_token():
    rows = jax.random.normal(jax.random.key(0), (3, VOCABULARY, VOCABULARY))
    found, _ = sisa.voting(PROBLEM, {}).apply({"params": {"rows": rows}, "state": {}}, batch([0, 1, 2]).inputs)
    each = np.asarray(jax.nn.softmax(rows))[:, np.asarray(STATEMENTS)[:3]]
    np.testing.assert_allclose(np.exp(found.logits), each.mean(axis=0), rtol=1e-5)


def test_wrong_answers_are_other_values_of_the_same_attribute():
    some = batch([0, 1, 2, 3])
    group = {tuple(value): i for i, values in enumerate(VALUES.tolist()) for value in values}
    answers = lambda targets: [tuple(row[row >= 0].tolist()) for row in np.asarray(targets)]
    true = answers(some.targets)
    for allowed in (False, True):
        keys = [jax.random.key(seed) for seed in range(30)]
        drawn = [wrong_answers(key, some, 3, allowed, PROBLEM.task.swap) for key in keys]
        for other in drawn:
            np.testing.assert_array_equal(other.targets >= 0, some.targets >= 0)
            read = np.take_along_axis(np.asarray(other.inputs), np.argmax(other.targets >= 0, axis=1)[:, None] + 1, 1)
            assert read[:, 0].tolist() == [first for first, _ in answers(other.targets)]  # and is what the model reads
            assert [group[a] for a in answers(other.targets)] == [group[a] for a in true]
        same = np.mean([[a == b for a, b in zip(answers(other.targets), true)] for other in drawn])
        assert same == 0 if not allowed else 0.2 < same < 0.5


@pytest.mark.slow
def test_a_study_of_language_leaves_out_with_a_note_what_is_defined_for_classes_alone():
    study = StudyConfig(dataset="facts", methods="all")
    out = resolve(study).left_out
    unfit = {name for name in LANGUAGE if "language" in METHODS[name].unfit}
    assert unfit == {"sisa", "brief_retrain"} and set(METHODS) - set(out) == set(LANGUAGE) - unfit
    assert out["duck"] == "duck is not defined for language and was not run"
    check(resolve(study))
    with pytest.raises(InputError, match="'duck' is not defined for language: leave it out"):
        check(resolve(StudyConfig(dataset="facts", methods="scrub,duck")))
    assert not [name for name in resolve(StudyConfig(methods="all")).left_out if "language" in METHODS[name].reads]
