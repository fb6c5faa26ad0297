"""Models come as users have them, and weights go back in the form in which they came."""

import jax
import nets
import numpy as np
import pytest
import toy
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
    "variables": lambda: (nets.Averaging(), nets.drawn(nets.Averaging())),
    "params": lambda: (nets.Plain(), nets.drawn(nets.Plain())["params"]),
    "frozen": lambda: (nets.Averaging(), freeze(nets.drawn(nets.Averaging()))),
    "bound apply": lambda: (nets.Plain().apply, nets.drawn(nets.Plain())),
    "function": lambda: (nets.forward, nets.listed()),
    "function of variables": lambda: (lambda v, x: nets.Averaging().apply(v, x), nets.drawn(nets.Averaging())),
    "library": _model,
    "state": _state,
    "state in part": lambda: _state((nnx.Param,)),
}


@pytest.mark.parametrize("form", FORMS)
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


@pytest.mark.parametrize("kind", [nets.Train, nets.Training, nets.Deterministic])
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
    told = read(nets.Featured(), nets.drawn(nets.Featured()))
    outputs, _ = told.model.apply(jax.tree.map(lambda x: x[0], told.variables), nets.X)
    last = told.variables["params"]["last"]
    assert np.allclose(outputs.features @ last["kernel"][0] + last["bias"], 2 * outputs.logits, atol=1e-5)


def test_a_model_without_features_runs_what_needs_none_and_says_so_of_what_does():
    unlearn(nets.forward, nets.listed(), **nets.SETS, method="scrub", epochs=1)
    with pytest.raises(InputError, match=r"^duck reads the features .* return \(logits, features\)"):
        unlearn(nets.forward, nets.listed(), **nets.SETS, method="duck")


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
