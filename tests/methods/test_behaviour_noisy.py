"""Certified fine-tuning: what its noise must be by the shift and the variance of every step, and the steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from steps import SGD, begin, combined, flat, padded, slope, update

from unlearn_jax.methods import METHODS, certified_finetune
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.population.plans import Sizes

HP = {"epsilon": 1.0, "delta": 1e-5, "weight_clip": 0.5, "gradient_clip": 0.3, "noisy_lr": 0.1, "decay": 2.0}
EXACT = HP | {"epsilon": 1e12, "lr": 0.0, "weight_decay": 0.0}  # no noise to speak of


@pytest.mark.parametrize("change", [{}, {"decay": 0.0}, {"epsilon": 8.0, "delta": 1e-3}, {"weight_clip": 5.0}])
@pytest.mark.parametrize("steps", [1, 30])
def test_noise_hides_the_largest_shift_that_two_starts_can_keep(change, steps):
    hp = HP | change
    sigma = float(certified_finetune.noise({k: jnp.float32(v) for k, v in hp.items()}, steps))
    ratio, shift, variance = 1 - hp["noisy_lr"] * hp["decay"], 2 * hp["weight_clip"], 0.0
    for _ in range(steps):  # two runs, each step apart by its start and by two clipped gradients, under the same noise
        shift = ratio * shift + 2 * hp["noisy_lr"] * hp["gradient_clip"]
        variance = ratio**2 * variance + sigma**2
    concentrated = shift**2 / (2 * variance)  # Renyi divergence of order a is at most a times this
    spent = concentrated + 2 * np.sqrt(concentrated * np.log(1 / hp["delta"]))
    assert spent == pytest.approx(hp["epsilon"], rel=1e-3)


@pytest.mark.slow
def test_two_starts_come_as_near_as_the_bound_says(teacher):
    hp, given = HP | {"epsilon": 1e9}, padded()
    found = []
    for sign in (1.0, -1.0):
        start = teacher | {"params": jax.tree.map(lambda x, by=sign: by * x, teacher["params"])}
        state = begin("certified_finetune", start, **hp)
        apart = combined((1.0, state.params), (-1.0, state.extra))
        assert np.linalg.norm(flat(apart)) == pytest.approx(0.5, rel=1e-4)
        for step in range(8):
            state, _ = update("certified_finetune", state, given, key=step, **hp)
        found.append(flat(state.params))
    bound = 1.0
    for _ in range(8):
        bound = 0.8 * bound + 2 * 0.1 * 0.3
    assert 0 < np.linalg.norm(found[0] - found[1]) <= bound


def test_the_start_is_clipped_towards_a_new_initialisation_whose_statistics_it_takes():
    model, key = toy.normed(), jax.random.key(1)
    old = model.init(jax.random.key(9), toy.stored().inputs)
    old = {"params": old["params"], "state": jax.tree.map(lambda x: x + 3.0, old["state"])}
    new = model.init(jax.random.fold_in(key, 1), jnp.zeros((1, *toy.SHAPE)))
    state = begin("certified_finetune", old, model=model, weight_clip=0.25)
    toy.close(state.extra, new["params"], 1e-6)
    toy.close(state.state, new["state"], 1e-6)
    apart = flat(old["params"]) - flat(new["params"])
    expected = flat(new["params"]) + 0.25 * apart / np.linalg.norm(apart)
    np.testing.assert_allclose(flat(state.params), expected, rtol=1e-4, atol=1e-6)
    zero = begin("certified_finetune", old, model=model, static=(("centre", "zero"),), weight_clip=0.25)
    assert np.linalg.norm(flat(zero.params)) == pytest.approx(0.25, rel=1e-5) and (flat(zero.extra) == 0).all()
    near = begin("certified_finetune", old, model=model, weight_clip=1e3)
    toy.close(near.params, old["params"], 1e-5)


@pytest.mark.parametrize("clip", [0.3, 1e3])
def test_a_noisy_step_is_clipped_descent_with_a_pull_to_the_centre(clip, teacher):
    hp, given = EXACT | {"gradient_clip": clip, "epsilon": 1e30}, padded()
    state = begin("certified_finetune", teacher, static=SGD, **hp)
    after, _ = update("certified_finetune", state, given, static=SGD, **hp)
    g = slope(state.params, given.retain)
    factor = min(1.0, clip / np.linalg.norm(flat(g)))
    assert (factor < 1) == (clip < 1)
    pull = combined((1.0, state.params), (-1.0, state.extra))
    expected = combined((1.0, state.params), (-0.1 * factor, g), (-0.1 * 2.0, pull))
    np.testing.assert_allclose(flat(after.params), flat(expected), rtol=1e-3, atol=2e-5)


def test_each_noisy_step_draws_its_own_noise_of_the_stated_size(teacher):
    state, given = begin("certified_finetune", teacher, **HP), padded()
    sigma = float(certified_finetune.noise({k: jnp.float32(v) for k, v in HP.items()}, 100))
    plain, _ = update("certified_finetune", state, given, **HP | {"epsilon": 1e30})
    drawn = [
        flat(update("certified_finetune", state, given, key=k, **HP)[0].params) - flat(plain.params) for k in (0, 1)
    ]
    assert np.std(drawn[0]) == pytest.approx(sigma, rel=0.15) and abs(np.mean(drawn[0])) < 4 * sigma / np.sqrt(300)
    assert abs(np.corrcoef(drawn)[0, 1]) < 0.25


def test_plain_steps_follow_the_noisy_ones_on_retained_data_alone():
    static = METHODS["certified_finetune"].static | {"epochs": 2, "noisy_steps": 5, "batch": 16}
    plan = certified_finetune.plan(Sizes(10, 40), static, Recipe())
    np.testing.assert_array_equal(plan.phase, [certified_finetune.NOISY] * 5 + [certified_finetune.PLAIN] * 6)
    assert plan.forget_batch == 0 and plan.grad_evals_forget == 0.0
