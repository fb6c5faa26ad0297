"""The upper bounds, which match the outputs of models that never saw the request."""

import jax
import jax.numpy as jnp
import numpy as np
import protocol
import pytest
import toy
from protocol import recorded
from steps import batch, begin, finish, outputs, padded, update, whole

from unlearn_jax.methods import METHODS
from unlearn_jax.methods.datamodel_matching import removal_effect
from unlearn_jax.roles import REFERENCES


@pytest.mark.parametrize("target", toy.some(["oracle", "retrain"], 1))
def test_oracle_matching_trains_a_population_of_its_own(target):
    own, calls = recorded(protocol.context(3))
    static = METHODS["oracle_matching"].static | {"target": target}
    start = {"params": {"w": np.zeros((3, 1))}, "state": {}}
    found, spent = METHODS["oracle_matching"].begin(own, static, start)
    (call,) = calls
    kept = toy.KEPT if target == "retrain" else np.setdiff1d(toy.KEPT, protocol.SIMILAR)
    assert len(call["rows"]) == 3 and all(np.array_equal(rows, kept) for rows in call["rows"])
    assert spent == (0.0, 20 * 16) and found["params"] is start["params"]
    assert call["role"] not in {*REFERENCES, "pilot"} and target in call["role"]
    again = own.train(call["role"], *own.training[:2], call["rows"], hp=own.training[2])
    every = batch(np.arange(toy.ROWS))
    for i in range(3):  # member i is given the outputs of model i, by row
        logits = outputs(jax.tree.map(jnp.asarray, toy.member(again["params"], i)), every)[0]
        np.testing.assert_allclose(found["target"][i], logits, rtol=1e-3, atol=1e-4)
    assert np.abs(found["target"][0] - found["target"][1]).max() > 0.01
    assert not np.array_equal(found["target"], own.predict(own.train(target, *own.training[:2], call["rows"],
                                                                     hp=own.training[2])))  # fmt: skip


def test_protocols_and_targets_never_share_draws_with_a_scored_population():
    roles = []
    for name, entry in METHODS.items():
        if entry.begin is None or name == "scrub_r":
            continue
        own, calls = recorded(protocol.context(2), lambda role, fold, plan, rows, **_: {"on": np.ones((len(rows), 1))})
        own = own._replace(predict=lambda v: np.zeros((len(v["on"]), toy.ROWS, toy.CLASSES), np.float32))
        entry.begin(own, entry.static, {"on": np.ones((2, 1))})
        roles += [call["role"] for call in calls]
    assert len(roles) >= 5 and len(set(roles)) == len(roles) and not set(roles) & {*REFERENCES, *METHODS, "pilot"}


@pytest.mark.parametrize("name", ["oracle_matching", "datamodel_matching"])
def test_matching_descends_the_squared_gap_of_logits_by_row(name, learned):
    target = np.random.default_rng(0).normal(size=(toy.ROWS, toy.CLASSES)).astype(np.float32)
    state = begin(name, whole(learned) | {"target": jnp.asarray(target)})
    after, loss = update(name, state, padded(), forget_weight=0.4)
    gap = lambda some, n: np.square(outputs(learned, some)[0] - target[np.asarray(some.index)[:n]]).mean()
    expected = 0.4 * gap(padded().forget, 5) + gap(padded().retain, 8)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    far = np.where(
        np.isin(np.arange(toy.ROWS), [*padded().forget.index[:5], *padded().retain.index[:8]])[:, None], 0, 7
    )
    other = begin(name, whole(learned) | {"target": jnp.asarray(target + far.astype(np.float32))})
    toy.same(update(name, other, padded(), forget_weight=0.4)[0].params, after.params)
    assert set(finish(name, after)) == {"params", "state"}


def test_removal_effects_of_a_linear_truth_are_exact():
    rng = np.random.default_rng(0)
    masks = rng.permuted(np.arange(16)[:, None] % 2 == np.zeros(5), axis=0).astype(float)
    effects, base = rng.normal(size=(5, 4, 3)), rng.normal(size=(4, 3))
    logits = base + np.einsum("mf,fnk->mnk", masks, effects)
    np.testing.assert_allclose(removal_effect(masks, logits, 0.0), effects.sum(axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(removal_effect(masks, logits + 5.0, 0.0), effects.sum(axis=0), rtol=1e-9, atol=1e-9)
    square = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)  # uncorrelated halves
    ridged = removal_effect(square, square @ effects[:2, 0], 0.25)
    np.testing.assert_allclose(ridged, effects[:2, 0].sum(axis=0) / 1.25, rtol=1e-9)


def test_datamodel_matching_predicts_the_model_without_the_request():
    rng, n = np.random.default_rng(0), toy.ROWS
    effects, models = rng.normal(size=(n, n, toy.CLASSES)).astype(np.float32), 24
    asked = [toy.REQUESTED[:5], toy.REQUESTED[5:], toy.REQUESTED[:5]]
    on = lambda rows: np.stack([np.isin(np.arange(n), r) for r in rows]).astype(np.float32)
    own = protocol.context(3, requested=asked, kept=toy.KEPT)
    own, calls = recorded(own, lambda role, fold, plan, rows, **_: {"on": on(rows)})
    own = own._replace(predict=lambda v: np.einsum("mf,fnk->mnk", v["on"], effects))
    static = METHODS["datamodel_matching"].static | {"models": models, "ridge": 1e-7}
    found, spent = METHODS["datamodel_matching"].begin(own, static, {"on": on(own.everything)})
    np.testing.assert_allclose(found["target"], own.predict({"on": on(own.kept)}), rtol=1e-3, atol=1e-2)
    assert len(calls) == 2 and spent == (0.0, pytest.approx(models * 2 / 3 * 20 * 16))  # equal requests share models
    for call, rows in zip(calls, asked[:2]):
        held = on(call["rows"])
        assert (held[:, toy.KEPT] == 1).all() and (held[:, rows].sum(axis=0) == models / 2).all()
        assert held.sum() == models * (40 + 2.5) and len(np.unique(held, axis=0)) > models / 2
    assert (on(calls[0]["rows"])[:, asked[0]] != on(calls[1]["rows"])[:, asked[1]]).any()
