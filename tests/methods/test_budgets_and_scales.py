"""Budgets and scales over the whole registry; nothing here is compiled."""

import numpy as np
import pytest
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.methods import LENGTHS, METHODS, SCALES, prepare, settings_at
from unlearn_jax.methods.common import Recipe
from unlearn_jax.population.plans import Sizes

STUDY = Sizes(30, 1200, 10)
LENGTH = {name: next((x for x in LENGTHS if x in entry.static), None) for name, entry in METHODS.items()}
ITERATIVE = [name for name, entry in METHODS.items() if LENGTH[name] and "protocol" not in entry.needs]
FIXED = [name for name in METHODS if name not in ITERATIVE]


def cost(plan):
    """Gradient evaluations of a plan on both sets."""
    return plan.grad_evals_forget + plan.grad_evals_retain


def planned(name, sizes=STUDY, settings=(), **options):
    """The plan of a method on the toy's model."""
    return prepare(name, toy.problem(), dict(settings), sizes, **options)[1]


def by_length(name, sizes, longest=40, **settings):
    """Cost of the method's plan at lengths 1, 2, ..."""
    entry = METHODS[name]
    static = entry.static | settings
    return [cost(entry.plan(sizes, static | {LENGTH[name]: k}, Recipe())) for k in range(1, longest + 1)]


def test_the_registry_has_both_kinds():
    assert len(ITERATIVE) >= 30 and {"retrain", "do_nothing", "ssd", "fisher", "sisa", "langevin"} <= set(FIXED)
    assert {LENGTH[name] for name in ITERATIVE} == set(LENGTHS)


@pytest.mark.parametrize("name", ITERATIVE)
def test_a_budget_is_used_as_far_as_whole_rounds_go(name):
    costs = by_length(name, STUDY)
    for budget in (costs[0], costs[1], 0.5 * (costs[2] + costs[3]), costs[24] - 1e-6, 1.003 * costs[24]):
        found = cost(planned(name, budget=budget))
        assert found <= budget
        assert found == max(c for c in costs if c <= budget)
        assert min(c for c in costs if c > found) > budget  # one more would exceed it


@pytest.mark.parametrize("name", ITERATIVE)
def test_a_budget_holds_on_small_sets_too(name):
    costs = by_length(name, toy.SIZES)
    for budget in (costs[0], 0.5 * (costs[5] + costs[6])):
        assert cost(planned(name, toy.SIZES, budget=budget)) == max(c for c in costs if c <= budget)


@pytest.mark.parametrize("name", ITERATIVE)
def test_a_budget_below_the_least_is_refused_by_name(name):
    least = by_length(name, STUDY, 1)[0]
    with pytest.raises(InputError, match=f"below the least of '{name}'") as caught:
        planned(name, budget=0.99 * least)
    assert f"{least:g}" in str(caught.value) and str(caught.value).count(".") - str(caught.value).count("e.") <= 3
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("budget", [1.0, 1e5])
def test_a_budget_changes_nothing_of_methods_without_a_length(name, budget):
    free, bound = prepare(name, toy.problem(), {}, STUDY), prepare(name, toy.problem(), {}, STUDY, budget=budget)
    assert bound[0] is free[0] and bound[2] == free[2]  # the same program
    for a, b in zip(free[1], bound[1], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ITERATIVE)
def test_no_budget_leaves_the_length(name):
    entry = METHODS[name]
    own = cost(entry.plan(STUDY, entry.static, Recipe()))
    assert cost(planned(name)) == cost(planned(name, budget=0.0)) == own
    shorter = planned(name, settings=[(LENGTH[name], 1)])
    assert cost(shorter) == by_length(name, STUDY, 1)[0]


@pytest.mark.parametrize("name", ["finetune", "fcs", "rfe", "sfron"])
def test_a_budget_respects_the_other_settings(name):
    costs = by_length(name, STUDY, batch=32)
    found = planned(name, settings=[("batch", 32)], budget=costs[3])
    assert cost(found) == costs[3] and found.retain_batch == 32


def test_a_budget_sets_the_length_that_programs_depend_on():
    costs = by_length("scrub_r", STUDY)
    fold, plan, _ = prepare("scrub_r", toy.problem(), {}, STUDY, budget=costs[4])
    assert (plan.phase == 2).sum() == 5
    assert fold is prepare("scrub_r", toy.problem(), {"epochs": 5}, STUDY)[0]


# --- scales --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_presets_name_settings_that_the_method_has(name):
    entry = METHODS[name]
    assert set(entry.presets) <= set(SCALES)
    assert not set(entry.static) & set(entry.numeric)
    for settings, source in entry.presets.values():
        assert set(settings) <= {*entry.static, *entry.numeric}
        assert isinstance(source, str) and len(source) > 3
        for key, value in settings.items():
            if key in entry.static:
                assert type(value) is type(entry.static[key]), key
            else:
                assert isinstance(value, int | float) and not isinstance(value, bool)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_takes_its_presets_values_and_keeps_all_others(name, scale):
    entry = METHODS[name]
    preset = entry.presets.get(scale, ({}, ""))[0]
    static, numeric = settings_at(entry, scale)
    assert static == entry.static | {k: v for k, v in preset.items() if k in entry.static}
    assert numeric == pytest.approx(entry.numeric | {k: v for k, v in preset.items() if k in entry.numeric})
    assert all(type(value) is float for value in numeric.values())
    fold, plan, prepared = prepare(name, toy.problem(), {}, STUDY, scale=scale)
    if name != "retrain":  # whose rates are the recipe's
        assert prepared == numeric
    expected = entry.plan(STUDY, static, toy.RECIPE)
    for a, b in zip(plan, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_scales_differ_where_papers_do():
    changed = {name for name, entry in METHODS.items() if settings_at(entry, "cifar") != settings_at(entry, "small")}
    assert len(changed) >= 20 and {"msg", "ct", "fcs"} <= changed
    assert (
        settings_at(METHODS["msg"], "cifar")[1]["lr"] == 1e-3 and settings_at(METHODS["msg"], "cifar")[0]["epochs"] == 5
    )


def test_what_is_given_goes_before_the_preset():
    _, plan, numeric = prepare("msg", toy.problem(), {"lr": 0.3, "epochs": 2}, STUDY, scale="cifar")
    assert numeric["lr"] == 0.3 and (plan.phase == 3).sum() == 2 * 10
    _, plan, numeric = prepare("msg", toy.problem(), {}, STUDY, scale="cifar")
    assert numeric["lr"] == 1e-3 and (plan.phase == 3).sum() == 5 * 10


@pytest.mark.parametrize("name", ["finetune", "retrain", "sisa"])
def test_an_unknown_scale_lists_the_valid_ones(name):
    with pytest.raises(InputError, match="unknown scale 'imagenet': choose one of cifar, language, small"):
        prepare(name, toy.problem(), {}, STUDY, scale="imagenet")


@pytest.mark.parametrize("scale", SCALES)
def test_budget_and_scale_go_together(scale):
    static = settings_at(METHODS["ct"], scale)[0]
    one = cost(METHODS["ct"].plan(STUDY, static | {"epochs": 1}, Recipe()))
    assert cost(planned("ct", scale=scale, budget=7.5 * one)) == 7 * one


def test_nothing_here_compiles():
    before = len(toy.COMPILED)
    for name in METHODS:
        prepare(name, toy.problem(), {}, STUDY, scale="cifar", budget=1e5)
    assert len(toy.COMPILED) == before
