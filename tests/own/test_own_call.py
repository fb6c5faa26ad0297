"""The one call: closed-form truths, populations, warnings, and what it refuses."""

import inspect

import jax
import jax.numpy as jnp
import nets
import numpy as np
import optax
import pytest
import toy
from flax import nnx

from unlearn_jax import METHODS, InputError, unlearn
from unlearn_jax.methods import has_scale
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.own.refusals import scale_of
from unlearn_jax.own.table import needs_of

PLAIN = nets.Plain()


def call(model=PLAIN, params=None, **given):
    return unlearn(model, nets.drawn(nets.Plain()) if params is None else params, **(nets.SETS | given))


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_finetune_is_the_loop_that_one_would_write(decay):
    given, steps, lr = nets.drawn(nets.Plain()), 5, 0.3
    optimizer = optax.chain(optax.add_decayed_weights(decay), optax.sgd(lr, momentum=0.9))

    @jax.jit
    def step(params, state):
        loss = lambda p: optax.softmax_cross_entropy_with_integer_labels(PLAIN.apply(p, nets.RETAIN[0]), labels).mean()
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params, labels, state = given, jnp.asarray(nets.RETAIN[1]), optimizer.init(given)
    for _ in range(steps):
        params, state = step(params, state)
    new = call(method="finetune", epochs=steps, batch=40, lr=lr, momentum=0.9, weight_decay=decay, optimizer="sgd")
    assert nets.gap(new, params) < 1e-5 < 0.1 < nets.gap(new, given)


@pytest.mark.parametrize("method", toy.some(["scrub_r", "finetune", "scrub"], 1))
def test_a_population_is_its_models_one_by_one(method):
    model, each = nets.Averaging(0.3), [nets.drawn(nets.Averaging(), seed) for seed in range(3)]
    setting = nets.SETS | {"heldout": nets.VALIDATION, "method": method, "epochs": 2}
    keys = jax.random.split(jax.random.key(7), 3)
    many = unlearn(model, nets.stacked(each), members=3, key=keys, **setting)
    alone = [unlearn(model, own, key=key, **setting) for own, key in zip(each, keys)]
    assert nets.gap(many, nets.stacked(alone)) < 1e-5
    assert nets.gap(many, nets.stacked(each)) > 1e-3


def test_one_key_serves_a_population_by_number():
    each, key = [nets.listed(0), nets.listed(1)], jax.random.key(3)
    setting = nets.SETS | {"method": "random_label", "epochs": 1, "lr": 0.03}
    many = unlearn(nets.forward, nets.stacked(each), members=2, key=key, **setting)
    alone = [unlearn(nets.forward, own, key=jax.random.fold_in(key, i), **setting) for i, own in enumerate(each)]
    assert nets.gap(many, nets.stacked(alone)) < 1e-5
    old = unlearn(nets.forward, each[0], key=jax.random.PRNGKey(3), **setting)
    toy.same(old, unlearn(nets.forward, each[0], key=key, **setting))
    toy.same(old, unlearn(nets.forward, each[0], key=3, **setting))
    assert nets.gap(old, unlearn(nets.forward, each[0], key=jax.random.key(4), **setting)) > 1e-3


def test_a_second_call_compiles_nothing_and_leaves_nothing_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module, again = nets.Nnx(nnx.Rngs(0)), nets.Nnx(nnx.Rngs(1))
    first = [call(method="scrub"), unlearn(module, **nets.ALL, method="finetune", epochs=1)]
    before = len(toy.COMPILED)
    toy.same(call(nets.Plain(), method="scrub"), first[0])
    unlearn(again, **nets.ALL, method="finetune", epochs=1)
    assert len(toy.COMPILED) == before and not list(tmp_path.iterdir())


def test_retain_free_methods_do_without_retained_examples():
    model, given = nets.Plain(), nets.drawn(nets.Plain())
    new = unlearn(model, given, forget=nets.FORGET, method="gradient_ascent", epochs=2, lr=0.1)
    toy.same(new, call(method="gradient_ascent", epochs=2, lr=0.1))
    with pytest.raises(InputError, match="^scrub reads retained examples: give retain="):
        unlearn(model, given, forget=nets.FORGET)


def test_retraining_by_the_recipe_is_free_of_the_original_and_learns():
    recipe = Recipe(steps=60, batch=40, lr=0.03)
    report = call(method="retrain", recipe=recipe, validation=nets.VALIDATION, details=True)
    toy.same(report.params, call(params=nets.drawn(PLAIN, 1), method="retrain", recipe=recipe))
    assert report.accuracy_after > 0.8 and report.settings == {"lr": 0.03, "weight_decay": 0.01}
    assert report.grad_evals == (0.0, 60 * 40)


@pytest.mark.parametrize("method", toy.some(["ssd", "scrub"], 1))
def test_a_request_of_one_example_is_a_request(method):
    report = call(forget=(nets.X[:1], nets.Y[:1]), method=method, details=True)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(report.params)) and report.grad_evals[0] > 0


def test_details_tell_accuracy_settings_scale_and_cost():
    report = call(method="finetune", epochs=3, lr=0.25, batch=20, validation=nets.VALIDATION, details=True)
    right = lambda p: float(
        np.mean(np.argmax(np.asarray(PLAIN.apply(p, nets.VALIDATION[0])), axis=1) == nets.VALIDATION[1])
    )
    assert report.accuracy_before.tolist() == pytest.approx([right(nets.drawn(PLAIN))])
    assert report.accuracy_after.tolist() == pytest.approx([right(report.params)])
    static, numeric = METHODS["finetune"].static, METHODS["finetune"].numeric
    assert set(report.settings) == {*static, *numeric} and report.settings["lr"] == 0.25
    assert report.scale == "small" and report.grad_evals == (0.0, 3 * 40)
    budget = call(method="finetune", batch=20, budget=100, details=True)
    assert budget.grad_evals == (0.0, 80) and np.isnan(budget.accuracy_after).all()


def test_a_fall_of_validation_accuracy_is_a_warning_and_a_rise_is_none():
    good = call(method="finetune", epochs=40, lr=0.5, batch=40)
    with pytest.warns(UserWarning, match=r"lowered validation accuracy from \d+\.\d% to \d+\.\d%"):
        call(params=good, method="gradient_ascent", epochs=30, lr=1.0, bound=np.inf, validation=nets.VALIDATION)
    call(method="finetune", epochs=40, lr=0.5, batch=40, validation=nets.VALIDATION)
    call(params=good, method="do_nothing", validation=nets.VALIDATION)


def test_a_diverged_model_is_a_warning():
    each = [nets.listed(0), nets.listed(1)]
    each[1][1] = np.full_like(each[1][1], np.nan)
    with pytest.warns(UserWarning, match="not finite in 1 of 2 models"):
        unlearn(nets.forward, nets.stacked(each), members=2, **nets.ALL, method="do_nothing")


def test_requested_examples_among_the_retained_are_a_warning():
    retain = tuple(np.concatenate([a, b[:3]]) for a, b in zip(nets.RETAIN, nets.FORGET))
    with pytest.warns(UserWarning, match="3 of the 8 examples to be forgotten are among the retained"):
        call(retain=retain, method="do_nothing")


def test_a_setting_that_bears_the_name_of_an_argument_is_given_in_settings():
    arguments = set(inspect.signature(unlearn).parameters)
    clashes = {s for name, e in METHODS.items() for s in (*e.numeric, *e.static) if s in arguments}
    assert clashes == {"scale"}  # else say so in the docstring
    mild, strong = (call(method="rmu", epochs=1, settings={"scale": value}) for value in (0.1, 50.0))
    assert nets.gap(mild, strong) > 1e-4
    toy.same(call(method="rmu", settings={"epochs": 1, "scale": 0.1}), mild)


def test_the_scale_follows_inputs_and_weights():
    image, tokens = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32), jax.ShapeDtypeStruct((1, 5), jnp.int32)
    dense, small, large = np.zeros((64, 10)), np.zeros((3, 3, 1, 8)), np.zeros((3, 3, 256, 512))
    assert scale_of([dense], image) == "small" and scale_of([dense], tokens) == "small_transformer"
    assert scale_of([dense, small], image) == "small_conv" and scale_of([large], image) == "cifar"
    assert scale_of([small], jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.uint8)) == "small_conv"
    rates = {s: call(method="finetune", scale=s, epochs=1, details=True).settings["lr"] for s in ("small", "cifar")}
    assert rates["small"] != rates["cifar"]


class Masked(nets.Plain):
    def __call__(self, x, mask):
        return super().__call__(x * mask)


INT = {"params": {"last": {"kernel": np.zeros((4, 3), np.int32)}}}
NORMED = nets.drawn(nets.Averaging())
NO_LANGUAGE = next(n for n, e in METHODS.items() if not has_scale(e, "language") and needs_of(e) == ["retain"])
WRONG = {
    "a pair": ({"forget": nets.X}, "forget is of type ndarray: give a pair"),
    "texts": ({"forget": (["one text", "another"], [0, 1])}, "forget is no pair of arrays of numbers"),
    "one-hot labels": ({"forget": (nets.X, np.eye(3)[nets.Y])}, "labels of forget are float64"),
    "too few labels": ({"retain": (nets.X, nets.Y[:5])}, "retain has inputs .* and 5 labels"),
    "no example": ({"forget": (nets.X[:0], nets.Y[:0])}, "forget has no example"),
    "other inputs": ({"validation": (nets.X[:, :2], nets.Y)}, "validation inputs are float32 .* give one kind"),
    "a class too many": ({"forget": (nets.X, nets.Y + 1)}, "labels of forget run from 1 to 3"),
    "no such method": ({"method": "scrubb"}, "'scrub' is nearest"),
    "no such setting": ({"alhpa": 1.0}, "has no hyperparameter 'alhpa': it has"),
    "several values": ({"alpha": [0.1, 0.5]}, r"alpha is \[0.1, 0.5\]: give one number"),
    "no number": ({"alpha": "much"}, "alpha is 'much': give one number"),
    "no such scale": ({"scale": "huge"}, "unknown scale 'huge'"),
    "no such scale of a method": ({"scale": "language", "method": NO_LANGUAGE}, "has no defaults at scale 'language'"),
    "a scale that is a number": ({"scale": 2.0}, r"settings=\{'scale': 2.0\}"),
    "a setting twice": ({"alpha": 0.5, "settings": {"alpha": 0.1}}, "alpha is given twice"),
    "members": ({"members": 3}, "members is 3 and params/.* has the shape"),
    "no members": ({"members": -1}, "members is -1"),
    "too many keys": ({"key": jax.random.split(jax.random.key(0), 2)}, r"keys are \(2,\) for 1 models"),
    "no weights": ({"params": {}}, "params hold no array"),
    "weights of another model": ({"params": NORMED}, "cannot be applied"),
    "no statistics": ({"model": nets.Averaging(), "params": NORMED["params"]}, "applied .*batch_stats.*all other"),
    "whole numbers": ({"params": INT}, "params hold int32 at params/last/kernel"),
    "a class": ({"model": nets.Plain}, "the model is a class: give"),
    "a further argument": ({"model": Masked()}, "also takes 'mask'"),
    "one logit": ({"model": lambda p, x: x[:, :1]}, r"returns \(1, 1\) .* K at least 2"),
    "no logits": ({"model": lambda p, x: "none"}, "returns str: let it return logits"),
    "nothing held out": ({"method": "scrub_r"}, "scrub_r reads examples that were never trained on: give heldout="),
    "no recipe": ({"method": "retrain"}, "retrain trains anew: give recipe="),
    "no whole class": ({"method": "unsir"}, "unsir is for requests of a whole class"),
    "a protocol": ({"method": "sisa"}, "sisa prescribes how the original is trained"),
    "a reference": ({"method": "oracle_matching"}, "oracle_matching is given the outputs of other retrained"),
    "no head": ({"method": "certified_removal"}, "no layer called 'head'"),
    "models of other shapes": ({"params": [nets.drawn(PLAIN), NORMED]}, "params of other names or shapes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_run_is_refused_in_a_sentence(case):
    given, said = WRONG[case]
    with pytest.raises(InputError, match=said) as refused:
        call(**given)
    assert str(refused.value).endswith(".") and "\n" not in str(refused.value)


def test_methods_that_move_pixels_refuse_tokens():
    tokens = {name: (np.abs(x * 3).astype(np.int32), y) for name, (x, y) in nets.SETS.items()}
    table = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    with pytest.raises(InputError, match="amun perturbs inputs, and these are whole numbers"):
        unlearn(lambda t, x: t[x].mean(axis=1), table, **tokens, method="amun")
