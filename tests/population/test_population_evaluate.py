import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from unlearn_jax.population.evaluate import evaluate, features
from unlearn_jax.population.run import Stored
from unlearn_jax.tasks import classification
from unlearn_jax.types import Batch, Outputs

TASK = classification()


def scores(variables, data=None, **options):
    data = toy.stored() if data is None else data
    return evaluate(toy.perceptron(), TASK, variables, data, **{"width": 8} | options)


@pytest.fixture(scope="module")
def whole(trained):
    return scores(trained.variables)


def test_scores_equal_the_model_applied_to_one_member(trained, whole):
    data = toy.stored()
    assert whole.margin.shape == whole.correct.shape == (8, toy.ROWS) and whole.margin.dtype == np.float32
    batch = Batch(data.inputs, data.targets, jnp.ones(toy.ROWS), jnp.arange(toy.ROWS))
    for i in (0, 7):
        logits = toy.perceptron().apply(toy.member(trained.variables, i), data.inputs)[0].logits
        np.testing.assert_allclose(whole.margin[i], TASK.margin(logits, batch), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(whole.correct[i], TASK.correct(logits, batch))
    assert 0.5 < whole.correct[:, toy.KEPT].mean() <= 1.0


BLOCKS = {"block": 7, "width": 4}  # divides neither the rows nor the members


@pytest.mark.parametrize("options", toy.some([BLOCKS, {"axis": "map"}, {"block": 60}, {"width": 4}, {"width": 6}], 2))
def test_blocks_widths_and_axis_change_nothing(options, trained, whole):
    found = scores(trained.variables, **options)
    np.testing.assert_allclose(found.margin, whole.margin, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.correct, whole.correct)


def test_examples_are_read_row_by_row_and_members_need_not_fill_the_width(trained, whole):
    for members in (1, 6):
        found = scores(toy.member(trained.variables, slice(members)), **BLOCKS)
        assert found.margin.shape == (members, toy.ROWS)
        np.testing.assert_allclose(found.margin, whole.margin[:members], rtol=1e-5, atol=1e-5)
    data, order = toy.stored(), np.random.default_rng(0).permutation(toy.ROWS)
    found = scores(trained.variables, Stored(data.inputs[order], data.targets[order]), **BLOCKS)
    np.testing.assert_allclose(found.margin, whole.margin[:, order], rtol=1e-5, atol=1e-5)
    before = len(toy.COMPILED)
    scores(trained.variables)
    assert len(toy.COMPILED) == before


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_member_with_broken_weights_is_nan_everywhere(value, trained, whole):
    variables = jax.tree.map(np.array, trained.variables)
    variables["params"]["dense0"]["bias"][2, 0] = value
    variables["params"]["head"]["kernel"][2, 0] = 0.0  # so that the broken unit is not seen in the logits of inf - inf
    found = scores(variables)
    assert np.isnan(found.margin[2]).all() and np.isnan(found.correct[2]).all()
    others = np.arange(8) != 2
    np.testing.assert_array_equal(found.margin[others], whole.margin[others])


def test_broken_weights_that_no_logit_shows_are_found_in_any_float(trained):
    for dtype in (jnp.float32, jnp.bfloat16):
        spare = np.zeros((8, 2), dtype)
        spare[5, 1] = np.nan
        found = scores({**trained.variables, "state": {"spare": {"unused": spare}}})
        np.testing.assert_array_equal(np.isnan(found.margin).all(axis=1), np.arange(8) == 5)


def test_an_infinite_margin_marks_the_member(trained):
    inputs, _ = toy.examples()
    inputs[3] = 3e38
    found = scores(trained.variables, toy.stored(inputs))
    assert np.isnan(found.margin).all()


def test_shared_weights_have_no_member_axis():
    base = np.random.default_rng(1).normal(size=(16, toy.CLASSES)).astype(np.float32)

    def apply(variables, inputs, key=None, train=False):
        flat = inputs.reshape(inputs.shape[0], -1)
        logits = flat @ (variables["shared"]["base"] + variables["params"]["change"])
        return Outputs(logits, flat), variables["state"]

    model = toy.perceptron()._replace(apply=apply)
    change = np.random.default_rng(2).normal(size=(6, 16, toy.CLASSES)).astype(np.float32)
    variables = {"params": {"change": change}, "state": {}, "shared": {"base": base}}
    data = toy.stored()
    found = evaluate(model, TASK, variables, data, width=4)
    flat = np.asarray(data.inputs).reshape(toy.ROWS, -1)
    logits = flat @ (base + change)
    np.testing.assert_array_equal(found.correct, logits.argmax(axis=-1) == np.asarray(data.targets))
    assert features(model, variables, data.inputs, members=2).shape == (toy.ROWS, 32)


def test_features_of_members_stand_side_by_side(trained):
    inputs = toy.stored().inputs
    found = features(toy.perceptron(), trained.variables, inputs, members=2)
    assert found.shape == (toy.ROWS, 32) and found.dtype == np.float32
    second = toy.perceptron().apply(toy.member(trained.variables, 1), inputs)[0].features
    np.testing.assert_allclose(found[:, 16:], second, rtol=1e-5, atol=1e-5)
    assert features(toy.perceptron(), trained.variables, inputs, members=99).shape == (toy.ROWS, 8 * 16)
    blocks = features(toy.perceptron(), trained.variables, inputs, members=2, block=7)  # does not divide the rows
    np.testing.assert_allclose(blocks, found, rtol=1e-5, atol=1e-6)
