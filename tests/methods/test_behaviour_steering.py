"""RMU's hidden states and the weights it moves, task vectors, and the language models' rules on classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from rules import Rules, followed, gathered, requested, started, stepped, tables
from scipy.special import expit, log_softmax, softmax
from statements import PROBLEM, VOCABULARY
from steps import SGD, backward, batch, begin, forward, live, logits, outputs, padded, update, whole
from steps import followed as descended

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, dpo_idk, prepare, rmu
from unlearn_jax.methods.support.common import Recipe, Trained, TrainSpec
from unlearn_jax.models import build_model
from unlearn_jax.population.plans import Sizes
from unlearn_jax.tasks import free_text
from unlearn_jax.types import Batch, Batches, Outputs

# --- RMU: what is steered ------------------------------------------------------------------------------------------


def direction(state, width):
    """What a member steers to, by its kept key."""
    drawn = np.asarray(jax.random.uniform(jax.random.wrap_key_data(state.extra["key"]), (width,)), np.float64)
    return drawn / np.linalg.norm(drawn)


def test_a_direction_is_a_unit_vector_without_negative_entries_of_the_members_own():
    own = [direction(started("rmu", {}, key=key), 64) for key in (1, 1, 2)]
    np.testing.assert_array_equal(own[0], own[1])
    assert own[0] @ own[2] < 0.95
    assert all(x.min() >= 0 and x.std() > 0.02 and x @ x == pytest.approx(1.0) for x in own)


def test_the_states_before_an_answers_tokens_are_steered_and_held():
    hp = {"scale": 6.0, "retain_weight": 0.4}
    before, after, _ = stepped("rmu", hp)
    unit, rules = direction(before, VOCABULARY), Rules()
    steer = lambda token, true: 2 / VOCABULARY * (rules.student[token] - 6.0 * unit)
    hold = lambda token, true: 2 / VOCABULARY * (rules.student[token] - rules.original[token])
    expected = gathered(rules.asked, steer) + 0.4 * gathered(rules.kept, hold)
    found = np.asarray(before.params["rows"], np.float64) - np.asarray(after.params["rows"])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6)
    still = before._replace(params={"rows": jnp.asarray(tables()[0])})  # held where it is
    rows = np.unique(np.asarray(requested()[1].inputs)[np.asarray(requested()[1].targets) >= 0])
    alone = np.setdiff1d(rows, np.asarray(requested()[0].inputs)[np.asarray(requested()[0].targets) >= 0])
    assert np.abs(followed("rmu", hp, state=still)[alone]).max() == 0.0 and len(alone)


def test_the_features_are_steered_where_there_are_no_hidden_states(teacher, student):
    hp = {"lr": 1.0, "scale": 6.0, "retain_weight": 0.4}
    state = begin("rmu", teacher, static=SGD)._replace(params=student)
    after, _ = update("rmu", state, padded(), static=SGD, **hp)

    def slope(some, goal, weight):
        features = outputs(student, some)[1]
        at = weight * 2 / features.size * (features - goal) * (features > 0)
        flat = live(some).inputs.reshape(len(features), -1)
        return {"kernel": flat.T @ at, "bias": at.sum(axis=0)}

    forget, retain = padded().forget, padded().retain
    parts = slope(forget, 6.0 * direction(state, 16), 1.0), slope(retain, outputs(teacher["params"], retain)[1], 0.4)
    layer = jax.tree.map(np.add, *parts)
    still = jax.tree.map(np.zeros_like, student["head"])
    descended(student, after.params, {"dense0": layer, "head": still}, tolerance=1e-4)


# --- RMU: what moves -----------------------------------------------------------------------------------------------


def text(depth):
    """A problem of free text with a small decoder, and its variables."""
    model = build_model("decoder", 12, (6,), width=8, depth=depth, heads=2)
    task = TrainSpec(model, free_text(), jax.ShapeDtypeStruct((1, 6), jnp.int32), 12, Recipe())
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 6), jnp.int32))
    rng = np.random.default_rng(0)
    return task, jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), shapes)


@pytest.mark.parametrize("depth, layer, blocks", toy.some(
    [(6, "block4", [2, 3, 4]), (2, "middle", [0]), (1, "middle", [0]), (6, "middle", [0, 1, 2]), (6, "block0", [0])],
    2,
))  # fmt: skip
def test_three_blocks_up_to_the_steered_one_move(depth, layer, blocks):
    task, variables = text(depth)
    mask = rmu.moving(task, variables["params"], Trained(variables["params"], {}, ()), layer)
    found = {name for name, group in mask.items() if all((x == 1).all() for x in jax.tree.leaves(group))}
    assert found == {f"block{i}" for i in blocks}
    assert all((x == 0).all() for name in set(mask) - found for x in jax.tree.leaves(mask[name]))


def test_an_unknown_layer_lists_the_models_own():
    hidden = Outputs(jnp.zeros((1, 2)), jnp.zeros((1, 3)), {"block0": jnp.zeros((1, 4, 3))})
    with pytest.raises(ValueError, match="unknown layer 'block9': choose one of block0, middle"):
        rmu.steered(PROBLEM, hidden, "block9")
    assert rmu.steered(PROBLEM, hidden._replace(hidden=None), "block9")[0] == ""
    name, states = rmu.steered(toy.problem(), hidden, "block9")  # of a classifier of tokens, which has blocks too
    assert name == "" and states is hidden.features


@pytest.mark.slow
def test_all_other_weights_of_a_decoder_stay_bit_identical():
    task, variables = text(2)
    fold, _, numeric = prepare("rmu", task, {"optimizer": "sgd", "lr": 0.5}, Sizes(2, 2))
    method = fold.build(numeric, {})
    tokens = jnp.asarray([[3, 4, 5, 6, 0, 0], [3, 7, 8, 9, 2, 1]], jnp.int32)
    due = jnp.asarray([[-1, 5, 6, -1, -1, -1], [-1, -1, -1, 2, 1, -1]], jnp.int32)
    some = Batch(tokens, due, jnp.ones(2), jnp.arange(2, dtype=jnp.int32))
    state, follow = method.init(jax.random.key(0), variables), jax.jit(method.update)
    at = jnp.int32(0), jnp.int32(0), jnp.float32(1.0), jnp.float32(0.0)
    for step in range(2):
        state, _ = follow(jax.random.key(step), state, Batches(some, some, *at))
    for name, group in state.params.items():
        changed = [bool((a != b).any()) for a, b in zip(*map(jax.tree.leaves, (group, variables["params"][name])))]
        assert all(changed) if name == "block0" else not any(changed)


# --- task vectors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_task_vector_is_subtracted_from_the_original(alpha):
    state = started("task_vector", {})
    for _ in range(2):
        _, state, _ = stepped("task_vector", {}, state=state)
    method = METHODS["task_vector"].build(PROBLEM, METHODS["task_vector"].static, {"lr": 1.0, "alpha": alpha})
    original, tuned = tables()[0], np.asarray(state.params["rows"])
    found = np.asarray(method.finish(state)["params"]["rows"])
    np.testing.assert_allclose(found, original - alpha * (tuned - original), rtol=1e-5, atol=1e-6)
    if alpha == 0:
        np.testing.assert_array_equal(found, original)


# --- classes: answers of one token ---------------------------------------------------------------------------------


def class_slopes(name, student, teacher, some, winner):
    """(B, K) gradient of a rule at the student's logits on the live examples, by hand."""
    z, z0, true = logits(student, some), logits(teacher, some), np.asarray(some.targets)
    row, eye = np.arange(len(z)), np.eye(toy.CLASSES)
    rise = eye[true] - softmax(z, axis=1)
    gain = lambda label: (log_softmax(z, axis=1) - log_softmax(z0, axis=1))[row, label]
    p = softmax(z, axis=1)[row, true]
    if name == "npo":
        return 2 * expit(0.6 * gain(true))[:, None] * rise
    if name == "dpo_idk":
        return 2 * expit(0.6 * (gain(true) - gain(winner)))[:, None] * (eye[true] - eye[winner])
    if name == "satimp":
        return 0.7 * (p**2 * (1 - p) ** 0.5)[:, None] * rise
    without = np.where(eye[true] > 0, -np.inf, z)
    return softmax(z, axis=1) - softmax(without, axis=1)


CLASSES = {
    "npo": {"beta": 0.6, "retain_weight": 0.4},
    "dpo_idk": {"beta": 0.6, "retain_weight": 0.4},
    "satimp": {"beta1": 2.0, "beta2": 0.5, "forget_weight": 0.7, "retain_weight": 0.4},
    "ceu": {},
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_an_answer_of_one_token(name, teacher, student):
    forget, retain = live(padded().forget), live(padded().retain)
    state = begin(name, teacher, static=SGD)._replace(params=student)
    after, _ = update(name, state, padded(), static=SGD, lr=1.0, **CLASSES[name])
    winner = None
    if name == "dpo_idk":
        winner = np.asarray(
            dpo_idk.preferred(toy.problem(), "refusal", state.extra["key"], batch(forget.index)).targets
        )
        assert (winner != forget.targets).all()
    lost = class_slopes(name, student, teacher["params"], forget, winner) / len(forget.targets)
    found = [backward(student, forget.inputs, lost)[0]]
    if name != "ceu":
        apart = softmax(forward(student, retain.inputs)[-1], axis=1) - np.eye(toy.CLASSES)[retain.targets]
        found.append(backward(student, retain.inputs, 0.4 * apart / len(retain.targets))[0])
    descended(student, after.params, jax.tree.map(lambda *x: sum(x), *found), tolerance=1e-4)


def test_ceu_has_no_token_of_a_class_to_skip(learned):
    with pytest.raises(InputError, match="ceu.skip leaves nothing of a class"):
        update("ceu", begin("ceu", whole(learned)), padded(), static=(("skip", 1),))
