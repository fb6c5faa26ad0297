"""The contract of every registered method, on one compiled toy program each; `ROWS` must have a row for each.

The rules are the library's own (`unlearn_jax.testing`), by which users check methods of theirs.
"""

import functools

import numpy as np
import pytest
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.methods import CORE, METHODS, check_setting, prepare, select
from unlearn_jax.testing import RULES, Trial
from unlearn_jax.testing import Case as Row  # costs are by hand, for 10 requested and 40 retained examples

STREAMS = {"epochs": 6, "batch": 16}  # 3 batches of 16 show 40 retained examples
ON_F = {"epochs": 6, "batch": 4}  # 3 batches of 4 show 10 requested examples
IN_BATCHES = ON_F | {"pieces": 0}
PUBLISHED = {"optimizer": "sgd", "lr": 0.05}
SCRUB = {"epochs": 4, "max_epochs": 2, "forget_batch": 4, "pieces": 0, "batch": 16, "lr": 0.02}
SCRUB_COST = (2 * 10 * (1 + 1 / 3), 4 * 3 * 16 * (1 + 1 / 3))  # student forward and backward, teacher forward
SCRUB_OTHER = {"lr": 0.01, "alpha": 0.1, "gamma": 0.3, "temperature": 4.0, "bound": 0.05, "weight_decay": 0.5}
BESIDE = {"epochs": 18, "batch": 16, "pieces": 0, "lr": 0.01}  # a batch holds the request, 16 retained beside it
WEIGHTS = {"forget_weight": 0.5, "retain_weight": 0.3}
OWN = ("sees_forget",)  # their own originals are trained on everything
FORWARD, DECAY = 1 / 3, {"weight_decay": 0.1}
# fmt: off
ROWS = {
    "do_nothing": Row({}, {}, 0, 0, 0),
    "retrain": Row({}, {"lr": 0.03, "weight_decay": 0.3}, 20, 0, 20 * 16),
    "finetune": Row(STREAMS | {"lr": 0.01}, {"lr": 0.03} | DECAY, 18, 0, 18 * 16),
    "gradient_ascent": Row({"epochs": 5, "batch": 4, "pieces": 0, "lr": 0.01, "bound": np.inf},
        {"lr": 0.02, "bound": 0.05}, 15, 15 * 4, 0),
    "neggrad_plus": Row(STREAMS | PUBLISHED | {"alpha": 0.7, "bound": 3.0}, {"lr": 0.03, "alpha": 0.5, "bound": 0.05},
        18, 18 * 10, 18 * 16),
    "random_label": Row(
        {"epochs": 5, "batch": 16, "lr": 0.05},
        {"lr": 0.03, "retain_weight": 0.5} | DECAY,
        5 * (1 + 3),  # a pass over the request, then one over the retained data
        5 * 10,
        5 * 40,  # the last batch of a pass is half empty
    ),
    "scrub": Row(SCRUB, SCRUB_OTHER, 2 * 3 + 4 * 3, *SCRUB_COST),
    "scrub_r": Row(SCRUB, SCRUB_OTHER, 2 * 3 + 4 * 3 + 4, *SCRUB_COST),
    "salun": Row({"epochs": 4, "batch": 16, "lr": 0.05, "allow_true": False},
        {"lr": 0.03, "keep": 0.2, "retain_weight": 0.5} | DECAY, 1 + 1 + 4 * (1 + 3), (1 + 4) * 10, 4 * 40),
    "bad_teacher": Row(
        {"epochs": 5, "batch": 16, "retain_share": 1.0, "lr": 0.02},
        {"lr": 0.01, "temperature": 3.0} | DECAY,
        5 * 4,
        5 * 4 * 3 * (1 + FORWARD),  # 50 examples in 4 batches, of which 3 are requested and 10 retained
        5 * 4 * 10 * (1 + FORWARD),
    ),
    "l1_sparse": Row(STREAMS | {"lr": 0.01, "alpha": 5e-4}, {"lr": 0.03, "alpha": 0.01} | DECAY, 18, 0, 18 * 16),
    "brief_retrain": Row({"share": 1.0, "batch": 16, "calibrate": 0, "lr": 0.01}, {"lr": 0.03, "weight_decay": 0.3}, 20,
        0, 20 * 16),
    "eu_k": Row(STREAMS | {"lr": 0.01}, {"lr": 0.03} | DECAY, 18, 0, 18 * 16),
    "cf_k": Row(STREAMS | {"lr": 0.05, "k": 2}, {"lr": 0.03} | DECAY, 18, 0, 18 * 16),
    "boundary_shrink": Row(IN_BATCHES | {"lr": 0.03}, {"lr": 0.01, "epsilon": 3.0} | DECAY, 3 + 18,
        10 * (1 + FORWARD) + 6 * 10, 0),
    "boundary_expand": Row(IN_BATCHES | {"lr": 0.03}, {"lr": 0.01} | DECAY, 18, 18 * 4, 0),
    "unsir": Row(
        {"epochs": 2, "batch": 16, "noises": 10, "noise_steps": 8, "lr": 0.05, "optimizer": "sgd"},
        {"lr": 0.1, "noise_lr": 0.5, "penalty": 1.0, "repair": 0.2},
        8 + 2 * 3 + 2 * 3,
        (8 + 6) * 10,  # as many noise images as a request batch has slots
        12 * 16,
    ),
    "delete": Row(IN_BATCHES | {"lr": 0.03}, {"lr": 0.01} | DECAY, 18, 18 * 4 * (1 + FORWARD), 0),
    "jit_lipschitz": Row(IN_BATCHES | PUBLISHED | {"lr": 0.1, "draws": 3}, {"lr": 0.01, "noise": 1.0} | DECAY, 18,
        18 * 4 * (1 + 3), 0),
    "l2ul": Row({"epochs": 6, "batch": 4, "images": 2, "attack_steps": 3, "micro": 2, "lr": 0.02, "pull": 0.01},
        {"lr": 0.01, "radius": 0.2, "pull": 1.0, "bound": 0.05} | DECAY, 3 + 18, 10 * (1 + 2 * 3) + 6 * 10 * (1 + 2),
        0),
    "ssd": Row({"batch": 16, "micro": 8, "level": 0.12}, {"alpha": 1.0, "level": 0.0, "scale": 0.3}, 1 + 3, 10, 40),
    "lfssd": Row({"batch": 16, "micro": 8, "level": 0.0}, {"alpha": 2.0, "level": 0.2, "scale": 0.3}, 1 + 3, 10, 40),
    "fisher": Row({"batch": 16, "micro": 8, "alpha": 1e-5}, {"alpha": 1e-4, "clamp": 10.0, "power": 0.5}, 3, 0,
        40 * 7 / 3),
    "influence": Row(
        {"batch": 16, "steps": 12, "solver": "lissa", "damping": 0.1, "rate": 2.0},
        {"damping": 1.0, "rate": 1.0, "scale": 20.0},
        1 + 12 + 4 * (3 + 1),  # 10 power iterations or more, in whole passes of 3
        10,
        (4 + 4) * 40 * 2,
    ),
    "woodfisher": Row({"batch": 16, "samples": 32, "damping": 0.1, "alpha": 0.5}, {"alpha": 0.2, "damping": 0.3},
        1 + 3 + 2, 10, 40 + 2 * 16),
    "warnecke_first": Row({"batch": 4, "tau": 0.03}, {"tau": 0.01}, 3, 10 * 2, 0),
    "warnecke_second": Row({"batch": 16, "steps": 3, "damping": 1.0, "rate": 1.0},
        {"damping": 2.0, "rate": 0.5, "scale": 20.0}, 1 + 12 + 3 + 1, 10 * 2, (4 + 1) * 40 * 2),
    "certified_removal": Row({"batch": 16, "steps": 2}, {"l2": 0.1, "sigma": 1.0}, 1 + 3 + 2 * (1 + 3 + 1) + 3 + 1 + 1,
        (1 + 2 + 1) * 10 * FORWARD, (1 + 2 + 1) * 40 * FORWARD),
    "fcs": Row({"rounds": 4, "batch": 16, "flatten_lr": 0.3, "repel_lr": 1e-3},
        {"lr": 0.05, "flatten_lr": 0.1, "repel_lr": 0.1} | DECAY, 1 + 4 * (1 + 3), (1 + 4) * 10,
        4 * 16 * FORWARD + 4 * 3 * 16),
    "msg": Row({"epochs": 4, "batch": 16, "lr": 0.1}, {"lr": 0.05, "share": 0.6, "slow": 1.0} | DECAY, 1 + 3 + 1 + 12,
        10, 40 + 4 * 40),
    "cfw": Row(STREAMS | {"lr": 0.05}, {"lr": 0.03, "noise": 0.1, "last_noise": 0.2, "class_weight": 0.5} | DECAY,
        18 + 1, 0, 18 * 16),
    "prmq": Row(STREAMS | {"lr": 0.1, "prune": 0.5}, {"lr": 0.05, "prune": 0.9, "match": 0.1} | DECAY, 18, 0,
        18 * 16 * (1 + FORWARD)),
    "ct": Row(STREAMS | {"lr": 0.1}, {"lr": 0.05} | DECAY, 18, 0, 18 * 16),
    "kde": Row({"epochs": 3, "batch": 16, "lr": 0.1, "warm_lr": 0.1},
        {"lr": 0.05, "warm_lr": 0.05, "temperature": 3.0} | DECAY, 18, 0, 18 * 16 * (1 + FORWARD)),
    "rni": Row({"epochs": 5, "batch": 16, "tensors": 4, "lr": 0.05},
        {"lr": 0.03, "noise": 0.1, "noise_share": 0.3} | DECAY, 5 * (1 + 3), 0, 15 * 16),
    "amnesiac": Row({"epochs": 6, "batch": 16, "lr": 0.1}, {"lr": 0.05} | DECAY, 18, 0, 18 * 16, OWN),
    "sisa": Row({"shards": 2, "slices": 2}, {}, 0, 0, 0),
    "langevin": Row({"epochs": 6, "batch": 16}, {}, 18, 0, 18 * 16, OWN),
    "duck": Row(
        {"epochs": 5, "settle": 2, "batch": 16, "lr": 0.02},
        {"lr": 0.01, "settle_lr": 1e-3, "forget_weight": 0.5, "retain_weight": 0.5, "temperature": 1.0} | DECAY,
        3 + 5 * (3 + 1) + 2 * 3,  # after each epoch a look at the request
        15 * 10 * (1 + FORWARD) + 5 * 10 * FORWARD + 6 * 10 * (1 + FORWARD),
        40 * FORWARD + (5 + 2) * 40,
    ),
    "sfron": Row(
        {"rounds": 4, "inner": 2, "batch": 16, "micro": 8, "lr": 0.01, "alpha": 30.0, "threshold": 0.1},
        {"lr": 0.02, "alpha": 3.0, "slow": 0.5, "fade": 3.0, "threshold": 3.0, "clip": 0.5, "bound": 0.05} | DECAY,
        1 + 3 + 4 * (1 + 2 + 1),
        10 + 4 * 10,
        40 + 2 * 40 + 2 * 16,  # eight repairs: two passes and two full batches
    ),
    "rurk": Row(STREAMS | {"lr": 0.02, "weight": 0.5, "draws": 2},
        {"lr": 0.01, "weight": 0.2, "radius": 2.0, "bound": 0.05} | DECAY, 18, 18 * 10 * 2, 18 * 16),
    "rfe": Row({"steps": 9, "batch": 16, "lr": 0.01},
        {"lr": 0.02, "tolerance": -1.0, "multiplier": 5.0, "dual_lr": 3.0, "rho": 5.0, "w2": 5.0, "bound": 0.05}, 18,
        18 * 10 * (1 + FORWARD), 9 * 16 * (1 + FORWARD) + 9 * 16 * (2 + FORWARD)),
    "amun": Row(
        STREAMS | {"lr": 0.2, "radius": 0.5, "attack_steps": 3, "radii": 4, "variant": "advonly"},
        {"lr": 0.1, "radius": 2.0} | DECAY,
        3 + 18,
        10 * (3 * 4 + FORWARD) + 6 * 10,  # 4 of 10 requested beside each of 3 batches
        18 * 16,
    ),
    "grad_diff": Row(BESIDE, {"lr": 3e-3} | WEIGHTS | {"bound": 0.05}, 18, 18 * 10, 18 * 16),
    "kl_retain": Row(BESIDE, {"lr": 3e-3} | WEIGHTS | {"bound": 0.05}, 18, 18 * 10, 18 * 16 * (1 + FORWARD)),
    "npo": Row(BESIDE, {"lr": 3e-3, "beta": 0.1, "retain_weight": 0.3}, 18, 18 * 10 * (1 + FORWARD), 18 * 16),
    "simnpo": Row(BESIDE, {"lr": 3e-3, "beta": 1.0, "delta": 0.5} | WEIGHTS, 18, 18 * 10, 18 * 16),
    "dpo_idk": Row(
        BESIDE,
        {"lr": 3e-3, "beta": 1.0, "retain_weight": 0.3},
        18,
        18 * 10 * 2 * (1 + FORWARD),  # the requested answer and the preferred one, by student and original
        18 * 16,
    ),
    "rmu": Row(BESIDE | {"scale": 10.0, "lr": 0.03}, {"lr": 3e-3, "scale": 2.0, "retain_weight": 0.3}, 18, 18 * 10,
        18 * 16 * (1 + FORWARD)),
    "undial": Row(IN_BATCHES | {"lr": 0.01}, {"lr": 3e-3, "beta": 1.0}, 18, 18 * 4 * (1 + FORWARD), 0),
    "wga": Row(BESIDE, {"lr": 3e-3, "beta": 3.0, "retain_weight": 0.3}, 18, 18 * 10, 18 * 16),
    "satimp": Row(BESIDE, {"lr": 3e-3, "beta1": 1.0, "beta2": 3.0} | WEIGHTS, 18, 18 * 10, 18 * 16),
    "ceu": Row(IN_BATCHES | {"lr": 0.01}, {"lr": 3e-3}, 18, 18 * 4, 0),
    "task_vector": Row(IN_BATCHES | {"lr": 0.01}, {"lr": 3e-3, "alpha": 0.5}, 18, 18 * 4, 0),
    "pdu": Row(BESIDE | {"warmup": 6, "eps": 0.05}, {"lr": 3e-3, "eps": 0.5, "dual": 10.0, "dual_lr": 50.0}, 18,
        18 * 10, 18 * 16),
    "mu_mis": Row({"epochs": 5, "batch": 4, "lr": 0.03, "recovery": 100.0, "optimizer": "adam"},
        {"lr": 0.01, "recovery": 0.01}, 3 + 5 * (3 + 1), 10 * 2 + 5 * 10 * 4, 0),
    "lotus": Row(  # all here have less of the request right than of what is unseen: above 1 takes an alpha below 0
        {"epochs": 4, "batch": 16, "retain_share": 1.0, "lr": 0.05, "alpha": -10.0, "patience": 2.0},
        {"lr": 0.01, "alpha": 1.0, "patience": 0.01} | DECAY,
        4 * (4 + 1 + 4),
        4 * (10 * FORWARD + 10 * (1 + FORWARD)),  # of 50 examples in 4 batches, each of 3 requested and 10 retained
        4 * 4 * 10 * (1 + FORWARD),
    ),
    "uam": Row(STREAMS | {"lr": 0.1, "rho": 6.0, "gamma": 1.0}, {"lr": 0.03, "rho": 0.1, "gamma": 0.0} | DECAY, 18,
        18 * 10, 18 * 16),
    "gauss_newton": Row({"batch": 16, "rounds": 2, "steps": 2, "damping": 1.0, "rate": 1.0, "kl": 0.1},
        {"damping": 2.0, "rate": 0.01, "kl": 0.01}, 2 * (1 + 2 * (3 + 1) + 1), 2 * 10, 2 * 2 * 40 * 2),
    "certified_finetune": Row(
        {"epochs": 4, "noisy_steps": 8, "batch": 16, "lr": 0.02, "epsilon": 100.0, "noisy_lr": 0.01, "decay": 1.0},
        {"lr": 0.01, "epsilon": 10.0, "delta": 0.1, "weight_clip": 1.0, "gradient_clip": 1.0, "noisy_lr": 0.1,
         "decay": 5.0}
        | DECAY, 8 + 12, 0, 20 * 16),
    "npo_sam": Row(BESIDE, {"lr": 3e-3, "beta": 1.0, "rho": 1.0, "retain_weight": 0.3}, 18, 18 * 10 * (2 + FORWARD),
        18 * 16),
    "gru": Row(BESIDE, {"lr": 3e-3, "beta": 1.0, "smooth": 0.1}, 18, 18 * 10 * (1 + FORWARD), 18 * 16),
    "negmerge": Row(ON_F | {"lr": 0.01, "models": 3}, {"lr": 3e-3, "spread": 100.0, "alpha": 0.5}, 18, 18 * 4 * 1.5, 0),
    "oracle_matching": Row(STREAMS | {"lr": 0.02}, {"lr": 0.01, "forget_weight": 0.2} | DECAY, 18, 18 * 10, 18 * 16),
    "datamodel_matching": Row(STREAMS | {"lr": 0.02, "models": 8}, {"lr": 0.01, "forget_weight": 0.2} | DECAY, 18,
        18 * 10, 18 * 16),
}
# fmt: on
NAMES = sorted(METHODS)
FEW = (  # one method of each kind: of phases, needs, statistics, solvers, starts and models; of the others, slow
    "do_nothing", "retrain", "finetune", "scrub", "scrub_r", "salun", "boundary_expand", "ssd", "influence", "npo",
    "duck", "eu_k", "sisa", "amnesiac", "oracle_matching", "certified_removal",
)  # fmt: skip
DEEPER = {
    "host_loop": ("finetune", "scrub"),
    "solo": ("retrain", "scrub", "ssd", "npo"),
    "weightless": ("finetune", "npo"),
}
UNCOMPILED = ("declared", "cost", "pays", "one_fold")  # of every method each time
every_method = pytest.mark.parametrize("name", NAMES)


@functools.cache
def trial(name):
    """A method on the toy, at its row."""
    return Trial(METHODS[name], ROWS[name])


def test_every_registered_method_has_a_row_here():
    assert set(ROWS) == set(METHODS) and set(FEW) <= set(METHODS)


def lines():
    """The contract's lines: each rule of each method that it is asked of."""
    for rule in RULES:
        quick = NAMES if rule in UNCOMPILED else DEEPER.get(rule, FEW)
        for name in NAMES:
            if rule not in ROWS[name].skip and RULES[rule].when(METHODS[name]):
                yield pytest.param(rule, name, marks=[pytest.mark.slow] * (name not in quick), id=f"{rule}-{name}")


@pytest.mark.parametrize("rule, name", [*lines()])
def test_methods_keep_the_contract(rule, name):
    RULES[rule].check(trial(name))


def test_a_plans_phase_is_a_branch_that_runs_alone():
    assert trial("scrub").unlearned
    assert " conditional(" in toy.program(trial("scrub").made[0]).advance.as_text()  # not both sides and a selection


@every_method
def test_toy_rows_give_every_numeric_setting_a_second_value(name):
    assert set(ROWS[name].other) == set(METHODS[name].numeric) and ROWS[name].steps is not None


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
