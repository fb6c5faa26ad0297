"""Models come as users have them, and weights go back in the form in which they came."""

import jax
import nets
import numpy as np
import pytest
import toy
from flax import linen as nn
from flax import nnx
from flax.core import freeze

from unlearn_jax import InputError, unlearn
from unlearn_jax.models import build_model
from unlearn_jax.own.reading import one, read


def _model():
    made = build_model("linear", 3, (4,))
    return made, made.init(jax.random.key(0), nets.X)


def _state(filters=()):
    module = nets.Nnx(nnx.Rngs(0))
    return module, nnx.state(module, *filters)


FORMS = {
    "params": lambda: (nets.Plain(), nets.drawn(nets.Plain())["params"]),
    "frozen": lambda: (nets.Averaging(), freeze(nets.drawn(nets.Averaging()))),
    "function": lambda: (nets.forward, nets.listed()),
    "state in part": lambda: _state((nnx.Param,)),
    "variables": lambda: (nets.Averaging(), nets.drawn(nets.Averaging())),
    "bound apply": lambda: (nets.Plain().apply, nets.drawn(nets.Plain())),
    "function of variables": lambda: (lambda v, x: nets.Averaging().apply(v, x), nets.drawn(nets.Averaging())),
    "library": _model,
    "state": _state,
}


@pytest.mark.parametrize("form", toy.some(FORMS, 4))
def test_weights_come_back_as_they_were_given_and_do_nothing_changes_no_bit(form):
    model, params = FORMS[form]()
    kept = jax.tree.map(np.array, params) if "state" not in form else None
    same = unlearn(model, params, **nets.SETS, method="do_nothing")
    assert type(same) is type(params)
    if kept is not None:
        toy.same(same, params)
    else:
        assert nets.gap(jax.tree.leaves(nnx.to_pure_dict(same)), jax.tree.leaves(nnx.to_pure_dict(params))) == 0.0
    moved = unlearn(model, params, **nets.SETS, method="finetune", epochs=1, momentum=0.0)
    assert type(moved) is type(params)
    floats = [(a, b) for a, b in zip(*map(jax.tree.leaves, (moved, params))) if jax.numpy.issubdtype(a.dtype, "f4")]
    assert any(np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-4 for a, b in floats)
    if kept is not None:
        toy.same(jax.tree.map(np.asarray, params), kept)


def test_an_nnx_module_comes_back_as_a_module_in_its_mode_and_stays_as_it_was():
    module = nets.Nnx(nnx.Rngs(0), rate=0.5)
    module.eval()
    before = nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.RngState)))
    new = unlearn(module, **nets.SETS, method="finetune", epochs=2)
    assert isinstance(new, nets.Nnx) and new.drop.deterministic and new.norm.use_running_average
    toy.same(nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.RngState))), before)
    after = nnx.to_pure_dict(nnx.state(new, nnx.Not(nnx.RngState)))
    for moved in ("kernel", "bias"):
        assert np.abs(np.asarray(after["last"][moved]) - np.asarray(before["last"][moved])).max() > 1e-4
    assert np.abs(np.asarray(after["norm"]["mean"]) - np.asarray(before["norm"]["mean"])).max() > 1e-2
    assert new(nets.X).shape == (60, 3)


def test_nnx_and_linen_with_the_same_weights_unlearn_to_the_same_weights():
    linen, module = nets.Averaging(), nets.Nnx(nnx.Rngs(0))
    own = nets.drawn(linen)["params"]
    for name, layer in own.items():
        for part, value in layer.items():
            setattr(getattr(module, name), part, nnx.Param(value))
    new = unlearn(linen, nets.drawn(linen), **nets.SETS, method="finetune", epochs=3)
    same = unlearn(module, **nets.SETS, method="finetune", epochs=3)
    for name, layer in new["params"].items():
        for part, value in layer.items():
            assert np.allclose(value, getattr(getattr(same, name), part)[...], atol=1e-5)
    assert np.allclose(new["batch_stats"]["norm"]["mean"], same.norm.mean[...], atol=1e-5)


@pytest.mark.parametrize("kind", toy.some([nets.Deterministic, nets.Train, nets.Training], 1))
def test_every_usual_name_of_the_mode_trains_alike(kind):
    given = nets.drawn(nets.Averaging())
    new = unlearn(kind(), given, **nets.SETS, method="finetune", epochs=2)
    toy.same(new, unlearn(nets.Averaging(), given, **nets.SETS, method="finetune", epochs=2))
    assert nets.gap(new["batch_stats"], given["batch_stats"]) > 0.01


def test_dropout_is_live_in_training_and_still_in_evaluation():
    given = nets.drawn(nets.Averaging())
    runs = [
        unlearn(nets.Averaging(rate), given, **nets.ALL, method="finetune", epochs=2, details=True)
        for rate in (0.0, 0.5, 0.5)
    ]
    assert nets.gap(runs[0].params["params"], runs[1].params["params"]) > 1e-3
    toy.same(runs[1].params, runs[2].params)
    assert runs[0].accuracy_before == runs[1].accuracy_before
    other = unlearn(nets.Averaging(0.5), given, **nets.SETS, method="finetune", epochs=2, key=jax.random.key(5))
    assert nets.gap(runs[1].params, other) > 1e-3


def test_features_are_the_inputs_of_the_dense_layer_that_gives_the_logits():
    found = read(nets.Plain(), nets.drawn(nets.Plain()))
    own = jax.tree.map(lambda x: x[0], found.variables)
    outputs, _ = found.model.apply(own, nets.X)
    last = own["params"]["last"]
    assert outputs.features.shape == (60, 6)
    assert np.allclose(outputs.features @ last["kernel"] + last["bias"][None], outputs.logits, atol=1e-5)
    one_by_one = nn.Sequential([nn.Dense(5), nn.relu, nn.Dense(3)])
    found = read(one_by_one, one_by_one.init(jax.random.key(0), nets.X))
    assert found.model.apply(jax.tree.map(lambda x: x[0], found.variables), nets.X)[0].features.shape == (60, 5)
    told = read(nets.Featured(), nets.drawn(nets.Featured()))
    outputs, _ = told.model.apply(jax.tree.map(lambda x: x[0], told.variables), nets.X)
    last = told.variables["params"]["last"]
    assert np.allclose(outputs.features @ last["kernel"][0] + last["bias"], 2 * outputs.logits, atol=1e-5)


def test_a_model_without_features_runs_what_needs_none_and_says_so_of_what_does():
    unlearn(nets.forward, nets.listed(), **nets.SETS, method="scrub", epochs=1)
    with pytest.raises(InputError, match=r"^rmu reads the features .* return \(logits, features\)"):
        unlearn(nets.forward, nets.listed(), **nets.SETS, method="rmu")


@pytest.mark.parametrize("name", ["key", "rngs"])
def test_a_function_is_told_its_mode_and_given_a_key(name):
    module = nets.Averaging(0.5)

    def apply(variables, x, *, train=False, **given):
        seen.append((train, sorted(given)))
        rngs = given.get("rngs") or ({"dropout": given["key"]} if given.get("key") is not None else {})
        return module.apply(variables, x, use_running_average=True, rngs=rngs)

    parameters = {"key": lambda v, x, *, train=False, key=None: apply(v, x, train=train, key=key)}
    parameters["rngs"] = lambda v, x, *, train=False, rngs=None: apply(v, x, train=train, rngs=rngs)
    seen: list = []
    unlearn(parameters[name], nets.drawn(nets.Averaging()), **nets.SETS, method="finetune", epochs=1)
    assert (True, [name]) in seen and (False, [name]) in seen


def test_a_function_of_params_and_state_is_given_both():
    given = {"params": {"w": np.ones((4, 3), np.float32)}, "state": {"shift": np.full((1, 3), 2.0, np.float32)}}
    new = unlearn(
        lambda v, x: x @ v["params"]["w"] + v["state"]["shift"], given, **nets.SETS, method="finetune", epochs=1
    )
    assert np.array_equal(new["state"]["shift"], given["state"]["shift"])
    assert nets.gap(new["params"], given["params"]) > 1e-3


class Told(nets.Nnx):
    def __call__(self, x, *, deterministic, rngs=None):
        x = nnx.relu(self.norm(self.first(x)))
        return self.last(nnx.Dropout(0.5)(x, deterministic=deterministic, rngs=rngs))


def test_an_nnx_module_may_take_its_mode_and_streams_as_arguments():
    run = lambda seed: unlearn(Told(nnx.Rngs(0)), **nets.SETS, method="finetune", epochs=1, batch=40, key=seed)
    one, same, other = (nnx.to_pure_dict(nnx.state(run(seed), nnx.Param)) for seed in (0, 0, 1))
    assert nets.gap(one, same) == 0.0 and nets.gap(one, other) > 1e-4


class Half(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(6, dtype="bfloat16", param_dtype="bfloat16")(x))
        return nn.Dense(3, dtype="bfloat16", param_dtype="bfloat16")(x).astype("float32")


def test_half_precision_stays_half_precision_and_gathers_small_steps():
    given = Half().init(jax.random.key(0), nets.X)
    toy.same(unlearn(Half(), given, **nets.SETS, method="do_nothing"), given)
    new, many = (unlearn(Half(), given, **nets.SETS, method="finetune", lr=1e-3, epochs=n) for n in (1, 30))
    assert {x.dtype for x in jax.tree.leaves(many)} == {np.dtype(jax.numpy.bfloat16)}
    assert nets.gap(many, given) > nets.gap(new, given)  # steps below the resolution of a weight are not lost


def test_weights_of_double_precision_are_taken_as_jax_takes_them():
    weights = np.random.default_rng(0).normal(size=(4, 3))
    new = unlearn(lambda w, x: x @ w, weights, **nets.SETS, method="finetune", epochs=1)
    assert new.dtype == np.float32 and nets.gap(new, weights) > 1e-3


def test_init_gives_new_weights_where_the_model_cannot():
    module = nets.Nnx(nnx.Rngs(0))
    with pytest.raises(InputError, match="^eu_k draws new weights .* give init="):
        unlearn(module, **nets.SETS, method="eu_k")
    new = unlearn(module, **nets.SETS, method="eu_k", init=nets.Nnx, epochs=1)
    assert np.array_equal(new.first.kernel[...], module.first.kernel[...])  # the last layer alone is new
    assert np.abs(new.last.kernel[...] - module.last.kernel[...]).max() > 0.1


def test_populations_come_as_a_list_or_on_a_leading_axis():
    each = [nets.drawn(nets.Averaging(), seed) for seed in range(3)]
    setting = nets.SETS | {"method": "finetune", "epochs": 1}
    new = unlearn(nets.Averaging(), each, **setting)
    assert isinstance(new, list) and len(new) == 3
    toy.same(
        nets.stacked(new), jax.tree.map(np.asarray, unlearn(nets.Averaging(), nets.stacked(each), members=3, **setting))
    )
    states = nets.stacked([nnx.state(nets.Nnx(nnx.Rngs(seed)), nnx.Not(nnx.RngState)) for seed in range(3)])
    many = unlearn(nets.Nnx(nnx.Rngs(0)), states, members=3, **setting)
    assert jax.tree.structure(many) == jax.tree.structure(states)
    assert many["last"]["kernel"][...].shape == (3, 6, 3)


def test_members_are_read_without_their_axis():
    found = read(nets.forward, nets.stacked([nets.listed(0), nets.listed(1)]), members=2)
    assert found.members == 2 and [x.shape for x in jax.tree.leaves(one(found.variables))] == [(4, 6), (6,), (6, 3)]
