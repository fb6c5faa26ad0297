import gc
import itertools
import weakref
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.methods import prepare
from unlearn_jax.models import build_model, from_linen
from unlearn_jax.population import compiling as programs
from unlearn_jax.population import memory, run
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.plans import uniform_plan
from unlearn_jax.population.program import POINTS, columns
from unlearn_jax.population.run import Fold, Options, Stored
from unlearn_jax.types import Method, Outputs

WIDE = Options(chunk=8)
HP = toy.method()[2]
FEW = {"epochs": 1, "batch": 8}


def test_members_differ_and_shapes_are_as_promised(trained):
    assert trained.variables["params"]["head"]["kernel"].shape == (8, 16, toy.CLASSES)
    assert trained.loss.shape == (8, POINTS) and trained.loss.dtype == np.float32
    assert trained.seconds > 0 and all(isinstance(x, np.ndarray) for x in jax.tree.leaves(trained.variables))
    kernels = trained.variables["params"]["head"]["kernel"].reshape(8, -1)
    assert len(np.unique(kernels, axis=0)) == 8


def test_losses_are_those_of_evenly_spaced_updates(trained):
    fold, plan, hp = toy.method()
    sets, keys = toy.tables(8), member_keys(0, "toy", 8)
    _, losses = toy.solo(5, fold=fold, plan=plan, hp=hp, data=toy.stored(), sets=sets, keys=keys)
    slots = np.arange(plan.steps) * POINTS // plan.steps
    np.testing.assert_allclose(trained.loss[5, slots], losses, rtol=1e-4)
    assert np.isnan(np.delete(trained.loss, slots, axis=1)).all()
    assert losses[-5:].mean() < losses[:5].mean()


def test_seconds_are_run_time_by_members(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(run, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))  # a chunk takes 1 s
    assert toy.train(options=Options(chunk=4)).seconds == 2 / 8
    six = toy.train(6, keys=member_keys(0, "toy", 6), options=Options(chunk=4))
    assert six.seconds == 2 / 6  # the second chunk is half full, and costs as much


@pytest.mark.parametrize("chunk", [1, pytest.param(2, marks=pytest.mark.slow), 4, 8])
def test_a_member_equals_itself_trained_alone_whatever_the_chunk(chunk, trained):
    fold, plan, hp = toy.method()
    population = toy.train(options=Options(chunk=chunk))
    for i in (0, 5):
        alone, _ = toy.solo(
            i, fold=fold, plan=plan, hp=hp, data=toy.stored(), sets=toy.tables(8), keys=member_keys(0, "toy", 8)
        )
        toy.close(toy.member(population.variables, i), alone)
    toy.close(population.variables, trained.variables)


def test_the_same_program_and_width_give_the_same_bits():
    whole = toy.train(options=Options(chunk=4))
    toy.same(toy.train(options=Options(chunk=4))._replace(seconds=0, compile_seconds=0).variables, whole.variables)
    last = toy.train(4, keys=member_keys(0, "toy", 8)[4:], options=Options(chunk=4))
    toy.same(last.variables, toy.member(whole.variables, slice(4, 8)))
    np.testing.assert_array_equal(last.loss, whole.loss[4:])
    assert last.compile_seconds == 0.0


@pytest.mark.parametrize("members", [5, 6])
def test_padding_to_the_devices_is_never_reported(members):
    seen = []
    options = Options(chunk=4, progress=lambda done, shown: seen.append(done))
    population = toy.train(members, options=options)
    assert population.loss.shape == (members, POINTS)
    assert {len(x) for x in jax.tree.leaves(population.variables)} == {members}
    whole = toy.train(8, options=Options(chunk=4))
    toy.same(population.variables, toy.member(whole.variables, slice(members)))
    assert seen == sorted(seen) and seen[-1] == members


def test_progress_counts_members_and_examples():
    seen = []
    toy.train(8, options=Options(chunk=4, progress=lambda *told: seen.append(told)))
    done, shown = np.transpose(seen)
    assert len(seen) > 20 and (np.diff(done) >= 0).all()
    assert seen[-1] == (8, 20 * 16 * 4)  # steps, batch, members of the chunk
    assert set(shown[done == 4]) >= {20 * 16 * 4}


def test_a_left_out_sample_has_exactly_no_effect(trained):
    inputs, targets = toy.examples()
    inputs[toy.UNUSED[3]] += 100.0
    targets[toy.UNUSED[3]] = (targets[toy.UNUSED[3]] + 1) % toy.CLASSES
    inputs[toy.REQUESTED] -= 5.0  # training from scratch uses the kept table alone
    changed = toy.train(data=toy.stored(inputs, targets), options=WIDE)
    toy.same(changed.variables, trained.variables)
    np.testing.assert_array_equal(changed.loss, trained.loss)


@pytest.mark.parametrize("what", ["inputs", "targets"])
def test_a_kept_sample_has_an_effect(what, trained):
    inputs, targets = toy.examples()
    if what == "inputs":
        inputs[toy.KEPT[7]] += 0.5
    else:
        targets[toy.KEPT[7]] = (targets[toy.KEPT[7]] + 1) % toy.CLASSES
    changed = toy.train(data=toy.stored(inputs, targets), options=WIDE)
    assert (toy.gap(changed.variables, trained.variables) > 1e-4).all()


def test_a_row_matters_to_the_members_that_hold_it_alone():
    own = [toy.KEPT if i % 2 else np.append(toy.KEPT[:-1], toy.UNUSED[0]) for i in range(8)]
    sets = make_tables(own, [toy.REQUESTED] * 8, pad_to=50)
    inputs, _ = toy.examples()
    before = toy.train(sets=sets, options=WIDE)
    inputs[toy.UNUSED[0]] += 1.0
    gaps = toy.gap(toy.train(sets=sets, data=toy.stored(inputs), options=WIDE).variables, before.variables)
    assert (gaps[::2] > 1e-4).all() and (gaps[1::2] == 0.0).all()


def test_padding_of_tables_changes_no_bit(trained):
    padded = toy.train(sets=toy.tables(8, pad_to=64), options=WIDE)
    toy.same(padded.variables, trained.variables)
    np.testing.assert_array_equal(padded.loss, trained.loss)


def test_members_with_sets_of_different_sizes():
    kept = [toy.KEPT[: 5 + 5 * i] for i in range(8)]
    fold, plan, hp = toy.method()
    sets = make_tables(kept, [toy.REQUESTED] * 8, pad_to=50)
    population = toy.train(sets=sets, options=WIDE)
    for i in (0, 6):
        alone = toy.train(8, sets=toy.tables(8, kept=kept[i]), options=WIDE)
        toy.same(toy.member(population.variables, i), toy.member(alone.variables, i))


def test_map_equals_vmap(trained):
    mapped = toy.train(options=Options(chunk=8, axis="map"))
    toy.close(mapped.variables, trained.variables)
    np.testing.assert_allclose(mapped.loss, trained.loss, rtol=1e-5, atol=1e-5)


def test_a_host_loop_equals_a_loop_on_the_device(trained):
    host = toy.train(options=Options(chunk=8, loop="host"))
    assert toy.program(toy.method()[0]).host_loop
    toy.close(host.variables, trained.variables)
    np.testing.assert_allclose(host.loss, trained.loss, rtol=1e-5, atol=1e-5)


class Convolving(nn.Module):
    """A network of one convolution, computed by XLA's own."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.Conv(2, (3, 3))(x)).mean(axis=(1, 2))
        return nn.Dense(toy.CLASSES)(x), x


@pytest.mark.parametrize("kind, on_host", [("lax", True), ("im2col", False)])
def test_the_loop_runs_on_the_host_where_a_convolution_would_be_slow(kind, on_host):
    own = build_model("convnet", toy.CLASSES, toy.SHAPE, widths=(2,))
    model = from_linen(Convolving()) if kind == "lax" else own
    problem = toy.problem(model, toy.RECIPE._replace(steps=2))
    fold, plan, hp = prepare("retrain", problem, {}, toy.SIZES)
    population = toy.train(4, fold=fold, plan=plan, hp=hp, options=Options(chunk=4))
    assert toy.program(fold).host_loop == on_host
    assert np.isfinite(population.loss[:, 0]).all()


def test_programs_are_reused(trained):
    before = len(toy.COMPILED)
    again = toy.train(options=WIDE)
    assert again.compile_seconds == 0.0 and len(toy.COMPILED) == before
    toy.same(again.variables, trained.variables)


def test_programs_that_were_not_used_for_longest_are_let_go(monkeypatch):
    monkeypatch.setattr(programs, "COMPILED", {})
    monkeypatch.setattr(programs, "LOWERED", {})
    monkeypatch.setattr(programs, "MAX_PROGRAMS", 2)
    first, second, third = (toy.method("finetune", (("epochs", 1), ("batch", size))) for size in (8, 16, 24))
    start = toy.train(2, options=Options(chunk=2)).variables
    programs.COMPILED.clear()

    def tuned(made):
        fold, plan, hp = made
        return toy.train(2, fold=fold, plan=plan, hp=hp, start=start, options=Options(chunk=2))

    once = tuned(first)
    made = weakref.ref(programs.COMPILED[next(iter(programs.COMPILED))].advance)
    tuned(second)
    assert tuned(first).compile_seconds == 0.0  # used last now
    tuned(third)
    assert {key[0] for key in programs.COMPILED} == {first[0], third[0]} and made() is not None
    tuned(second)
    gc.collect()
    assert {key[0] for key in programs.COMPILED} == {third[0], second[0]} and made() is None
    again = tuned(first)
    assert again.compile_seconds > 0.0
    toy.same(again.variables, once.variables)


def test_where_memory_maps_run_out_most_programs_are_let_go(monkeypatch, tmp_path):
    monkeypatch.setattr(programs, "COMPILED", {})
    monkeypatch.setattr(programs, "LOWERED", {})
    monkeypatch.setattr(programs, "FEW_PROGRAMS", 2)
    (tmp_path / "maps").write_text("a map\n" * 76)
    (tmp_path / "most").write_text("100\n")
    monkeypatch.setattr(memory, "MAPS", tmp_path / "maps")
    made = [toy.method("finetune", (("epochs", 1), ("batch", size))) for size in (8, 16, 24, 32)]
    start, held = toy.train(2, options=Options(chunk=2)).variables, []
    for number, (fold, plan, hp) in enumerate(made):
        monkeypatch.setattr(memory, "MAX_MAPS", tmp_path / ("most" if number == 3 else "none"))
        toy.train(2, fold=fold, plan=plan, hp=hp, start=start, options=Options(chunk=2))
        held.append(len(programs.COMPILED))
    assert held[3] == 2 < held[2] and made[3][0] in {key[0] for key in programs.COMPILED}


def test_plans_of_similar_length_share_a_program(trained):
    fold, _, _ = toy.method()
    toy.train(plan=uniform_plan(3, retain_batch=16), options=WIDE)  # small programs that only place arrays
    before = len(toy.COMPILED)
    for steps in (1, 37, 64):
        population = toy.train(plan=uniform_plan(steps, retain_batch=16), options=WIDE)
        assert population.compile_seconds == 0.0 and len(toy.COMPILED) == before
        assert np.isfinite(population.loss).sum() == 8 * steps
    lengths = [columns(uniform_plan(steps)).phase.shape[0] for steps in (0, 1, 64, 65, 128, 1200)]
    assert lengths == [64, 64, 64, 128, 128, 2048]


def test_a_longer_plan_continues_a_shorter_one():
    fold, plan, hp = toy.method()
    short = toy.train(plan=uniform_plan(7, retain_batch=16), options=WIDE)
    alone, _ = toy.solo(
        2, fold=fold, plan=uniform_plan(7, retain_batch=16), hp=hp, data=toy.stored(), sets=toy.tables(8),
        keys=member_keys(0, "toy", 8),
    )  # fmt: skip
    toy.close(toy.member(short.variables, 2), alone)


def test_rates_of_the_plan_scale_updates(trained):
    still = toy.train(plan=uniform_plan(20, retain_batch=16, rate=np.zeros(20)), options=WIDE)
    begun = toy.train(plan=uniform_plan(0, retain_batch=16), options=WIDE)
    toy.same(still.variables, begun.variables)
    first = np.r_[np.ones(7), np.zeros(13)]
    stopped = toy.train(plan=uniform_plan(20, retain_batch=16, rate=first), options=WIDE)
    toy.same(stopped.variables, toy.train(plan=uniform_plan(7, retain_batch=16), options=WIDE).variables)


def test_numeric_hyperparameters_differ_by_member_as_in_separate_runs():
    lr = np.float32([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.002, 0.02])
    together = toy.train(hp=HP | {"lr": lr}, options=WIDE)
    for i in (0, 4):
        alone = toy.train(hp=HP | {"lr": lr[i]}, options=WIDE)
        toy.same(toy.member(together.variables, i), toy.member(alone.variables, i))


def test_a_sample_of_weight_zero_is_left_out():
    weight = jnp.ones((8, toy.ROWS)).at[:, toy.KEPT[7]].set(0.0)
    sets = toy.tables(8)._replace(weight=weight)
    inputs, targets = toy.examples()
    before = toy.train(sets=sets, options=WIDE)
    inputs[toy.KEPT[7]] += 3.0
    targets[toy.KEPT[7]] = (targets[toy.KEPT[7]] + 1) % toy.CLASSES
    toy.same(toy.train(sets=sets, data=toy.stored(inputs, targets), options=WIDE).variables, before.variables)


def test_weights_enter_as_a_weighted_mean(trained):
    ones = toy.tables(8)._replace(weight=jnp.ones((8, toy.ROWS)))
    toy.close(toy.train(sets=ones, options=WIDE).variables, trained.variables)
    fold, plan, hp = toy.method()
    soft = ones._replace(weight=jax.random.uniform(jax.random.key(0), (8, toy.ROWS)))
    weighted = toy.train(sets=soft, options=WIDE)
    alone, _ = toy.solo(3, fold=fold, plan=plan, hp=hp, data=toy.stored(), sets=soft, keys=member_keys(0, "toy", 8))
    toy.close(toy.member(weighted.variables, 3), alone)
    assert (toy.gap(weighted.variables, trained.variables) > 1e-4).all()


def test_every_update_and_every_view_has_a_key_of_its_own():
    def update(key, seen, batches):
        drawn = jnp.stack([jax.random.uniform(key), batches.forget.inputs[0, 0], batches.retain.inputs[0, 0]])
        return seen.at[batches.step].set(drawn), drawn[0]

    method = Method(lambda key, _: jnp.zeros((20, 3)), update, lambda seen: {"params": {"seen": seen}, "state": {}})
    views = lambda key, inputs: jnp.broadcast_to(jax.random.uniform(key), inputs.shape)
    fold, plan = Fold(lambda hp, shared: method, views), uniform_plan(20, forget_batch=2, retain_batch=2)
    data = Stored(jnp.zeros((toy.ROWS, 1)), jnp.zeros(toy.ROWS, jnp.int32))
    seen = toy.train(fold=fold, plan=plan, hp={}, data=data, options=WIDE).variables["params"]["seen"]
    assert len(np.unique(seen)) == 8 * 20 * 3
    key = jax.random.fold_in(member_keys(0, "toy", 8)[3], 3)
    expected = jax.vmap(lambda t: jax.random.uniform(jax.random.fold_in(key, t)))(jnp.arange(20))
    np.testing.assert_array_equal(seen[3, :, 0], expected)


@pytest.mark.parametrize("lr", [np.nan, 1e30])
def test_a_diverged_member_leaves_the_others_alone(lr, trained):
    values = np.full(8, HP["lr"], np.float32)
    values[3] = lr
    population = toy.train(hp=HP | {"lr": values}, options=WIDE)
    healthy = np.arange(8) != 3
    toy.same(toy.member(population.variables, healthy), toy.member(trained.variables, healthy))
    assert (toy.gap(population.variables, trained.variables)[3] > 1e3) or np.isnan(population.loss[3]).any()


def test_weights_shared_by_all_members_pass_through():
    base = jnp.asarray(np.random.default_rng(1).normal(size=(16, toy.CLASSES)), jnp.float32)

    def apply(variables, inputs, key=None, train=False):
        flat = inputs.reshape(inputs.shape[0], -1)
        logits = flat @ (variables["params"]["change"] + variables["shared"]["base"])
        return Outputs(logits, flat), variables["state"]

    fold, plan, hp = prepare("finetune", toy.problem(toy.perceptron()._replace(apply=apply)), FEW, toy.SIZES)
    start = {"params": {"change": jnp.zeros((6, 16, toy.CLASSES))}, "state": {}, "shared": {"base": base}}
    found = toy.train(6, fold=fold, plan=plan, hp=hp, start=start, options=Options(chunk=4))
    assert found.variables["shared"]["base"].shape == base.shape
    np.testing.assert_array_equal(found.variables["shared"]["base"], base)
    assert found.variables["params"]["change"].shape == (6, 16, toy.CLASSES)
    assert (np.abs(found.variables["params"]["change"]).max(axis=(1, 2)) > 1e-4).all()
    moved = toy.train(
        6, fold=fold, plan=plan, hp=hp, start=start | {"shared": {"base": base + 1.0}}, options=Options(chunk=4)
    )
    assert moved.compile_seconds == 0.0 and (toy.gap(moved.variables, found.variables) < 1e-4).all()  # softmax shift
    other = toy.train(
        6, fold=fold, plan=plan, hp=hp, start=start | {"shared": {"base": -base}}, options=Options(chunk=4)
    )
    assert (toy.gap(other.variables, found.variables) > 1e-4).all()


def test_no_member_is_refused():
    with pytest.raises(InputError, match="members is 0: ask for at least 1"):
        toy.train(8, keys=member_keys(0, "toy", 8)[:0])


def test_an_unknown_axis_is_refused():
    with pytest.raises(InputError, match="unknown member axis 'pmap'"):
        toy.train(4, options=Options(axis="pmap"))


@pytest.mark.slow
def test_after_full_training_population_means_agree_within_the_null_band():
    from unlearn_jax.data import load_dataset
    from unlearn_jax.methods.support.common import Recipe, TrainSpec
    from unlearn_jax.metrics import null_band
    from unlearn_jax.population.evaluate import evaluate
    from unlearn_jax.population.run import run_population
    from unlearn_jax.tasks import classification

    data = load_dataset("digits")
    model = build_model("mlp", 10, (8, 8, 1), mean=data.mean, std=data.std, widths=(32,))
    example = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    problem = TrainSpec(model, classification(), example, 10, Recipe(steps=1000, batch=64, lr=5e-3))
    fold, plan, hp = prepare("retrain", problem)
    train, test = (Stored(jnp.asarray(part.inputs), jnp.asarray(part.targets)) for part in (data.train, data.test))
    sets, keys = make_tables([np.arange(600)] * 16), member_keys(0, "toy", 16)
    hp = {name: np.full(16, value) for name, value in hp.items()}
    layouts = (Options(chunk=16), Options(chunk=4), Options(chunk=16, axis="map"))
    margins = []
    for options in layouts:
        population = run_population(fold, plan, train, sets, keys, {}, hp=hp, options=options)
        margins.append(evaluate(model, classification(), population.variables, test, width=16).margin)
    band = null_band(margins[0])
    assert 0 < band < 2.0
    for other in margins[1:]:
        assert abs(other.mean() - margins[0].mean()) < band
