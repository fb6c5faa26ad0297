"""The helper that users check methods of theirs with: a sound one passes, and each fault is told by its rule."""

import jax
import jax.numpy as jnp
import pytest
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS
from unlearn_jax.methods.support.common import MethodSpec, gradient_method, mean_loss, sgd
from unlearn_jax.population.plans import uniform_plan
from unlearn_jax.testing import RULES, check_method
from unlearn_jax.trees import tree_dot


def build(problem, static, hp):
    """Descend on the retained data with a penalty on the weights."""

    def loss(params, trained, batches, key):
        value, state = mean_loss(problem, {"params": params, "state": trained.state}, batches.retain, key, train=True)
        return value + hp["shrink"] * tree_dot(params, params), state

    return gradient_method(sgd(hp["lr"]), loss)


SOUND = MethodSpec(
    name="shrink",
    paper="none",
    rule="fine-tune with a penalty on the weights",
    needs=frozenset({"retain"}),
    build=build,
    plan=lambda sizes, static, recipe: uniform_plan(static["steps"], retain_batch=16),
    numeric={"lr": 0.02, "shrink": 1e-2},
    static={"steps": 18},
)
OTHER = {"lr": 0.01, "shrink": 0.1}


def faulty(problem, static, hp):
    """Ascend on the request without saying so, whatever weighs nothing there, and know no ``shrink``."""

    def loss(params, trained, batches, key):
        outputs, state = problem.model.apply(
            {"params": params, "state": trained.state}, batches.forget.inputs, key=key, train=True
        )
        return -jnp.mean(problem.task.loss(outputs.logits, batches.forget)), state

    return gradient_method(sgd(hp["lr"]), loss)


def test_a_sound_method_passes_whether_or_not_it_is_registered():
    assert "shrink" not in METHODS
    others = ("solo", "host_loop", "weightless")  # which the test of faults asks, and the contract of the library's own
    check_method(SOUND, other=OTHER, cost=(18, 0, 18 * 16), skip=others)


def test_each_fault_is_told_by_its_rule():
    plan = lambda sizes, static, recipe: uniform_plan(static["steps"], forget_batch=10, retain_batch=16)
    with pytest.raises(AssertionError) as caught:
        check_method(
            SOUND._replace(build=faulty, plan=plan), {"lr": 1e-3}, cost=(18, 0, 18 * 16), skip=("solo",), other=OTHER
        )
    first, *lines = str(caught.value).splitlines()
    told = dict(line.strip().split(": ", 1) for line in lines)
    assert first == f"method 'shrink' breaks {len(told)} of the contract's rules:"
    assert set(told) >= {"cost", "pays", "hyperparameters", "sees_forget", "sees_retain", "statistics", "weightless"}
    assert not set(told) & {"declared", "one_fold", "deterministic", "no_collectives", "unused_rows", "host_loop"}
    assert told["cost"] == "the plan has 18 updates at 180 + 288 gradient evaluations, by hand 18 at 0 + 288"
    assert told["hyperparameters"] == "no effect of shrink = 0.1: give other values, or drop it"
    assert told["sees_forget"] == "reads what only the need 'forget' gives"
    assert told["sees_retain"] == "declares the need 'retain' and does not read it"
    assert told["weightless"].endswith("average with batch.weight")
    assert told["statistics"].startswith("they follow the request")


def test_what_crashes_is_told_too_and_wrong_arguments_are_refused():
    def crash(problem, static, hp):
        raise ZeroDivisionError("nothing\nleft")

    needless = {*RULES} - {"declared", "keeps_shapes"}
    with pytest.raises(AssertionError, match="keeps_shapes: ZeroDivisionError: nothing left$"):
        check_method(SOUND._replace(build=crash), skip=tuple(needless))
    with pytest.raises(AssertionError, match="declared: needs are .'luck'.: give some of forget, retain"):
        check_method(SOUND._replace(needs=frozenset({"luck"})), skip=(*needless, "keeps_shapes"))
    with pytest.raises(InputError, match="unknown rule 'sole': choose one of cost, declared"):
        check_method(SOUND, skip=("sole",))
    with pytest.raises(InputError, match="method 'shrink' has no hyperparameter 'tempo'"):
        check_method(SOUND, {"tempo": 1})


def test_the_toy_is_the_one_of_the_tests():
    from unlearn_jax.testing import toy as own

    assert own.COMPILED is toy.COMPILED and own.normed is toy.normed
    with pytest.raises(KeyError), own.quick_programs():
        raise KeyError
    assert not jax.config.read("jax_disable_most_optimizations")
