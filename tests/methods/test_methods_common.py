"""The contract of every registered method, on one compiled toy program each; `ROWS` must have a row for each."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.methods import CORE, METHODS, check_setting, prepare, select
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.run import Options

CHANCE = float(np.log(toy.CLASSES))


class Row(NamedTuple):
    """Toy settings of a method and what is known of it by hand: 10 requested, 40 retained examples."""

    settings: dict  # at most 20 updates
    other: dict  # a second value of every numeric hyperparameter, by which the weights must differ
    steps: int
    forget: float  # gradient evaluations on the request
    retain: float  # and on retained data


STREAMS = {"epochs": 6, "batch": 16}  # 3 batches of 16 show 40 retained examples
PUBLISHED = {"optimizer": "sgd", "lr": 0.05}
ROWS = {
    "do_nothing": Row({}, {}, 0, 0, 0),
    "retrain": Row({}, {"lr": 0.03, "weight_decay": 0.3}, 20, 0, 20 * 16),
    "finetune": Row(STREAMS, {"lr": 0.03, "weight_decay": 0.1}, 18, 0, 18 * 16),
    "gradient_ascent": Row(
        {"epochs": 5, "batch": 4, "lr": 0.01, "bound": np.inf}, {"lr": 0.02, "bound": 0.05}, 15, 15 * 4, 0
    ),
    "neggrad_plus": Row(
        STREAMS | PUBLISHED | {"alpha": 0.7, "bound": 3.0},
        {"lr": 0.03, "alpha": 0.5, "bound": 0.05},
        18,
        18 * 10,
        18 * 16,
    ),
    "random_label": Row(STREAMS, {"lr": 0.03, "retain_weight": 0.5, "weight_decay": 0.1}, 18, 18 * 10, 18 * 16),
    "scrub": Row(
        {"epochs": 4, "max_epochs": 2, "forget_batch": 4, "batch": 16, "lr": 0.01},
        {"lr": 0.02, "alpha": 0.1, "gamma": 0.3, "temperature": 4.0, "weight_decay": 0.5},
        2 * 3 + 4 * 3,
        2 * 3 * 4 * (1 + 1 / 3),  # student forward and backward, teacher forward
        4 * 3 * 16 * (1 + 1 / 3),
    ),
}
NAMES = sorted(METHODS)
HOST_LOOP = ("finetune", "scrub")  # checked every time, one with a single kind of update and one with two
every_method = pytest.mark.parametrize("name", NAMES)


def made(name):
    """Fold, plan and numeric values of a method's toy row."""
    return toy.method(name, tuple(ROWS[name].settings.items()))


def run(name, original, *, hp=None, keys=None, start=None, loop="scan", **given):
    """The toy population of a method."""
    fold, plan, numeric = made(name)
    return toy.train(
        fold=fold,
        plan=plan,
        hp=numeric | (hp or {}),
        keys=member_keys(0, name, 8) if keys is None else keys,
        start=original if start is None else start,
        options=Options(chunk=8, loop=loop),
        **given,
    )


@pytest.fixture(scope="module")
def unlearned(original):
    """Every method's population, by name; the first use compiles it."""
    found = {}

    def get(name):
        if name not in found:
            found[name] = run(name, original)
        return found[name]

    return get


def losses(variables, rows):
    """(N,) mean loss of each member on some rows."""
    data = toy.stored()
    own = jax.tree.map(jnp.asarray, variables)
    logits = jax.jit(jax.vmap(lambda v: toy.perceptron().apply(v, data.inputs[rows])[0].logits))(own)
    right = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), np.asarray(data.targets)[rows][None, :, None], 2)
    return -right.mean(axis=(1, 2))


def needs(what):
    """The methods that declare a need, or do not (``not ...``)."""
    wanted = not what.startswith("not ")
    return pytest.mark.parametrize("name", [n for n in NAMES if (what.split()[-1] in METHODS[n].needs) == wanted])


def test_every_registered_method_has_a_row_here():
    assert set(ROWS) == set(METHODS)


@every_method
def test_entries_say_what_the_library_must_know(name):
    entry = METHODS[name]
    assert entry.name == name and entry.paper and entry.rule
    assert entry.needs and entry.needs <= {"forget", "retain", "teacher", "fresh_init", "nothing"}
    assert not set(entry.numeric) & set(entry.static)
    assert all(isinstance(value, float) for value in entry.numeric.values())
    assert set(ROWS[name].other) == set(entry.numeric)


@every_method
def test_variables_keep_structure_shape_and_dtype(name, unlearned, original):
    found = unlearned(name)
    described = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert described(found.variables) == described(original)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found.variables))
    assert np.isfinite(found.loss).sum() == 8 * ROWS[name].steps


@every_method
def test_a_second_run_compiles_nothing_and_gives_the_same_bits(name, unlearned, original):
    first, before = unlearned(name), len(toy.COMPILED)
    again = run(name, original)
    assert again.compile_seconds == 0.0 and len(toy.COMPILED) == before
    toy.same(again.variables, first.variables)


@every_method
def test_no_device_talks_to_another(name, unlearned):
    unlearned(name)
    program = toy.program(made(name)[0])
    for compiled in (program.begin, program.advance, program.end):
        assert toy.collectives(compiled) == set() and "num_partitions=4" in compiled.as_text()


def test_a_plans_phase_is_a_branch_that_runs_alone(unlearned):
    unlearned("scrub")
    assert " conditional(" in toy.program(made("scrub")[0]).advance.as_text()  # not both sides and a selection


@every_method
def test_a_member_equals_itself_unlearned_alone(name, unlearned, original):
    fold, plan, hp = made(name)
    alone, loss = toy.solo(
        5,
        fold=fold,
        plan=plan,
        hp=hp,
        data=toy.stored(),
        sets=toy.tables(8),
        keys=member_keys(0, name, 8),
        start=original,
    )
    toy.close(toy.member(unlearned(name).variables, 5), alone)
    found = unlearned(name).loss[5]
    np.testing.assert_allclose(found[np.isfinite(found)], loss, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [n if n in HOST_LOOP else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_a_host_loop_equals_a_loop_on_the_device(name, unlearned, original):
    toy.close(run(name, original, loop="host").variables, unlearned(name).variables)


@every_method
def test_numeric_hyperparameters_may_differ_by_member(name, unlearned, original):
    unlearned(name)
    hp, other = made(name)[2], ROWS[name].other
    values = {key: np.full(8, value) for key, value in hp.items()}
    for i, key in enumerate(other):
        values[key][i + 1] = other[key]
    keys = member_keys(0, name, 8)[np.zeros(8, int)]
    found = run(name, original, hp=values, keys=keys, start=toy.member(original, np.zeros(8, int)))
    assert found.compile_seconds == 0.0  # values are traced: no program of their own
    gaps = toy.gap(found.variables, toy.member(found.variables, np.zeros(8, int)))
    assert (gaps[1 : 1 + len(other)] > 1e-4).all(), dict(zip(other, gaps[1:]))
    assert (gaps[1 + len(other) :] < 1e-6).all()
    toy.close(toy.member(found.variables, 0), toy.member(unlearned(name).variables, 0))


@needs("nothing")
def test_nothing_to_do_leaves_every_bit(name, unlearned, original):
    toy.same(unlearned(name).variables, original)


@needs("not nothing")
def test_weights_move(name, unlearned, original):
    assert (toy.gap(unlearned(name).variables, original) > 1e-3).all()


@needs("forget")
def test_the_loss_of_a_memorised_request_rises(name, unlearned, original):
    before, after = losses(original, toy.REQUESTED), losses(unlearned(name).variables, toy.REQUESTED)
    assert before.mean() < 0.5 * CHANCE
    assert (after > before + 0.1).all()


@needs("retain")
def test_the_loss_on_retained_data_stays_bounded(name, unlearned):
    assert (losses(unlearned(name).variables, toy.KEPT) < 0.6 * CHANCE).all()


def changed(rows):
    """The examples with other pixels and labels in some rows."""
    inputs, targets = toy.examples()
    inputs[rows] = -inputs[rows] + 0.3
    targets[rows] = (targets[rows] + 1) % toy.CLASSES
    return toy.stored(inputs, targets)


@every_method
@pytest.mark.parametrize("part, rows", [("forget", toy.REQUESTED), ("retain", toy.KEPT)])
def test_a_method_sees_the_sets_that_it_declares_and_no_other(part, rows, name, unlearned, original):
    gaps = toy.gap(run(name, original, data=changed(rows)).variables, unlearned(name).variables)
    assert (gaps > 1e-4).all() if part in METHODS[name].needs else (gaps == 0.0).all()


@every_method
def test_rows_in_no_set_have_no_effect(name, unlearned, original):
    toy.same(run(name, original, data=changed(toy.UNUSED)).variables, unlearned(name).variables)


@every_method
def test_only_a_fresh_start_forgets_the_original_weights(name, unlearned, original):
    rng = np.random.default_rng(0)
    start = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(x.dtype), original)
    gaps = toy.gap(run(name, original, start=start).variables, unlearned(name).variables)
    assert (gaps == 0.0).all() if "fresh_init" in METHODS[name].needs else (gaps > 1e-2).all()


@needs("fresh_init")
def test_a_fresh_start_follows_the_members_key(name, unlearned, original):
    gaps = toy.gap(run(name, original, keys=member_keys(1, name, 8)).variables, unlearned(name).variables)
    assert (gaps > 1e-2).all()


@every_method
def test_a_member_without_request_keeps_finite_weights(name, unlearned, original):
    sets = make_tables([toy.KEPT] * 8, [toy.REQUESTED] * 7 + [toy.REQUESTED[:0]], pad_to=50)
    found = run(name, original, sets=sets)
    assert found.compile_seconds == 0.0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found.variables))
    assert np.isfinite(found.loss).sum() == 8 * ROWS[name].steps
    toy.same(toy.member(found.variables, slice(7)), toy.member(unlearned(name).variables, slice(7)))
    if METHODS[name].needs == {"forget"}:
        toy.close(toy.member(found.variables, 7), toy.member(original, 7), 1e-7)


@every_method
def test_costs_equal_a_count_by_hand(name):
    plan, row = made(name)[1], ROWS[name]
    assert plan.steps == row.steps
    assert plan.grad_evals_forget == pytest.approx(row.forget)
    assert plan.grad_evals_retain == pytest.approx(row.retain)
    for column in (plan.forget_step, plan.retain_step, plan.forget_cost, plan.retain_cost, plan.rate):
        assert column.shape == (row.steps,)


@every_method
def test_every_requested_and_retained_example_is_shown_where_it_is_paid_for(name):
    plan = made(name)[1]
    slots = {"forget": (plan.forget_cost > 0).sum() * plan.forget_batch, "retain": (plan.retain_cost > 0).sum()}
    slots["retain"] *= plan.retain_batch
    for part, size in (("forget", len(toy.REQUESTED)), ("retain", len(toy.KEPT))):
        assert (slots[part] >= size) == (part in METHODS[name].needs)


@every_method
def test_the_fold_is_one_object_for_one_problem_and_setting(name):
    settings = ROWS[name].settings
    first, again = (prepare(name, toy.problem(), settings, toy.SIZES)[0] for _ in range(2))
    assert first is again and first is made(name)[0]
    numeric = {key: value for key, value in ROWS[name].other.items()}
    fold, _, values = prepare(name, toy.problem(), settings | numeric, toy.SIZES)
    assert fold is first and values == numeric


@every_method
def test_an_unknown_hyperparameter_lists_the_valid_ones(name):
    with pytest.raises(InputError, match=f"method '{name}' has no hyperparameter 'tempo'") as caught:
        prepare(name, toy.problem(), {"tempo": 1})
    valid = [*METHODS[name].numeric, *METHODS[name].static]
    assert all(key in str(caught.value) for key in valid) and ("it has none" in str(caught.value)) == (not valid)
    for key in valid:
        check_setting(name, key)


def test_an_unknown_method_lists_the_valid_ones():
    with pytest.raises(InputError) as caught:
        prepare("scrubb", toy.problem())
    assert all(name in str(caught.value) for name in METHODS)
    with pytest.raises(InputError, match="unknown method 'nothing'"):
        select("scrub,nothing")


def test_methods_are_selected_by_name_or_group():
    assert select("core") == list(CORE) and select("all") == list(METHODS) and select("none") == []
    assert select("scrub, finetune,scrub") == ["scrub", "finetune"]
    assert set(CORE) <= set(METHODS)


def test_settings_take_the_type_of_their_default():
    _, plan, numeric = prepare("finetune", toy.problem(), {"epochs": 2.0, "lr": 1}, toy.SIZES)
    assert isinstance(numeric["lr"], float) and plan.steps == 2
    assert METHODS["finetune"].static["epochs"] == 10  # defaults are not written to
