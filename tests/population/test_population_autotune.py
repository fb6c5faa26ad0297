"""The fastest way of running members: which ways there are, the choice, and that it is remembered."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.methods import TrainSpec, prepare
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.models import build_model
from unlearn_jax.population import autotune
from unlearn_jax.population.autotune import Way, fastest, ways
from unlearn_jax.population.compiling import LOWERED
from unlearn_jax.population.run import Options, Stored
from unlearn_jax.tasks import classification

EXAMPLE = jax.ShapeDtypeStruct((1, 6, 6, 1), jnp.float32)


def problem_of(name="convnet", **options):
    model = build_model(name, 3, (6, 6, 1), **options)
    return TrainSpec(model, classification(), EXAMPLE, 3, Recipe(steps=70, batch=4))


@pytest.fixture(scope="module")
def data():
    draw = np.random.default_rng(0)
    return Stored(jnp.asarray(draw.normal(size=(12, 6, 6, 1)), jnp.float32), jnp.arange(12, dtype=jnp.int32) % 3)


def choose(problem, data, options, members=4, say=lambda text: None):
    return fastest(problem.model, EXAMPLE, prepare("retrain", problem), data, members, options, say)


def test_networks_with_convolutions_of_the_librarys_choice_have_twice_as_many_ways():
    assert ways(problem_of(widths=(4,)).model, EXAMPLE) == [
        Way("vmap", "im2col"), Way("vmap", "conv"), Way("map", "im2col"), Way("map", "conv")
    ]  # fmt: skip
    for problem in (problem_of("mlp", widths=(4,)), problem_of(widths=(4,), conv_impl="im2col")):
        assert ways(problem.model, EXAMPLE) == [Way("vmap", ""), Way("map", "")]


def test_the_fastest_way_is_taken_and_remembered(data, tmp_path, monkeypatch):
    asked = []

    def seconds(way, fold, plan, hp, data, width, options):
        asked.append((way, plan.steps, width))
        return {"vmap": 2.0, "map": 1.0}[way.axis] * {"conv": 3.0, "im2col": 4.0}[way.conv]

    monkeypatch.setattr(autotune, "seconds_of", seconds)
    problem, said, store = problem_of(widths=(4,)), [], tmp_path / "store"
    options = choose(problem, data, Options(store=store, label="kept"), say=said.append)
    assert (options.axis, options.conv, options.label) == ("map", "conv", "kept") and len(said) == 1
    assert len(asked) == 4 and {entry[1:] for entry in asked} == {(autotune.UPDATES, 4)}
    again = choose(problem, data, Options(store=store), say=said.append)
    assert again[1:] == Options(axis="map", conv="conv", store=store)[1:]
    assert len(asked) == 4 and len(said) == 1  # read back
    choose(problem, data, Options(store=store), members=2)
    assert len(asked) == 8  # another width is another question
    (store / autotune.NAME).write_text('{"cut')
    choose(problem, data, Options(store=store))
    assert len(asked) == 12 and list(json.loads((store / autotune.NAME).read_text()).values())[0]["axis"] == "map"
    choose(problem, data, Options())
    assert len(asked) == 16 and sorted(p.name for p in tmp_path.iterdir()) == ["store"]


def test_a_choice_that_cannot_be_followed_is_not_believed(tmp_path):
    kept = {name: {"axis": axis, "conv": ""} for name, axis in (("a", "side"), ("b", "map"))}
    (tmp_path / autotune.NAME).write_text(json.dumps(kept))
    assert list(autotune._earlier_choices(tmp_path / autotune.NAME)) == ["b"]
    (tmp_path / autotune.NAME).write_text("[1]")
    assert autotune._earlier_choices(tmp_path / autotune.NAME) == {}


def test_ways_are_timed_and_what_does_not_fit_is_passed_over(data, monkeypatch):
    problem = problem_of("mlp", widths=(4,))
    run = autotune.run_population

    def failing(*args, options, **rest):
        if options.axis == "vmap":
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        assert options.store is None and options.progress is None
        return run(*args, options=options, **rest)

    monkeypatch.setattr(autotune, "run_population", failing)
    said = []
    with toy.quick_programs():
        assert choose(problem, data, Options(), say=said.append).axis == "map"
    assert "vmap inf ms" in said[0]

    def nothing(*args, **rest):
        raise InputError("one member needs 1 GB")

    monkeypatch.setattr(autotune, "run_population", nothing)
    with pytest.raises(InputError, match="no way of running members fits into memory"):
        choose(problem, data, Options())

    def broken(*args, **rest):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(autotune, "run_population", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        choose(problem, data, Options())


def test_both_kinds_of_convolution_train_the_same_members(data):
    problem = problem_of(widths=(4,))
    fold, plan, hp = prepare("retrain", problem)
    every = {name: np.full(4, value) for name, value in hp.items()}
    tables = autotune.make_tables([np.arange(12, dtype=np.int32)] * 4)
    keys = autotune.member_keys(0, "both", 4)
    with toy.quick_programs():
        one, other = (
            autotune.run_population(
                fold, plan.first(5), data, tables, keys, {}, hp=every, options=Options(conv=conv, loop="host")
            )
            for conv in ("conv", "im2col")
        )
    toy.close(one.variables, other.variables)
    convolves = {key[-2]: "convolution" in made.advance.as_text() for key, made in LOWERED.items() if key[0] is fold}
    assert convolves == {"conv": True, "im2col": False}
