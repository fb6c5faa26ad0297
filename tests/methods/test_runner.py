"""One method on a population: what the study gets back, and what is refused before anything is compiled."""

import numpy as np
import protocol
import pytest
import toy

import unlearn_jax.methods.runner as module
from unlearn_jax.errors import InputError
from unlearn_jax.methods.runner import check_methods, run_method, sizes_of
from unlearn_jax.population.evaluate import evaluate, predict

SHORT = {"epochs": [2], "batch": [16]}


@pytest.fixture(scope="module")
def job():
    return protocol.job(8)


def test_settings_run_side_by_side_and_come_back_setting_after_setting(job, original):
    both = run_method("finetune", job, original, SHORT | {"lr": [0.01, 0.1]})
    assert both.points == [{"epochs": 2, "batch": 16, "lr": lr} for lr in (0.01, 0.1)]
    assert both.model is job.problem.model and both.grad_evals == (0.0, 2 * 3 * 16)
    for number, lr in enumerate((0.01, 0.1)):
        alone = run_method("finetune", job, original, SHORT | {"lr": [lr]})
        mine = toy.member(both.population.variables, slice(8 * number, 8 * number + 8))
        toy.close(mine, alone.population.variables)


def test_a_budget_shortens_the_plan(job, original):
    found = run_method("finetune", job._replace(budget=100.0), original, {"batch": [16]})
    assert found.grad_evals == (0.0, 2 * 3 * 16)
    assert np.isfinite(found.population.loss).sum() == 8 * 2 * 3


@pytest.mark.slow
def test_an_upper_bounds_cost_includes_the_models_that_it_fits(job, original):
    found = run_method("oracle_matching", job, original, SHORT)
    recipe = job.problem.recipe
    assert found.grad_evals == (2 * 3 * 10, 2 * 3 * 16 + recipe.steps * recipe.batch)
    toy.same(found.population.variables["state"], original["state"])


@pytest.mark.slow
@pytest.mark.parametrize("name, seconds", [("finetune", 2.0), ("oracle_matching", 2.0 + 2.0), ("amnesiac", 2.0)])
def test_seconds_count_what_is_trained_first_unless_it_is_the_original_training(
    job, original, name, seconds, monkeypatch
):
    run = module.run_population
    monkeypatch.setattr(module, "run_population", lambda *a, **k: run(*a, **k)._replace(seconds=2.0))
    assert run_method(name, job, original, SHORT).population.seconds == seconds


def test_an_ensemble_is_evaluated_by_its_own_model(job, original):
    found = run_method("sisa", job, original, {"shards": [2], "slices": [1]})
    assert found.model is not job.problem.model
    kernel, single = (v["params"]["head"]["kernel"] for v in (found.population.variables, original))
    assert kernel.shape == (8, 2, *single.shape[1:])
    scores = evaluate(found.model, job.problem.task, found.population.variables, job.stored, width=8)
    assert scores.margin.shape == (8, toy.ROWS) and np.isfinite(scores.margin).all()


def test_predictions_are_the_logits_that_evaluation_scores(job, original):
    logits = predict(job.problem.model, original, job.stored, width=8, block=32)
    assert logits.shape == (8, toy.ROWS, toy.CLASSES)
    targets = np.asarray(job.stored.targets)
    true = np.take_along_axis(logits, targets[None, :, None], 2)[..., 0]
    others = np.where(np.arange(toy.CLASSES) == targets[:, None], -np.inf, logits.astype(np.float64))
    margin = true - np.log(np.exp(others).sum(axis=-1))
    scores = evaluate(job.problem.model, job.problem.task, original, job.stored, width=8)
    np.testing.assert_allclose(scores.margin, margin, rtol=1e-4, atol=1e-4)


def test_sizes_are_those_of_the_largest_member():
    requested = [toy.REQUESTED[:4], toy.REQUESTED]
    rows = protocol.job(2, kept=[toy.KEPT, toy.KEPT[:30]], requested=requested, similar=[toy.KEPT[:2]] * 2).rows
    assert sizes_of(rows, 3) == (10, 40, 3)


@pytest.mark.parametrize(
    "name, settings, budget, said",
    [
        ("finetune", {}, 10.0, "a budget of 10 gradient evaluations is below the least of 'finetune', 128"),
        ("eu_k", {"k": [0]}, 0.0, "k is 0 and the model has 2 groups of layers"),
        ("eu_k", {"k": [9]}, 0.0, "k is 9 and the model has 2 groups of layers"),
        ("influence", {"solver": ["magic"]}, 0.0, "unknown solver 'magic'"),
        ("influence", {"curvature": ["magic"]}, 0.0, "unknown curvature 'magic'"),
        ("warnecke_first", {"change": ["magic"]}, 0.0, "unknown change 'magic': choose one of delete, relabel"),
        ("warnecke_second", {"change": ["magic"]}, 0.0, "unknown change 'magic': choose one of delete, relabel"),
        ("oracle_matching", {"target": ["magic"]}, 0.0, "unknown target 'magic': choose one of oracle, retrain"),
        ("finetune", {"optimizer": ["magic"]}, 0.0, "unknown optimizer 'magic': choose one of adam, sgd"),
        ("gru", {"lose": ["magic"]}, 0.0, "unknown lose 'magic': choose one of ascent, npo"),
        ("amun", {"variant": ["magic"]}, 0.0, "unknown variant 'magic': choose one of advonly, amun"),
        ("certified_finetune", {"centre": ["magic"]}, 0.0, "unknown centre 'magic': choose one of fresh, zero"),
        ("sisa", {"shards": [50]}, 0.0, "sisa would split 40 retained examples into 100 slices"),
    ],
)
def test_what_a_method_cannot_follow_is_refused_before_anything_is_compiled(job, name, settings, budget, said):
    before = len(toy.COMPILED)
    with pytest.raises(InputError, match=said):
        check_methods(job.problem, job.rows, {name: settings}, "small", budget)
    check_methods(job.problem, job.rows, {name: {}}, "small", 0.0)
    assert len(toy.COMPILED) == before
