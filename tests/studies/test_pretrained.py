"""Members on a frozen base, and members that begin at published weights: what is shared, trained, kept and refused."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from unlearn_jax.data import load_dataset
from unlearn_jax.data.splits import RequestRows
from unlearn_jax.data.targets import choose_targets
from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, prepare
from unlearn_jax.methods.runner import RunSpec, check_methods, run_method
from unlearn_jax.methods.support.common import TrainSpec, bind_shared
from unlearn_jax.methods.support.parts import depth_order, fresh, last_groups
from unlearn_jax.models import build_model
from unlearn_jax.population import checkpoint, run
from unlearn_jax.population import compiling as programs
from unlearn_jax.population.evaluate import features, predict
from unlearn_jax.population.members import member_keys
from unlearn_jax.population.plans import uniform_plan
from unlearn_jax.population.run import Options
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.pretrained import adapted, base_rows, pretrained, train_base
from unlearn_jax.studies.problems import problem_of
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.validate import check
from unlearn_jax.tasks import classification

MEMBERS, RANK, VOCAB, LENGTH = 4, 2, 11, 5
WIDE = Options(chunk=MEMBERS)
BASE = build_model("minilm", toy.CLASSES, (LENGTH,), vocab=VOCAB, width=32, depth=1, positions=8)
RECIPE = toy.RECIPE._replace(steps=5, batch=8)
WHOLE = TrainSpec(BASE, classification(), jax.ShapeDtypeStruct((1, LENGTH), jnp.int32), toy.CLASSES, RECIPE)
PROBLEM = WHOLE._replace(model=adapted(BASE, "minilm", RANK))
FOLD, PLAN, HP = prepare("retrain", PROBLEM)
OWN = 4 * (32 * RANK + RANK * 32) + 32 * toy.CLASSES + toy.CLASSES  # query, key, value, out; head
PUBLISHED = 32 * (VOCAB + 8 + 1) + 4 * (32 * 32 + 32) + 2 * 4 * 32 * 32 + (4 + 1) * 32 + 3 * 2 * 32  # all but the head
TEACHING = ("scrub", "bad_teacher", "kl_retain", "rmu", "delete")


@pytest.fixture(scope="module", autouse=True)
def quick(request):
    """Programs that compile soon, unless the slow tests were asked for as well (``-m ""``)."""
    with toy.quick_programs(request.config.getoption("markexpr") == "not slow"):
        yield


def texts():
    """Random token ids in place of the toy's pictures."""
    return np.random.default_rng(0).integers(1, VOCAB, (toy.ROWS, LENGTH)).astype(np.int32)


def base(seed=5):
    """Variables of a base without its head."""
    found = jax.tree.map(np.asarray, jax.jit(BASE.init)(jax.random.key(seed), texts()[:1]))
    return found | {"params": {name: part for name, part in found["params"].items() if name != "head"}}


@pytest.fixture(scope="module")
def shared():
    return base()


def train(shared, members=MEMBERS, inputs=None, options=WIDE, **given):
    """Members that train adapters on a base."""
    method = {"fold": FOLD, "plan": PLAN, "hp": HP} | given
    data = toy.stored(texts() if inputs is None else inputs)
    return toy.train(members, data=data, start={"shared": shared}, options=options, **method)


@pytest.fixture(scope="module")
def trained(shared):
    return train(shared)


def own_of(variables):
    return {name: part for name, part in variables.items() if name != "shared"}


def size_of(tree):
    return sum(np.size(x) for x in jax.tree.leaves(tree))


# --- one base for all members -------------------------------------------------------------------------------------


def test_a_population_is_adapters_by_member_and_one_base(trained, shared):
    toy.same(trained.variables["shared"], shared)
    assert size_of(trained.variables["params"]) == MEMBERS * OWN and size_of(shared) == PUBLISHED
    assert size_of(own_of(trained.variables)) == MEMBERS * (OWN + 1)  # and the scale
    assert all(len(x) == MEMBERS for x in jax.tree.leaves(own_of(trained.variables)))
    assert (
        toy.gap(trained.variables, toy.member(own_of(trained.variables), np.roll(np.arange(MEMBERS), 1))).min() > 0.01
    )


def test_no_program_puts_a_member_axis_on_the_base(trained):
    (lowered,) = [one for key, one in programs.LOWERED.items() if key[0] is FOLD and key[3].size == MEMBERS]
    text = [part.as_text() for part in (lowered.begin, lowered.advance, lowered.end)]
    assert "tensor<32x128xf32>" in text[1] and f"tensor<{VOCAB}x32xf32>" in text[1]
    for kernel in ("32x128", "128x32", f"{VOCAB}x32", "32x32"):
        assert not any(re.search(rf"tensor<\d+x{kernel}xf32>", part) for part in text)


@pytest.mark.slow
def test_a_member_equals_itself_trained_alone(trained, shared):
    keys = member_keys(0, "toy", MEMBERS)
    alone = train(shared, 1, keys=keys[2:3], options=Options(chunk=1))
    toy.close(own_of(alone.variables), toy.member(own_of(trained.variables), slice(2, 3)))


def test_retraining_depends_on_the_base_and_the_rows_that_are_kept_alone(trained, shared):
    inputs = texts()
    inputs[np.concatenate([toy.REQUESTED, toy.UNUSED])] = 1
    toy.same(train(shared, inputs=inputs).variables, trained.variables)
    inputs[toy.KEPT] = 2
    assert (toy.gap(train(shared, inputs=inputs).variables, trained.variables) > 1e-4).all()
    assert (toy.gap(train(base(6)).variables, trained.variables) > 1e-4).all()


def test_the_store_keeps_adapters_and_knows_the_base(tmp_path, trained, shared, monkeypatch):
    calls, train_chunk = [], run.train_chunk
    monkeypatch.setattr(run, "train_chunk", lambda *args: calls.append(1) or train_chunk(*args))
    kept = WIDE._replace(store=tmp_path)
    for _ in range(2):
        toy.same(train(shared, options=kept).variables, trained.variables)
    assert len(calls) == 1
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    chunk = checkpoint.load_chunk(tmp_path, folder.name)
    assert size_of(chunk["variables"]) == MEMBERS * (OWN + 1) and "shared" not in chunk["variables"]
    train(base(6), options=kept)
    assert len(calls) == 2


# --- methods ------------------------------------------------------------------------------------------------------


def test_new_initialisations_and_layers_by_depth_are_those_of_the_adapters(shared):
    bound = bind_shared(PROBLEM, shared)
    drawn = jax.jit(lambda key: fresh(bound, key)["params"])
    one, other = drawn(jax.random.key(0)), drawn(jax.random.key(1))
    for name, pair in one["block0"]["attention"].items():
        assert not pair["b"].any() and abs(pair["a"]).max() > 0.01
        assert (pair["a"] != other["block0"]["attention"][name]["a"]).all()
    assert (one["head"]["kernel"] != other["head"]["kernel"]).all()
    assert depth_order(bound.model, (1, LENGTH), "int32") == ("block0", "head")
    live = last_groups(bound, one, 1)
    assert all(x.all() for x in jax.tree.leaves(live["head"])) and not any(
        x.any() for x in jax.tree.leaves(live["block0"])
    )
    language = pretrained("decoder", VOCAB, (LENGTH,), rank=RANK, width=16, heads=2).model
    assert depth_order(language, (1, LENGTH), "int32") == ("block0", "block1")


def test_a_folder_that_would_be_ignored_is_refused(tmp_path):
    with pytest.raises(InputError, match="model 'decoder' reads no published weights, so folder .* would be ignored"):
        pretrained("decoder", VOCAB, (LENGTH,), folder=tmp_path)


@pytest.mark.parametrize("name", [TEACHING[0], *(pytest.param(n, marks=pytest.mark.slow) for n in TEACHING[1:])])
def test_a_teacher_is_adapters_too(name, shared, trained):
    fold, _, hp = prepare(name, PROBLEM, {}, toy.SIZES)
    start = jax.tree.map(lambda x: x[0], own_of(trained.variables))
    state = jax.eval_shape(lambda s, v: fold.build(hp, s).init(jax.random.key(0), v), shared, start)
    sizes = [x.size for x in jax.tree.leaves(state)]
    assert OWN < sum(sizes) < 6 * OWN and max(sizes) <= 32 * toy.CLASSES  # B and head; a kernel of the base has 1,024


def job(shared):
    none = toy.UNUSED[:0]
    rows = RequestRows(toy.REQUESTED, none, toy.KEPT[:8], toy.KEPT[8:], toy.UNUSED, none, none, 1.0)
    return RunSpec(PROBLEM, toy.stored(texts()), [rows] * MEMBERS, (FOLD, PLAN, HP), WIDE, 0, 50, "small", 0.0, shared)


SHORT = {"epochs": [1], "batch": [8], "shards": [2], "slices": [1]}
NAMES = (
    "ssd",
    *(pytest.param(n, marks=pytest.mark.slow) for n in METHODS if n != "ssd" and "pixels" not in METHODS[n].needs),
)


@pytest.mark.parametrize("name", NAMES)
def test_methods_act_on_adapters_and_hand_the_base_on(name, shared, trained):
    given = {key: value for key, value in SHORT.items() if key in METHODS[name].static}
    found = run_method(name, job(shared), trained.variables, given)
    params = found.population.variables["params"]
    assert jax.tree.structure(params) == jax.tree.structure(trained.variables["params"])
    toy.same(found.population.variables["shared"], shared)
    assert np.isfinite(predict(found.model, found.population.variables, job(shared).stored, width=MEMBERS)).all()
    if name == "eu_k":
        toy.same(params["block0"], trained.variables["params"]["block0"])
        assert (params["head"]["kernel"] != trained.variables["params"]["head"]["kernel"]).all()


def test_features_and_checks_are_given_the_base(shared, trained):
    assert features(PROBLEM.model, trained.variables, texts()[:3], members=2).shape == (3, 2 * 32)
    abstract = jax.eval_shape(lambda: shared)
    check_methods(PROBLEM, job(shared).rows[:1], {"scrub": {}, "boundary_shrink": {}}, "small", 0.0, abstract)


# --- published weights as a start ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_fine_tune_begins_at_the_published_weights_with_a_new_head(shared):
    fold, _, hp = prepare("retrain", WHOLE)
    given = {"fold": fold, "hp": hp}
    start = {"start": shared["params"]}
    begun = train(start, plan=uniform_plan(0, retain_batch=8), **given).variables["params"]
    heads = begun.pop("head")["kernel"]
    toy.same(begun, jax.tree.map(lambda x: np.repeat(x[None], MEMBERS, axis=0), shared["params"]))
    assert len(np.unique(heads.reshape(MEMBERS, -1), axis=0)) == MEMBERS
    after = train(start, plan=uniform_plan(2, retain_batch=8), **given)
    assert (np.abs(after.variables["params"]["block0"]["up"]["kernel"] - begun["block0"]["up"]["kernel"]) > 0).any()
    assert predict(BASE, after.variables, toy.stored(texts()), width=MEMBERS).shape == (MEMBERS, toy.ROWS, toy.CLASSES)
    text = [one.begin.as_text() for key, one in programs.LOWERED.items() if key[0] is fold]
    assert text and not any(re.search('dense<"0x[0-9A-F]{200}', one) for one in text)  # they are no constants


# --- the base of a study ------------------------------------------------------------------------------------------


def test_the_base_is_told_nothing_that_can_be_asked_to_be_forgotten():
    dataset = load_dataset("facts")
    about, rows = dataset.about, base_rows(dataset)
    told = about.train.take(dataset.train.ids)
    once = about.world.pool[told.person, told.attribute]
    assert len(rows) and not once[rows].any() and once[np.setdiff1d(np.arange(len(once)), rows)].all()
    for kind in ("random", "person", "class", "distant"):
        assert len(base_rows(dataset, choose_targets(dataset, kind, 4, 2, 0))) == len(rows)
    with pytest.raises(InputError, match="targets are among what the base is trained on"):
        base_rows(dataset, choose_targets(dataset, "whole_class", 4, 1, 0))
    with pytest.raises(InputError, match="every example of 'digits' may be a target"):
        base_rows(load_dataset("digits"))


CONFIG = StudyConfig(
    dataset="facts", lora=2, similarity="semantic", copies="1", methods="do_nothing",
    num_targets=4, members=2, steps=4, model_options=("width=16", "depth=1", "heads=2"), resamples=20,
)  # fmt: skip


@pytest.mark.slow
def test_the_base_reads_its_own_rows_alone():
    dataset = load_dataset("facts")
    problem = problem_of(resolve(dataclasses.replace(CONFIG, lora=0)), dataset, [])  # the study's, and so its program
    before = train_base(problem, dataset, 0)
    inputs = dataset.train.inputs.copy()
    inputs[np.setdiff1d(np.arange(len(inputs)), before.rows)] = 1
    changed = dataset._replace(train=dataset.train._replace(inputs=inputs))
    toy.same(train_base(problem, changed, 0).shared, before.shared)
    assert before.shared["params"]["embed"].shape == (len(dataset.about.words), 16)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"lora": -1}, "--lora is -1: give the rank"),
        ({"lora": 4, "dataset": "digits", "model": "mlp"}, "'mlp' is none: leave --lora out"),
        ({"lora": 4, "dataset": "digits", "model": "convnet"}, "'convnet' is none: leave --lora out"),
        ({"lora": 4, "dataset": "digits", "model": "vit"}, "'vit' is none: leave --lora out"),
        ({"dataset": "digits", "model": "minilm"}, "model 'minilm' does not read the data of 'digits'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(changes, said):
    options = {"model_options": (), "similarity": "near"} if "model" in changes else {}
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        check(resolve(dataclasses.replace(CONFIG, **{"methods": "none"} | options | changes)))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
