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

from unlearn_jax.data import load_dataset
from unlearn_jax.errors import InputError
from unlearn_jax.methods import prepare
from unlearn_jax.methods.support.common import Recipe, TrainSpec
from unlearn_jax.metrics import null_band
from unlearn_jax.models import build_model, from_linen
from unlearn_jax.population import compiling as programs
from unlearn_jax.population import memory, run, sharding
from unlearn_jax.population.evaluate import evaluate
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.plans import uniform_plan
from unlearn_jax.population.program import POINTS, columns
from unlearn_jax.population.run import Fold, Options, Stored, run_population
from unlearn_jax.tasks import classification
from unlearn_jax.types import Method, Outputs

WIDE, HALF = Options(chunk=8), Options(chunk=4)
HP = toy.method()[2]


def alone(index, plan=None, sets=None):
    """A member of the toy study trained without any member axis; (variables, losses)."""
    fold, whole, hp = toy.method()
    sets, keys = toy.tables(8) if sets is None else sets, member_keys(0, "toy", 8)
    return toy.solo(index, fold=fold, plan=plan or whole, hp=hp, data=toy.stored(), sets=sets, keys=keys)


@pytest.fixture(scope="module")
def halves(many_segments):
    """Eight members trained four at a time; read only."""
    return toy.train(options=HALF)


def test_members_differ_and_shapes_are_as_promised(trained):
    assert trained.variables["params"]["head"]["kernel"].shape == (8, 16, toy.CLASSES)
    assert trained.loss.shape == (8, POINTS) and trained.loss.dtype == np.float32
    assert trained.seconds > 0 and all(isinstance(x, np.ndarray) for x in jax.tree.leaves(trained.variables))
    assert len(np.unique(trained.variables["params"]["head"]["kernel"].reshape(8, -1), axis=0)) == 8


def test_a_member_and_its_losses_at_evenly_spaced_updates_are_those_of_training_it_alone(trained, halves):
    variables, losses = alone(5)
    for population in (trained, halves):
        toy.close(toy.member(population.variables, 5), variables)
    slots = np.arange(20) * POINTS // 20
    np.testing.assert_allclose(trained.loss[5, slots], losses, rtol=1e-4)
    assert np.isnan(np.delete(trained.loss, slots, axis=1)).all()
    assert losses[-5:].mean() < losses[:5].mean()


@pytest.mark.parametrize(
    "options",
    [Options(chunk=8, axis="map"), Options(chunk=8, loop="host")]
    + [pytest.param(Options(chunk=chunk), marks=pytest.mark.slow) for chunk in (1, 2)],
)
def test_axis_loop_and_chunk_change_nothing_but_rounding(options, trained):
    found = toy.train(options=options)
    assert toy.program(toy.method()[0]).host_loop == (options.loop == "host")
    toy.close(found.variables, trained.variables)
    np.testing.assert_allclose(found.loss, trained.loss, rtol=1e-5, atol=1e-5)


def test_seconds_are_run_time_by_members(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(run, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))  # a chunk takes 1 s
    assert toy.train(options=HALF).seconds == 2 / 8
    six = toy.train(6, keys=member_keys(0, "toy", 6), options=HALF)
    assert six.seconds == 2 / 6  # the second chunk is half full, and costs as much


def test_the_same_program_and_width_give_the_same_bits(halves, trained):
    again = toy.train(options=HALF)
    toy.same(again.variables, halves.variables)
    last = toy.train(4, keys=member_keys(0, "toy", 8)[4:], options=HALF)
    toy.same(last.variables, toy.member(halves.variables, slice(4, 8)))
    np.testing.assert_array_equal(last.loss, halves.loss[4:])
    before = len(toy.COMPILED)
    toy.same(toy.train(options=WIDE).variables, trained.variables)
    assert again.compile_seconds == last.compile_seconds == 0.0 and len(toy.COMPILED) == before


def test_padding_to_the_devices_is_never_reported(halves):
    seen = []
    population = toy.train(5, options=HALF._replace(progress=lambda done, shown: seen.append(done)))
    assert population.loss.shape == (5, POINTS)
    assert {len(x) for x in jax.tree.leaves(population.variables)} == {5}
    toy.same(population.variables, toy.member(halves.variables, slice(5)))
    assert seen == sorted(seen) and seen[-1] == 5


def test_progress_counts_members_and_examples():
    seen = []
    toy.train(8, options=HALF._replace(progress=lambda *told: seen.append(told)))
    done, shown = np.transpose(seen)
    assert len(seen) > 20 and (np.diff(done) >= 0).all()
    assert seen[-1] == (8, 20 * 16 * 4)  # steps, batch, members of the chunk
    assert set(shown[done == 4]) >= {20 * 16 * 4}


def test_a_left_out_sample_has_exactly_no_effect_and_a_kept_one_has(trained):
    inputs, targets = toy.examples()
    inputs[toy.UNUSED[3]] += 100.0
    targets[toy.UNUSED[3]] = (targets[toy.UNUSED[3]] + 1) % toy.CLASSES
    inputs[toy.REQUESTED] -= 5.0  # training from scratch uses the kept table alone
    changed = toy.train(data=toy.stored(inputs, targets), options=WIDE)
    toy.same(changed.variables, trained.variables)
    np.testing.assert_array_equal(changed.loss, trained.loss)
    inputs, targets = toy.examples()
    inputs[toy.KEPT[7]] += 0.5
    targets[toy.KEPT[8]] = (targets[toy.KEPT[8]] + 1) % toy.CLASSES
    for data in (toy.stored(inputs), toy.stored(targets=targets)):
        assert (toy.gap(toy.train(data=data, options=WIDE).variables, trained.variables) > 1e-4).all()


def test_a_row_matters_to_the_members_that_hold_it_alone():
    own = [toy.KEPT if i % 2 else np.append(toy.KEPT[:-1], toy.UNUSED[0]) for i in range(8)]
    sets = make_tables(own, [toy.REQUESTED] * 8, pad_to=50)
    inputs, _ = toy.examples()
    before = toy.train(sets=sets, options=WIDE)
    inputs[toy.UNUSED[0]] += 1.0
    gaps = toy.gap(toy.train(sets=sets, data=toy.stored(inputs), options=WIDE).variables, before.variables)
    assert (gaps[::2] > 1e-4).all() and (gaps[1::2] == 0.0).all()


def test_padding_of_tables_changes_no_bit_and_sets_may_differ_in_size(trained):
    padded = toy.train(sets=toy.tables(8, pad_to=64), options=WIDE)
    toy.same(padded.variables, trained.variables)
    np.testing.assert_array_equal(padded.loss, trained.loss)
    kept = [toy.KEPT[: 5 + 5 * i] for i in range(8)]
    population = toy.train(sets=make_tables(kept, [toy.REQUESTED] * 8, pad_to=50), options=WIDE)
    for i in (0, 6):
        same = toy.train(8, sets=toy.tables(8, kept=kept[i]), options=WIDE)
        toy.same(toy.member(population.variables, i), toy.member(same.variables, i))


class Convolving(nn.Module):
    """A network of one convolution, computed by XLA's own."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.Conv(2, (3, 3))(x)).mean(axis=(1, 2))
        return nn.Dense(toy.CLASSES)(x), x


@pytest.mark.parametrize("kind, on_host", toy.some([("lax", True), ("im2col", False)], 1))
def test_the_loop_runs_on_the_host_where_a_convolution_would_be_slow(kind, on_host):
    own = build_model("convnet", toy.CLASSES, toy.SHAPE, widths=(2,))
    model = from_linen(Convolving()) if kind == "lax" else own
    problem = toy.problem(model, toy.RECIPE._replace(steps=2))
    fold, plan, hp = prepare("retrain", problem, {}, toy.SIZES)
    population = toy.train(4, fold=fold, plan=plan, hp=hp, options=HALF)
    assert toy.program(fold).host_loop == on_host
    assert np.isfinite(population.loss[:, 0]).all()


def counting(step):
    """A fold of its own that adds up ``step``, whose program compiles soon, and what trains a member by it."""
    method = Method(
        lambda key, own: jnp.zeros(2), lambda key, at, batches: (at + step, at.sum()), lambda at: {"at": at}
    )
    fold = Fold(lambda hp, shared: method)
    return fold, lambda: toy.train(1, fold=fold, plan=uniform_plan(3), hp={}, options=Options(chunk=1))


@pytest.fixture
def no_programs(monkeypatch):
    """As if nothing had been compiled yet."""
    monkeypatch.setattr(programs, "COMPILED", {})
    monkeypatch.setattr(programs, "LOWERED", {})


def kept_folds():
    return {key[0] for key in programs.COMPILED}


def test_programs_that_were_not_used_for_longest_are_let_go(no_programs, monkeypatch):
    monkeypatch.setattr(programs, "MAX_PROGRAMS", 2)
    (first, run_first), (second, run_second), (third, run_third) = map(counting, (1.0, 2.0, 3.0))
    once = run_first()
    made = weakref.ref(programs.COMPILED[next(iter(programs.COMPILED))].advance)
    run_second()
    assert run_first().compile_seconds == 0.0  # used last now
    run_third()
    assert kept_folds() == {first, third} and made() is not None
    run_second()
    gc.collect()
    assert kept_folds() == {third, second} and made() is None
    again = run_first()
    assert again.compile_seconds > 0.0
    toy.same(again.variables, once.variables)


def test_where_memory_maps_run_out_most_programs_are_let_go(no_programs, monkeypatch, tmp_path):
    monkeypatch.setattr(programs, "FEW_PROGRAMS", 2)
    (tmp_path / "maps").write_text("a map\n" * 76)
    (tmp_path / "most").write_text("100\n")
    monkeypatch.setattr(memory, "MAPS", tmp_path / "maps")
    held = []
    for number in range(4):
        monkeypatch.setattr(memory, "MAX_MAPS", tmp_path / ("most" if number == 3 else "none"))
        fold, go = counting(float(number))
        go()
        held.append(len(programs.COMPILED))
    assert held[3] == 2 < held[2] and fold in kept_folds()


def test_plans_of_similar_length_share_a_program(trained):
    toy.train(plan=uniform_plan(3, retain_batch=16), options=WIDE)  # small programs that only place arrays
    before = len(toy.COMPILED)
    for steps in (1, 37, 64):
        population = toy.train(plan=uniform_plan(steps, retain_batch=16), options=WIDE)
        assert population.compile_seconds == 0.0 and len(toy.COMPILED) == before
        assert np.isfinite(population.loss).sum() == 8 * steps
    lengths = [columns(uniform_plan(steps)).phase.shape[0] for steps in (0, 1, 64, 65, 128, 1200)]
    assert lengths == [64, 64, 64, 128, 128, 2048]


def test_rates_of_the_plan_scale_updates_and_a_longer_plan_continues_a_shorter_one(trained):
    short = toy.train(plan=uniform_plan(7, retain_batch=16), options=WIDE)
    toy.close(toy.member(short.variables, 2), alone(2, uniform_plan(7, retain_batch=16))[0])
    stopped = toy.train(plan=uniform_plan(20, retain_batch=16, rate=np.r_[np.ones(7), np.zeros(13)]), options=WIDE)
    toy.same(stopped.variables, short.variables)
    still = toy.train(plan=uniform_plan(20, retain_batch=16, rate=np.zeros(20)), options=WIDE)
    toy.same(still.variables, toy.train(plan=uniform_plan(0, retain_batch=16), options=WIDE).variables)


def test_numeric_hyperparameters_differ_by_member_as_in_separate_runs():
    lr = np.float32([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.002, 0.02])
    together = toy.train(hp=HP | {"lr": lr}, options=WIDE)
    for i in (0, 4):
        separate = toy.train(hp=HP | {"lr": lr[i]}, options=WIDE)
        toy.same(toy.member(together.variables, i), toy.member(separate.variables, i))


def test_weights_enter_as_a_weighted_mean_and_a_sample_of_weight_zero_is_left_out(trained):
    ones = toy.tables(8)._replace(weight=jnp.ones((8, toy.ROWS)))
    toy.close(toy.train(sets=ones, options=WIDE).variables, trained.variables)
    soft = ones._replace(weight=jax.random.uniform(jax.random.key(0), (8, toy.ROWS)).at[:, toy.KEPT[7]].set(0.0))
    weighted = toy.train(sets=soft, options=WIDE)
    toy.close(toy.member(weighted.variables, 3), alone(3, sets=soft)[0])
    assert (toy.gap(weighted.variables, trained.variables) > 1e-4).all()
    inputs, targets = toy.examples()
    inputs[toy.KEPT[7]] += 3.0
    targets[toy.KEPT[7]] = (targets[toy.KEPT[7]] + 1) % toy.CLASSES
    toy.same(toy.train(sets=soft, data=toy.stored(inputs, targets), options=WIDE).variables, weighted.variables)


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

    problem = toy.problem(toy.perceptron()._replace(apply=apply))
    fold, plan, hp = prepare("finetune", problem, {"epochs": 1, "batch": 8}, toy.SIZES)
    start = {"params": {"change": jnp.zeros((6, 16, toy.CLASSES))}, "state": {}}
    found, moved, other = (
        toy.train(6, fold=fold, plan=plan, hp=hp, start=start | {"shared": {"base": one}}, options=HALF)
        for one in (base, base + 1.0, -base)
    )
    np.testing.assert_array_equal(found.variables["shared"]["base"], base)
    assert found.variables["params"]["change"].shape == (6, 16, toy.CLASSES)
    assert (np.abs(found.variables["params"]["change"]).max(axis=(1, 2)) > 1e-4).all()
    assert moved.compile_seconds == 0.0 and (toy.gap(moved.variables, found.variables) < 1e-4).all()  # softmax shift
    assert (toy.gap(other.variables, found.variables) > 1e-4).all()


def test_no_member_and_an_unknown_axis_are_refused():
    with pytest.raises(InputError, match="members is 0: ask for at least 1"):
        toy.train(8, keys=member_keys(0, "toy", 8)[:0])
    with pytest.raises(InputError, match="unknown member axis 'pmap'"):
        toy.train(4, options=Options(axis="pmap"))


@pytest.mark.slow
def test_after_full_training_population_means_agree_within_the_null_band(monkeypatch):
    data = load_dataset("digits")
    model = build_model("mlp", 10, (8, 8, 1), mean=data.mean, std=data.std, widths=(32,))
    example = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    problem = TrainSpec(model, classification(), example, 10, Recipe(steps=1000, batch=64, lr=5e-3))
    fold, plan, hp = prepare("retrain", problem)
    train, test = (Stored(jnp.asarray(part.inputs), jnp.asarray(part.targets)) for part in (data.train, data.test))
    sets, keys = make_tables([np.arange(600)] * 16), member_keys(0, "toy", 16)
    hp = {name: np.full(16, value) for name, value in hp.items()}
    layouts = [(4, {}), (4, {"chunk": 4}), (4, {"axis": "map"}), (2, {}), (1, {})]  # devices and options
    margins = []
    for devices, options in layouts:
        monkeypatch.setattr(sharding, "devices", lambda count=devices: jax.devices()[:count])
        options = Options(**{"chunk": 16} | options)
        population = run_population(fold, plan, train, sets, keys, {}, hp=hp, options=options)
        margins.append(evaluate(model, classification(), population.variables, test, width=16).margin)
    band = null_band(margins[0])
    assert 0 < band < 2.0
    for other in margins[1:]:
        assert abs(other.mean() - margins[0].mean()) < band
