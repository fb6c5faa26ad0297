"""Who carries a target, by influence: against a direct computation, over levels, and where it cannot be told."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from flax import linen as nn
from flax import nnx

from unlearn_jax.influence import batch_of, ekfac_fit, ekfac_influence
from unlearn_jax.models import from_linen, from_nnx
from unlearn_jax.studies import influence_share as module
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.influence_share import influence_share
from unlearn_jax.studies.populations import level_of
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.setup import prepare_study

TARGETS, MEMBERS = 3, 2
CONFIG = StudyConfig(
    train_size=60, test_size=20, num_targets=TARGETS, members=MEMBERS, copies="1,2", steps=2, methods="none",
    targets="random", model_options=("widths=8",),
)  # fmt: skip


@pytest.fixture(scope="module")
def setup():
    return prepare_study(resolve(CONFIG))


def originals(setup, model=None, variables=None):
    """An outcome of untrained models, which is all that is asked of it."""
    model = model or setup.problem.model
    if variables is None:
        keys = jax.random.split(jax.random.key(7), MEMBERS)
        variables = jax.device_get(jax.vmap(lambda key: model.init(key, setup.stored.inputs[:1]))(keys))
    scores = SimpleNamespace(margin=np.zeros((MEMBERS, 4)))
    return SimpleNamespace(population=SimpleNamespace(variables=variables), scores=scores, role="original")


def one(outcome, member):
    return jax.tree.map(lambda x: jnp.asarray(x[member]), outcome.population.variables)


def by_hand(setup, level, variables, request=0, select=None):
    """(targets,) own and similar influence from the training set alone, one target after the other."""
    problem, rows, cluster = setup.problem, level.rows[request], setup.bench.cluster
    batch = lambda at: batch_of(setup.stored.inputs[at], setup.stored.targets[at])
    fit = ekfac_fit(
        problem.model, problem.task, variables, batch(np.sort(rows.everything)), labels="exact", select=select
    )
    own, similar = [], []
    for target in rows.forget:
        mine = rows.similar[cluster[rows.similar] == cluster[target]]
        given = (problem.model, problem.task, variables, batch(np.r_[target, mine]), batch(np.r_[target]))
        how = {"quantity": "margin", "relative_damping": 0.1}
        scores = np.asarray(ekfac_influence(*given, fit=fit, **how))
        own.append(scores[0, 0])
        similar.append(scores[1:, 0].sum())
    return np.asarray(own), np.asarray(similar)


def test_what_is_told_is_the_influence_of_the_rows_that_are_trained_on(setup):
    outcome = originals(setup)
    level, compiled, found = level_of(setup, 2, None), [], []
    with toy.quick_programs():
        for copies in (1, 2):  # levels share their programs
            found.append(influence_share(setup, level_of(setup, copies, None), outcome))
            compiled.append(len(toy.COMPILED))
        (_, before), (own, similar) = found
        assert own.role == similar.role == "original" and own.blocks[0].shape == (MEMBERS, TARGETS)
        np.testing.assert_array_equal(own.clusters[0], setup.bench.cluster[level.rows[0].forget])
        for member in range(MEMBERS):
            for told, true in zip((own, similar), by_hand(setup, level, one(outcome, member))):
                np.testing.assert_allclose(told.blocks[0][member], true, rtol=1e-3, atol=1e-5)
    assert compiled[0] == compiled[1] and (before.blocks[0] < similar.blocks[0]).all()
    assert (own.blocks[0] > 0).all() and (before.blocks[0] > 0).all()


@pytest.mark.slow
def test_at_one_copy_it_is_the_influence_of_the_rows_too(setup):
    outcome, level = originals(setup), level_of(setup, 1, None)
    with toy.quick_programs():
        found = influence_share(setup, level, outcome)
        assert [one.role for one in found] == ["original"] * 2 and found[0].blocks[0].shape == (MEMBERS, TARGETS)
        np.testing.assert_array_equal(found[0].clusters[0], setup.bench.cluster[level.rows[0].forget])
        for member in range(MEMBERS):
            for told, true in zip(found, by_hand(setup, level, one(outcome, member))):
                np.testing.assert_allclose(told.blocks[0][member], true, rtol=1e-3, atol=1e-5)
    assert (found[0].blocks[0] > 0).all() and (found[1].blocks[0] > 0).all()


def test_named_copies_are_no_similar_samples(setup):
    outcome, level = originals(setup), level_of(setup, 2, 0.67)
    assert len(level.rows[0].forget_copies) == len(level.rows[0].similar) == TARGETS
    with toy.quick_programs():
        _, similar = influence_share(setup, level, outcome)
        expected = by_hand(setup, level, one(outcome, 0))[1]
    np.testing.assert_allclose(similar.blocks[0][0], expected, rtol=1e-3, atol=1e-5)


def test_every_request_is_asked_of_its_own_members():
    setup = prepare_study(resolve(dataclasses.replace(CONFIG, requests=2)))
    outcome, level = originals(setup), level_of(setup, 2, None)
    with toy.quick_programs():
        own, similar = influence_share(setup, level, outcome)
        for request in range(2):
            expected = by_hand(setup, level, one(outcome, request), request)
            assert own.blocks[request].shape == (1, TARGETS)
            np.testing.assert_allclose(own.blocks[request][0], expected[0], rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(similar.blocks[request][0], expected[1], rtol=1e-3, atol=1e-5)


def test_diverged_members_are_passed_over(setup):
    outcome, level = originals(setup), level_of(setup, 2, None)
    broken = jax.tree.map(lambda x: np.concatenate([x[:1] * np.nan, x[1:]]), outcome.population.variables)
    spoilt = originals(setup, variables=broken)
    spoilt.scores.margin[0] = np.nan
    with toy.quick_programs():
        own, _ = influence_share(setup, level, spoilt)
        whole, _ = influence_share(setup, level, outcome)
    assert own.blocks[0].shape == (1, TARGETS)
    np.testing.assert_array_equal(own.blocks[0][0], whole.blocks[0][1])
    spoilt.scores.margin[:] = np.nan
    assert influence_share(setup, level, spoilt) == "who carries the targets is not told: the original models diverged"


def test_of_a_large_network_the_last_layer_counts(setup, monkeypatch):
    monkeypatch.setattr(module, "SMALL", 10)
    outcome, level = originals(setup), level_of(setup, 2, None)
    with toy.quick_programs():
        own, similar = influence_share(setup, level, outcome)
        expected = by_hand(setup, level, one(outcome, 1), select=lambda name: name == "head")
    np.testing.assert_allclose(own.blocks[0][1], expected[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(similar.blocks[0][1], expected[1], rtol=1e-3, atol=1e-5)


def test_the_curvature_of_much_data_is_that_of_a_fixed_part(setup, monkeypatch):
    monkeypatch.setattr(module, "MAX_ROWS", 20)
    rows = level_of(setup, 1, None).rows[0]
    batch, again = (module._fitted(setup, rows) for _ in range(2))
    assert len(batch.weight) == TARGETS * 3 + 20 and batch.weight.sum() == TARGETS * 2 + 20
    np.testing.assert_array_equal(batch.inputs, again.inputs)


class _Net(nnx.Module):
    """A network of NNX, whose layers cannot be tapped."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        return self.dense(x), x


class _Table(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = x.reshape(x.shape[0], -1)
        table = self.param("table", nn.initializers.normal(), (x.shape[1], 10))
        return x @ table, x


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "model, small",
    [
        pytest.param(from_nnx(_Net), 300_000, id="nnx"),
        pytest.param(from_linen(_Table()), 1, id="table"),
        pytest.param(from_nnx(_Net), 1, id="nnx-large", marks=SLOW),
        pytest.param(from_linen(_Table()), 300_000, id="table-small", marks=SLOW),
    ],
)
def test_models_without_layers_to_tap_are_said_in_a_sentence(setup, model, small, monkeypatch):
    monkeypatch.setattr(module, "SMALL", small)
    other = setup._replace(problem=setup.problem._replace(model=model))
    with toy.quick_programs():
        said = influence_share(other, level_of(setup, 2, None), originals(setup, model))
    assert said.startswith("who carries the targets is not told: no dense or convolutional layer can be tapped")
    assert "\n" not in said and not said.endswith(".")
