"""Budgets and scales over the whole registry; nothing here is compiled."""

import numpy as np
import pytest
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.methods import (
    LENGTHS,
    METHODS,
    SCALES,
    SMALL,
    at_length,
    has_scale,
    plan_of,
    prepare,
    scrub,
    settings_at,
)
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.population.plans import Sizes
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.validate import check

STUDY = Sizes(30, 1200, 10)
LENGTH = {name: next((x for x in LENGTHS if x in entry.static), None) for name, entry in METHODS.items()}
ITERATIVE = [name for name in METHODS if LENGTH[name]]
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
    return [cost(plan_of(entry, sizes, at_length(entry, static, k), Recipe())) for k in range(1, longest + 1)]


def test_the_registry_has_both_kinds():
    assert len(ITERATIVE) >= 30 and {"amnesiac", "langevin"} <= set(ITERATIVE)  # protocols whose plan iterates
    assert {"retrain", "do_nothing", "ssd", "fisher", "sisa"} <= set(FIXED)
    assert {LENGTH[name] for name in ITERATIVE} == set(LENGTHS)


def test_what_counts_in_the_lengths_unit_stretches_with_it():
    own = METHODS["scrub"].static | {"epochs": 10, "max_epochs": 3, "decay": (5, 8, 9)}
    assert at_length(METHODS["scrub"], own, 10) == own
    assert at_length(METHODS["scrub"], own, 40) == own | {"epochs": 40, "max_epochs": 12, "decay": (20, 32, 36)}
    assert at_length(METHODS["scrub"], own, 1) == own | {"epochs": 1, "max_epochs": 1, "decay": (1, 1, 1)}
    assert at_length(METHODS["scrub"], own | {"max_epochs": 0}, 40)["max_epochs"] == 0
    assert at_length(METHODS["finetune"], {"epochs": 10, "batch": 8}, 7) == {"epochs": 7, "batch": 8}
    for entry in METHODS.values():
        assert set(entry.stretched) <= set(entry.static) - {*LENGTHS[:1]}


@pytest.mark.parametrize("name", ["scrub", "scrub_r"])
@pytest.mark.parametrize("length", [5, 20, 100])
def test_a_budget_keeps_the_shares_of_scrubs_passes_and_rates(name, length):
    free = planned(name)
    allowed = cost(plan_of(METHODS[name], STUDY, at_length(METHODS[name], METHODS[name].static, length), Recipe()))
    stretched = planned(name, budget=allowed)
    assert (stretched.phase == scrub.MIN).sum() == length * 10  # 10 batches of 128 hold 1,200
    for share in (lambda p: (p.phase == scrub.MAX).mean(), lambda p: (p.rate > 0.5).mean(), lambda p: p.rate.mean()):
        assert share(stretched) == pytest.approx(share(free), abs=0.15)  # whole epochs, rounded up


@pytest.mark.parametrize("name", ITERATIVE)
def test_a_budget_is_used_as_far_as_whole_rounds_go(name):
    costs = by_length(name, STUDY)
    for budget in (costs[0], costs[1], 0.5 * (costs[2] + costs[3]), costs[24] - 1e-6, 1.003 * costs[24]):
        found = cost(planned(name, budget=budget))
        assert found <= budget
        assert found == max(c for c in costs if c <= budget)
        assert min(c for c in costs if c > found) > budget  # one more would exceed it

    costs = by_length(name, toy.SIZES)
    for budget in (costs[0], 0.5 * (costs[5] + costs[6])):
        assert cost(planned(name, toy.SIZES, budget=budget)) == max(c for c in costs if c <= budget)


@pytest.mark.parametrize("name", ITERATIVE)
def test_a_budget_below_the_least_is_refused_by_name_and_none_leaves_the_length(name):
    least = by_length(name, STUDY, 1)[0]
    with pytest.raises(InputError, match=f"below the least of '{name}'") as caught:
        planned(name, budget=0.99 * least)
    assert f"{least:g}" in str(caught.value) and str(caught.value).count(".") - str(caught.value).count("e.") <= 3
    assert "\n" not in str(caught.value)
    own = cost(plan_of(METHODS[name], STUDY, METHODS[name].static, Recipe()))
    assert cost(planned(name)) == cost(planned(name, budget=0.0)) == own
    assert cost(planned(name, settings=[(LENGTH[name], 1)])) == least


@pytest.mark.parametrize("name", FIXED)
def test_a_budget_changes_nothing_of_methods_without_a_length(name):
    free = prepare(name, toy.problem(), {}, STUDY)
    for budget in (1.0, 1e5):
        bound = prepare(name, toy.problem(), {}, STUDY, budget=budget)
        assert bound[0] is free[0] and bound[2] == free[2]  # the same program
        for a, b in zip(free[1], bound[1], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["finetune", "fcs", "rfe", "sfron"])
def test_a_budget_respects_the_other_settings(name):
    costs = by_length(name, STUDY, batch=32)
    found = planned(name, settings=[("batch", 32)], budget=costs[3])
    assert cost(found) == costs[3] and found.retain_batch == 32


def test_a_budget_sets_the_length_that_programs_depend_on():
    costs = by_length("scrub_r", STUDY)
    fold, plan, _ = prepare("scrub_r", toy.problem(), {}, STUDY, budget=costs[4])
    assert (plan.phase == 2).sum() == 5
    settings = at_length(METHODS["scrub_r"], METHODS["scrub_r"].static, 5)
    assert fold is prepare("scrub_r", toy.problem(), settings, STUDY)[0]


# --- scales --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_presets_name_settings_that_the_method_has_and_say_where_they_come_from(name):
    entry = METHODS[name]
    assert {"small", "cifar"} <= set(entry.presets) <= set(SCALES)
    assert entry.presets["small"][0] == {}  # the entry's own values are the small ones
    for settings, source in entry.presets.values():
        assert set(settings) <= {*entry.static, *entry.numeric}
        assert isinstance(source, str) and len(source) > 3
        for key, value in settings.items():
            if key in entry.static:
                assert type(value) is type(entry.static[key]), key
            else:
                assert isinstance(value, int | float) and not isinstance(value, bool)


@pytest.mark.parametrize("name, scale", [(n, s) for n, e in METHODS.items() for s in SCALES if s not in e.presets])
def test_a_scale_that_a_method_lacks_is_refused_in_one_sentence(name, scale):
    if scale in SMALL:
        assert settings_at(METHODS[name], scale) == settings_at(METHODS[name], "small")  # the entry's own values
        return
    assert not has_scale(METHODS[name], scale)
    with pytest.raises(InputError, match=f"'{name}' has no defaults at scale '{scale}', only at small") as caught:
        settings_at(METHODS[name], scale)
    assert str(caught.value).endswith("give --scale small or leave the method out.") and "\n" not in str(caught.value)
    with pytest.raises(InputError, match="has no defaults at scale"):
        prepare(name, toy.problem(), {}, STUDY, scale=scale)


def test_a_group_leaves_out_with_a_note_what_has_no_defaults_at_the_scale_and_a_name_is_refused():
    group = StudyConfig(methods="all", scale="language")
    lacking = {name for name, entry in METHODS.items() if "language" not in entry.presets}
    assert {"rurk", "langevin"} <= lacking and not {"finetune", "scrub"} & lacking
    assert lacking <= set(resolve(group).left_out) and not lacking & set(resolve(group).methods)
    said = "rurk has no defaults at scale language and was not run: ask with --scale small"
    assert resolve(group).left_out["rurk"] == said
    assert "whole class" in resolve(StudyConfig(methods="all")).left_out["unsir"]
    assert not lacking & set(resolve(StudyConfig(methods="all", targets="whole_class")).left_out)
    check(resolve(group))
    with pytest.raises(InputError, match="'rurk' has no defaults at scale 'language', only at small, small_conv"):
        check(resolve(StudyConfig(methods="finetune,rurk", scale="language")))


def test_methods_that_draw_weights_anew_are_trained_at_language_scale():
    static, numeric = settings_at(METHODS["eu_k"], "language")
    assert numeric["lr"] >= 1e-3 and static["optimizer"] == "adam"  # 1e-5 leaves new weights as they were drawn


@pytest.mark.parametrize("name, scale", [(n, s) for n, e in METHODS.items() for s in SCALES if has_scale(e, s)])
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
    expected = plan_of(entry, STUDY, static, toy.RECIPE)
    for a, b in zip(plan, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_scales_differ_where_papers_do():
    changed = {name for name, entry in METHODS.items() if settings_at(entry, "cifar") != settings_at(entry, "small")}
    assert len(changed) >= 20 and {"msg", "ct", "fcs", "scrub"} <= changed


def test_what_is_given_goes_before_the_preset():
    _, plan, numeric = prepare("scrub", toy.problem(), {"lr": 0.3, "epochs": 2}, STUDY, scale="cifar")
    assert numeric["lr"] == 0.3 and (plan.phase == scrub.MIN).sum() == 2 * 10
    _, plan, numeric = prepare("scrub", toy.problem(), {}, STUDY, scale="cifar")
    assert numeric["lr"] == 5e-4 and (plan.phase == scrub.MIN).sum() == 3 * 10


@pytest.mark.parametrize("name", ["finetune", "retrain", "sisa"])
def test_an_unknown_scale_lists_the_valid_ones(name):
    with pytest.raises(InputError, match="unknown scale 'imagenet': choose one of cifar, language, small, small_conv"):
        prepare(name, toy.problem(), {}, STUDY, scale="imagenet")


@pytest.mark.parametrize("scale", SCALES)
def test_budget_and_scale_go_together(scale):
    static = settings_at(METHODS["finetune"], scale)[0]
    one = cost(plan_of(METHODS["finetune"], STUDY, static | {"epochs": 1}, Recipe()))
    assert cost(planned("finetune", scale=scale, budget=7.5 * one)) == 7 * one


def test_scrub_is_the_papers_large_scale_one_on_cifar():
    for name in ("scrub", "scrub_r"):
        static, numeric = settings_at(METHODS[name], "cifar")
        assert static | numeric == scrub.PUBLISHED_LARGE
        assert (prepare(name, toy.problem(), {}, STUDY, scale="cifar")[1].rate == 1.0).all()


def test_nothing_here_compiles():
    before = len(toy.COMPILED)
    for name in METHODS:
        prepare(name, toy.problem(), {}, STUDY, scale="cifar", budget=1e5)
    assert len(toy.COMPILED) == before


@pytest.mark.parametrize("name", ["finetune", "scrub", "gradient_ascent", "rfe", "influence"])
def test_a_budget_beyond_all_measure_is_refused_at_once(name):
    with pytest.raises(InputError, match="asks for over 10,000"):
        planned(name, budget=1e30)
    with pytest.raises(InputError, match="give at most 10,000"):
        planned(name, settings=[(LENGTH[name], 10**9)])


def test_slots_beyond_the_last_example_of_a_pass_cost_nothing():
    static = METHODS["scrub"].static | {"forget_batch": 32}
    plan = planned("scrub", Sizes(33, 1200), settings=[("forget_batch", 32), ("pieces", 0)])
    max_steps = plan.forget_cost > 0
    assert plan.forget_batch * max_steps.sum() == 64 * static["max_epochs"]  # slots
    assert plan.grad_evals_forget == pytest.approx(33 * static["max_epochs"] * plan.forget_cost.max())
