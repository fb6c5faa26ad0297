"""The contract of every registered method, on one compiled toy program each; `ROWS` must have a row for each."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import protocol
import pytest
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.methods import CORE, METHODS, check_setting, prepare, select
from unlearn_jax.methods.common import NEEDS
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.plans import uniform_plan
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
ON_F = {"epochs": 6, "batch": 4}  # 3 batches of 4 show 10 requested examples
PUBLISHED = {"optimizer": "sgd", "lr": 0.05}
SCRUB = {"epochs": 4, "max_epochs": 2, "forget_batch": 4, "batch": 16, "lr": 0.02}
SCRUB_COST = (2 * 10 * (1 + 1 / 3), 4 * 3 * 16 * (1 + 1 / 3))  # student forward and backward, teacher forward
SCRUB_OTHER = {"lr": 0.01, "alpha": 0.1, "gamma": 0.3, "temperature": 4.0, "weight_decay": 0.5}
BESIDE = {"epochs": 18, "batch": 16, "lr": 0.01}  # a batch holds the request, and 16 retained stand beside it
WEIGHTS = {"forget_weight": 0.5, "retain_weight": 0.3}
FORWARD, DECAY = 1 / 3, {"weight_decay": 0.1}
ROWS = {
    "do_nothing": Row({}, {}, 0, 0, 0),
    "retrain": Row({}, {"lr": 0.03, "weight_decay": 0.3}, 20, 0, 20 * 16),
    "finetune": Row(STREAMS | {"lr": 0.01}, {"lr": 0.03} | DECAY, 18, 0, 18 * 16),
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
    "random_label": Row(
        {"epochs": 5, "batch": 16, "lr": 0.05},
        {"lr": 0.03, "retain_weight": 0.5} | DECAY,
        5 * (1 + 3),  # a pass over the request, then one over the retained data
        5 * 10,
        5 * 40,  # the last batch of a pass is half empty
    ),
    "scrub": Row(SCRUB, SCRUB_OTHER, 2 * 3 + 4 * 3, *SCRUB_COST),
    "scrub_r": Row(SCRUB, SCRUB_OTHER, 2 * 3 + 4 * 3 + 4, *SCRUB_COST),
    "salun": Row(
        {"epochs": 4, "batch": 16, "lr": 0.05, "allow_true": False},
        {"lr": 0.03, "keep": 0.2, "retain_weight": 0.5} | DECAY,
        1 + 1 + 4 * (1 + 3),
        (1 + 4) * 10,
        4 * 40,
    ),
    "bad_teacher": Row(
        {"epochs": 5, "batch": 16, "retain_share": 1.0, "lr": 0.02},
        {"lr": 0.01, "temperature": 3.0} | DECAY,
        5 * 4,
        5 * 4 * 3 * (1 + FORWARD),  # 50 examples in 4 batches, of which 3 are requested and 10 retained
        5 * 4 * 10 * (1 + FORWARD),
    ),
    "l1_sparse": Row(STREAMS | {"lr": 0.01, "alpha": 5e-4}, {"lr": 0.03, "alpha": 0.01} | DECAY, 18, 0, 18 * 16),
    "brief_retrain": Row(
        {"share": 1.0, "batch": 16, "calibrate": 0, "lr": 0.01}, {"lr": 0.03, "weight_decay": 0.3}, 20, 0, 20 * 16
    ),
    "eu_k": Row(STREAMS | {"lr": 0.01}, {"lr": 0.03} | DECAY, 18, 0, 18 * 16),
    "cf_k": Row(STREAMS | {"lr": 0.05, "k": 2}, {"lr": 0.03} | DECAY, 18, 0, 18 * 16),
    "boundary_shrink": Row(
        ON_F | {"lr": 0.03}, {"lr": 0.01, "epsilon": 3.0} | DECAY, 3 + 18, 10 * (1 + FORWARD) + 6 * 10, 0
    ),
    "boundary_expand": Row(ON_F | {"lr": 0.03}, {"lr": 0.01} | DECAY, 18, 18 * 4, 0),
    "unsir": Row(
        {"epochs": 2, "batch": 16, "noises": 10, "noise_steps": 8, "lr": 0.05, "optimizer": "sgd"},
        {"lr": 0.1, "noise_lr": 0.5, "penalty": 1.0, "repair": 0.2},
        8 + 2 * 3 + 2 * 3,
        (8 + 6) * 10,  # as many noise images as a request batch has slots
        12 * 16,
    ),
    "delete": Row(ON_F | {"lr": 0.03}, {"lr": 0.01} | DECAY, 18, 18 * 4 * (1 + FORWARD), 0),
    "jit_lipschitz": Row(
        ON_F | PUBLISHED | {"lr": 0.1, "draws": 3}, {"lr": 0.01, "noise": 1.0} | DECAY, 18, 18 * 4 * (1 + 3), 0
    ),
    "l2ul": Row(
        {"epochs": 6, "batch": 4, "images": 2, "attack_steps": 3, "micro": 2, "lr": 0.02, "pull": 0.01},
        {"lr": 0.01, "radius": 0.2, "pull": 1.0, "bound": 0.05} | DECAY,
        3 + 18,
        10 * (1 + 2 * 3) + 6 * 10 * (1 + 2),
        0,
    ),
    "ssd": Row({"batch": 16, "micro": 8, "alpha": 1.5}, {"alpha": 1.0, "scale": 0.3}, 1 + 3, 10, 40),
    "lfssd": Row({"batch": 16, "micro": 8, "alpha": 1.0}, {"alpha": 2.0, "scale": 0.3}, 1 + 3, 10, 40),
    "fisher": Row(
        {"batch": 16, "micro": 8, "alpha": 1e-5}, {"alpha": 1e-4, "clamp": 10.0, "power": 0.5}, 3, 0, 40 * 7 / 3
    ),
    "influence": Row(
        {"batch": 16, "steps": 12, "solver": "lissa", "damping": 0.1, "rate": 2.0},
        {"damping": 1.0, "rate": 1.0, "scale": 20.0},
        1 + 12 + 4 * (3 + 1),  # 10 power iterations or more, in whole passes of 3
        10,
        (4 + 4) * 40 * 2,
    ),
    "woodfisher": Row(
        {"batch": 16, "samples": 32, "damping": 0.1, "alpha": 0.5},
        {"alpha": 0.2, "damping": 0.3},
        1 + 3 + 2,
        10,
        40 + 2 * 16,
    ),
    "warnecke_first": Row({"batch": 4, "tau": 0.03}, {"tau": 0.01}, 3, 10 * 2, 0),
    "warnecke_second": Row(
        {"batch": 16, "steps": 3, "damping": 1.0, "rate": 1.0},
        {"damping": 2.0, "rate": 0.5, "scale": 20.0},
        1 + 12 + 3 + 1,
        10 * 2,
        (4 + 1) * 40 * 2,
    ),
    "certified_removal": Row(
        {"batch": 16, "steps": 2},
        {"l2": 0.1, "sigma": 1.0},
        1 + 3 + 2 * (1 + 3 + 1) + 3 + 1 + 1,
        (1 + 2 + 1) * 10 * FORWARD,
        (1 + 2 + 1) * 40 * FORWARD,
    ),
    "fcs": Row(
        {"rounds": 4, "batch": 16, "flatten_lr": 0.3, "repel_lr": 1e-3},
        {"lr": 0.05, "flatten_lr": 0.1, "repel_lr": 0.1} | DECAY,
        1 + 4 * (1 + 3),
        (1 + 4) * 10,
        4 * 16 * FORWARD + 4 * 3 * 16,
    ),
    "msg": Row(
        {"epochs": 4, "batch": 16, "lr": 0.1},
        {"lr": 0.05, "share": 0.6, "slow": 1.0} | DECAY,
        1 + 3 + 1 + 12,
        10,
        40 + 4 * 40,
    ),
    "cfw": Row(
        STREAMS | {"lr": 0.05},
        {"lr": 0.03, "noise": 0.1, "last_noise": 0.2, "class_weight": 0.5} | DECAY,
        18 + 1,
        0,
        18 * 16,
    ),
    "prmq": Row(
        STREAMS | {"lr": 0.1, "prune": 0.5},
        {"lr": 0.05, "prune": 0.9, "match": 0.1} | DECAY,
        18,
        0,
        18 * 16 * (1 + FORWARD),
    ),
    "ct": Row(STREAMS | {"lr": 0.1}, {"lr": 0.05} | DECAY, 18, 0, 18 * 16),
    "kde": Row(
        {"epochs": 3, "batch": 16, "lr": 0.1, "warm_lr": 0.1},
        {"lr": 0.05, "warm_lr": 0.05, "temperature": 3.0} | DECAY,
        18,
        0,
        18 * 16 * (1 + FORWARD),
    ),
    "rni": Row(
        {"epochs": 5, "batch": 16, "tensors": 4, "lr": 0.05},
        {"lr": 0.03, "noise": 0.1, "noise_share": 0.3} | DECAY,
        5 * (1 + 3),
        0,
        15 * 16,
    ),
    "amnesiac": Row({"epochs": 6, "batch": 16, "lr": 0.1}, {"lr": 0.05} | DECAY, 18, 0, 18 * 16),
    "sisa": Row({"shards": 2, "slices": 2}, {}, 0, 0, 0),
    "langevin": Row({"epochs": 6, "batch": 16}, {}, 18, 0, 18 * 16),
    "duck": Row(
        {"epochs": 5, "batch": 16, "lr": 0.02},
        {"lr": 0.01, "forget_weight": 0.5, "retain_weight": 0.5, "temperature": 1.0} | DECAY,
        3 + 15,
        15 * 10 * (1 + FORWARD),
        40 * FORWARD + 5 * 40,
    ),
    "sfron": Row(
        {"rounds": 4, "inner": 2, "batch": 16, "micro": 8, "alpha": 30.0, "threshold": 0.1},
        {"lr": 0.02, "alpha": 3.0, "slow": 0.5, "fade": 3.0, "threshold": 3.0, "clip": 0.5} | DECAY,
        1 + 3 + 4 * (1 + 2 + 1),
        10 + 4 * 10,
        40 + 2 * 40 + 2 * 16,  # eight repairs: two passes and two full batches
    ),
    "rurk": Row(
        STREAMS | {"lr": 0.02, "weight": 0.5, "draws": 2},
        {"lr": 0.01, "weight": 0.2, "radius": 2.0, "bound": 0.05} | DECAY,
        18,
        18 * 10 * 2,
        18 * 16,
    ),
    "rfe": Row(
        {"steps": 9, "batch": 16, "lr": 0.01},
        {"lr": 0.02, "tolerance": -1.0, "multiplier": 5.0, "dual_lr": 3.0, "rho": 5.0, "w2": 5.0, "bound": 0.05},
        18,
        18 * 10 * (1 + FORWARD),
        9 * 16 * (1 + FORWARD) + 9 * 16 * (2 + FORWARD),
    ),
    "amun": Row(
        STREAMS | {"lr": 0.2, "radius": 0.5, "attack_steps": 3, "radii": 4},
        {"lr": 0.1, "radius": 2.0} | DECAY,
        3 + 18,
        10 * (3 * 4 + FORWARD) + 6 * 10,  # 4 of 10 requested beside each of 3 batches
        18 * 16,
    ),
    "grad_diff": Row(BESIDE, {"lr": 3e-3} | WEIGHTS | {"bound": 0.05}, 18, 18 * 10, 18 * 16),
    "kl_retain": Row(BESIDE, {"lr": 3e-3} | WEIGHTS | {"bound": 0.05}, 18, 18 * 10, 18 * 16 * (1 + FORWARD)),
    "npo": Row(BESIDE, {"lr": 3e-3, "beta": 1.0, "retain_weight": 0.3}, 18, 18 * 10 * (1 + FORWARD), 18 * 16),
    "simnpo": Row(BESIDE, {"lr": 3e-3, "beta": 1.0, "delta": 0.5} | WEIGHTS, 18, 18 * 10, 18 * 16),
    "dpo_idk": Row(
        BESIDE,
        {"lr": 3e-3, "beta": 1.0, "retain_weight": 0.3},
        18,
        18 * 10 * 2 * (1 + FORWARD),  # the requested answer and the preferred one, by student and original
        18 * 16,
    ),
    "rmu": Row(
        BESIDE | {"scale": 10.0, "lr": 0.03},
        {"lr": 3e-3, "scale": 2.0, "retain_weight": 0.3},
        18,
        18 * 10,
        18 * 16 * (1 + FORWARD),
    ),
    "undial": Row(ON_F | {"lr": 0.01}, {"lr": 3e-3, "beta": 1.0}, 18, 18 * 4 * (1 + FORWARD), 0),
    "wga": Row(BESIDE, {"lr": 3e-3, "beta": 3.0, "retain_weight": 0.3}, 18, 18 * 10, 18 * 16),
    "satimp": Row(BESIDE, {"lr": 3e-3, "beta1": 1.0, "beta2": 3.0} | WEIGHTS, 18, 18 * 10, 18 * 16),
    "ceu": Row(ON_F | {"lr": 0.01}, {"lr": 3e-3}, 18, 18 * 4, 0),
    "task_vector": Row(ON_F | {"lr": 0.01}, {"lr": 3e-3, "alpha": 0.5}, 18, 18 * 4, 0),
    "pdu": Row(
        BESIDE | {"warmup": 6, "eps": 0.05},
        {"lr": 3e-3, "eps": 0.5, "dual": 10.0, "dual_lr": 50.0},
        18,
        18 * 10,
        18 * 16,
    ),
    "oracle_matching": Row(STREAMS | {"lr": 0.02}, {"lr": 0.01, "forget_weight": 0.2} | DECAY, 18, 18 * 10, 18 * 16),
    "datamodel_matching": Row(
        STREAMS | {"lr": 0.02, "models": 8}, {"lr": 0.01, "forget_weight": 0.2} | DECAY, 18, 18 * 10, 18 * 16
    ),
}
NAMES = sorted(METHODS)
MODEL = toy.normed()
PULLED = ()  # retain-free methods that move without a request
HOST_LOOP = ("finetune", "scrub")  # checked every time, one with a single kind of update and one with two
ALONE = ("retrain", "scrub", "ssd", "npo")  # of each kind of fold; others slow
every_method = pytest.mark.parametrize("name", NAMES)


def made(name):
    """Fold, plan and numeric values of a method's toy row."""
    return toy.method(name, tuple(ROWS[name].settings.items()), model=MODEL)


def static_of(name):
    """A method's static settings on the toy."""
    return {key: ROWS[name].settings.get(key, value) for key, value in METHODS[name].static.items()}


def begun(name, original, **given):
    """What a method starts from: the originals, or what it makes of them before."""
    entry = METHODS[name]
    if entry.begin is None:
        return original
    return entry.begin(protocol.context(8, model=MODEL, **given), static_of(name), original)[0]


@pytest.fixture(scope="module")
def original():
    """Variables of eight members that know the kept examples and have memorised the request; read only."""
    fold, _, numeric = toy.method("retrain", model=MODEL)
    everything = np.concatenate([toy.KEPT, toy.REQUESTED])
    plan, sets = uniform_plan(96, retain_batch=toy.RECIPE.batch), toy.tables(8, kept=everything)
    hp = numeric | {"lr": 0.05}
    return toy.train(fold=fold, plan=plan, hp=hp, sets=sets, options=Options(chunk=8)).variables


STARTS = {}  # what methods start from on the unchanged toy, by name


def starting(name, original):
    """`begun` on the unchanged toy, once."""
    if name not in STARTS:
        STARTS[name] = begun(name, original)
    return STARTS[name]


def run(name, original, *, hp=None, keys=None, start=None, loop="scan", **given):
    """The toy population of a method."""
    fold, plan, numeric = made(name)
    return toy.train(
        fold=fold,
        plan=plan,
        hp=numeric | (hp or {}),
        keys=member_keys(0, name, 8) if keys is None else keys,
        start=starting(name, original) if start is None else start,
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


@functools.cache
def classifier(name):
    """Logits (N, rows, K) of all stored examples, by the model that a method is evaluated with; one program a model."""
    if METHODS[name].model is None and name != "do_nothing":
        return classifier("do_nothing")
    entry = METHODS[name]
    model = MODEL if entry.model is None else entry.model(toy.problem(MODEL), static_of(name))
    return jax.jit(jax.vmap(lambda own, inputs: model.apply(own, inputs)[0].logits, in_axes=(0, None)))


def losses(name, variables, rows):
    """(N,) mean loss of each member on some rows, by the model that the method is evaluated with."""
    data = toy.stored()
    logits = classifier(name)(jax.tree.map(jnp.asarray, variables), data.inputs)[:, rows]
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
    assert entry.needs and entry.needs <= set(NEEDS)
    assert not set(entry.numeric) & set(entry.static)
    assert all(isinstance(value, float) for value in entry.numeric.values())
    assert set(ROWS[name].other) == set(entry.numeric)
    assert entry.batch_stats in ("retain", "both", "none")
    assert (entry.begin is not None or entry.end is not None) == bool(
        entry.needs & {"protocol", "reference", "heldout"}
    )


@every_method
def test_variables_keep_structure_shape_and_dtype(name, unlearned, original):
    found = unlearned(name)
    described = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    begins = starting(name, original)
    assert described(found.variables) == described({part: begins[part] for part in ("params", "state")})
    if METHODS[name].model is None:
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


@pytest.mark.parametrize("name", [n if n in ALONE else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
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
        start=starting(name, original),
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
    keys, same = member_keys(0, name, 8)[np.zeros(8, int)], np.zeros(8, int)
    found = run(name, original, hp=values, keys=keys, start=toy.member(starting(name, original), same))
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
    if METHODS[name].model is None:
        assert (toy.gap(unlearned(name).variables, original) > 1e-3).all()


@every_method
def test_running_statistics_follow_the_declared_batches(name, unlearned, original):
    declared, begins = METHODS[name].batch_stats, starting(name, original)
    if declared == "none":
        return toy.same(unlearned(name).variables["state"], begins["state"])
    still = {key: 0.0 for key in METHODS[name].numeric if key.endswith("lr") or key == "share"}  # weights stay
    before, after = (
        run(name, original, start=begins, hp=still, data=data).variables["state"]
        for data in (None, changed(toy.REQUESTED))
    )
    moved = lambda a, b: toy.gap({"params": a}, {"params": b})
    assert (moved(before, begins["state"]) > 1e-3).all()
    assert ((moved(before, after) > 1e-4) == (declared == "both")).all()


@needs("forget")
def test_the_loss_of_a_memorised_request_rises(name, unlearned, original):
    before = losses("do_nothing", original, toy.REQUESTED)
    after = losses(name, unlearned(name).variables, toy.REQUESTED)
    assert before.mean() < 0.5 * CHANCE
    assert (after > before).all() and (after - before).mean() > 0.1


@needs("retain")
def test_the_loss_on_retained_data_stays_bounded(name, unlearned):
    assert losses(name, unlearned(name).variables, toy.KEPT).mean() < 0.6 * CHANCE


def changed(rows):
    """The examples with other pixels and labels in some rows."""
    inputs, targets = toy.examples()
    inputs[rows] = -inputs[rows] + 0.3
    targets[rows] = (targets[rows] + 1) % toy.CLASSES
    return toy.stored(inputs, targets)


@every_method
@pytest.mark.parametrize("part, rows", [("forget", toy.REQUESTED), ("retain", toy.KEPT)])
def test_a_method_sees_the_sets_that_it_declares_and_no_other(part, rows, name, unlearned, original):
    data = changed(rows)
    found = run(name, original, data=data, start=begun(name, original, data=data))
    gaps = toy.gap(found.variables, unlearned(name).variables)
    if part == "forget" and name in ("amnesiac", "langevin"):
        return  # their own originals are trained on everything
    assert (gaps > 1e-4).all() if part in METHODS[name].needs else (gaps == 0.0).all()


@every_method
def test_rows_in_no_set_have_no_effect(name, unlearned, original):
    data = changed(toy.UNUSED)
    if "heldout" not in METHODS[name].needs:
        found = run(name, original, data=data, start=begun(name, original, data=data))
        toy.same(found.variables, unlearned(name).variables)


@every_method
def test_only_a_fresh_start_forgets_the_original_weights(name, unlearned, original):
    rng = np.random.default_rng(0)
    start = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(x.dtype), original)
    gaps = toy.gap(run(name, original, start=begun(name, start)).variables, unlearned(name).variables)
    assert (gaps == 0.0).all() if "fresh_init" in METHODS[name].needs else (gaps > 1e-2).all()


@needs("fresh_init")
def test_a_fresh_start_follows_the_members_key(name, unlearned, original):
    start, keys = begun(name, original, seed=1), member_keys(1, name, 8)
    gaps = toy.gap(run(name, original, keys=keys, start=start).variables, unlearned(name).variables)
    assert (gaps > 1e-2).all()


@every_method
def test_a_member_without_request_keeps_finite_weights(name, unlearned, original):
    requested = [toy.REQUESTED] * 7 + [toy.REQUESTED[:0]]
    sets = make_tables([toy.KEPT] * 8, requested, pad_to=50)
    found = run(name, original, sets=sets, start=begun(name, original, requested=requested))
    assert found.compile_seconds == 0.0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found.variables))
    assert np.isfinite(found.loss).sum() == 8 * ROWS[name].steps
    toy.same(toy.member(found.variables, slice(7)), toy.member(unlearned(name).variables, slice(7)))
    if METHODS[name].needs <= {"forget", "teacher"} and METHODS[name].begin is None and name not in PULLED:
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
    if "protocol" in METHODS[name].needs:
        return  # sees them before the plan begins
    for part, size in (("forget", len(toy.REQUESTED)), ("retain", len(toy.KEPT))):
        assert (slots[part] >= size) == (part in METHODS[name].needs)


@every_method
def test_the_fold_is_one_object_for_one_problem_and_setting(name):
    settings = ROWS[name].settings
    first, again = (prepare(name, toy.problem(MODEL), settings, toy.SIZES)[0] for _ in range(2))
    assert first is again and first is made(name)[0]
    numeric = {key: value for key, value in ROWS[name].other.items()}
    fold, _, values = prepare(name, toy.problem(MODEL), settings | numeric, toy.SIZES)
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
