"""Populations beside a loop of separate jitted trainings, and beside what the device does in a plain product.

A case is a network, a batch and a number of updates. Both train the same networks with the same optimizer on the same
kind of batches: the loop calls one jitted training function (all updates inside one compiled loop) once per model; the
population is `run_population`. They are measured in turn, so that what else the machine does touches both.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from _timing import timed

EXAMPLES = 2048
REPEATS = 5
SIDE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}  # of the matrices in the plain product


class Case(NamedTuple):
    """One network and how it is trained."""

    model: str
    shape: tuple[int, ...]  # of an example: pixels, or tokens
    options: dict
    batch: int
    steps: int  # updates of a training on a CPU
    members: tuple[int, ...]  # population sizes
    vocab: int = 0  # of a language model
    far: tuple[int, int] = (0, 0)  # updates and members on an accelerator, where the case is one for it

    @property
    def tokens(self) -> int:
        """Tokens of an example; 1 where it is no text."""
        return self.shape[0] if self.vocab else 1


CASES = {
    "mlp": Case("mlp", (8, 8, 1), {}, 128, 300, (1, 8, 32)),
    "convnet": Case("convnet", (28, 28, 1), {}, 128, 32, (1, 8, 32)),
    "gpt": Case("decoder", (32,), {"size": "tiny"}, 32, 20, (1, 8, 32), vocab=256),
    "small_net": Case("convnet", (32, 32, 3), {}, 128, 4, (8,), far=(400, 256)),
    "wide_net": Case("resnet9", (32, 32, 3), {}, 256, 1, (2,), far=(40, 32)),
    "gpt_128": Case("decoder", (64,), {"size": "small"}, 64, 2, (2,), vocab=1024, far=(100, 128)),
    "gpt_384": Case("decoder", (128,), {"size": "base"}, 64, 1, (1,), vocab=1024, far=(40, 16)),
}
LAPTOP = ("mlp", "convnet", "gpt")


class Built(NamedTuple):
    """A case with its data."""

    case: Case
    problem: object
    data: object
    flops: float  # of an example, forward


def build(case: Case, dtype: str, steps: int, batch: int) -> Built:
    """Model, recipe and random examples; ``steps`` and ``batch`` 0 = the case's."""
    import jax
    import jax.numpy as jnp

    from unlearn_jax.methods import TrainSpec
    from unlearn_jax.methods.support.common import Recipe
    from unlearn_jax.models import build_model, flops_per_example
    from unlearn_jax.population.run import Stored
    from unlearn_jax.tasks import classification, free_text

    recipe = Recipe(steps=steps or (case.steps if jax.default_backend() == "cpu" else case.far[0] or 300))
    recipe, rng = recipe._replace(batch=batch or case.batch), np.random.default_rng(0)
    if case.vocab:
        model = build_model(case.model, case.vocab, case.shape, dtype=dtype, **case.options)
        tokens = rng.integers(1, case.vocab, (EXAMPLES, case.shape[0] + 1))
        data = Stored(jnp.asarray(tokens[:, :-1], jnp.int32), jnp.asarray(tokens[:, 1:], jnp.int32))
        task, kind, classes = free_text(), jnp.int32, case.vocab
    else:
        channels = case.shape[-1]
        scale = {"mean": (0.5,) * channels, "std": (0.25,) * channels}
        model, classes = build_model(case.model, 10, case.shape, dtype=dtype, **scale, **case.options), 10
        pixels = rng.integers(0, 256, (EXAMPLES, *case.shape), np.uint8)
        data = Stored(jnp.asarray(pixels), jnp.asarray(rng.integers(0, 10, EXAMPLES), jnp.int32))
        task, kind = classification(), jnp.uint8
    problem = TrainSpec(model, task, jax.ShapeDtypeStruct((1, *case.shape), kind), classes, recipe)
    return Built(case, problem, data, flops_per_example(model, case.shape, kind))


def population(built: Built, members: int, chunk: int, axis: str, data_devices: int):
    """``train(seed) -> Population`` of so many members, the axis as a study chooses it."""
    from unlearn_jax.methods import prepare
    from unlearn_jax.population.autotune import fastest
    from unlearn_jax.population.members import make_tables, member_keys
    from unlearn_jax.population.run import Options, run_population
    from unlearn_jax.studies.setup import checked_options

    fold, plan, hp = prepare("retrain", built.problem)
    options = checked_options(Options(chunk=chunk, axis=axis, data_devices=data_devices), built.problem)
    if axis == "measured":
        model, example = built.problem.model, built.problem.example
        options = fastest(model, example, (fold, plan, hp), built.data, members, options, print)
    tables = make_tables([np.arange(EXAMPLES, dtype=np.int32)] * members)
    every = {name: np.full(members, value) for name, value in hp.items()}
    return lambda seed: run_population(
        fold, plan, built.data, tables, member_keys(seed, "bench", members), {}, hp=every, options=options
    )


def loop(built: Built):
    """``train(seed)``, one jitted training that is compiled, and the seconds that this took."""
    import jax
    import jax.numpy as jnp
    import optax

    from unlearn_jax.types import Batch

    (model, task, _, _, recipe), data = built.problem[:5], built.data
    optimizer = optax.adamw(recipe.lr, weight_decay=recipe.weight_decay)

    def update(t, carry, key):
        variables, moments = carry
        index = jax.random.randint(jax.random.fold_in(key, t), (recipe.batch,), 0, EXAMPLES)
        batch = Batch(data.inputs[index], data.targets[index], jnp.ones(recipe.batch), index)

        def loss(params):
            outputs, state = model.apply(variables | {"params": params}, batch.inputs, train=True)
            return task.loss(outputs.logits, batch).mean(), state

        grads, state = jax.grad(loss, has_aux=True)(variables["params"])
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to its int32 step count
            steps, moments = optimizer.update(grads, moments, variables["params"])
        return {"params": optax.apply_updates(variables["params"], steps), "state": state}, moments

    def train(key):
        variables = model.init(key, data.inputs[:1])
        start = (variables, optimizer.init(variables["params"]))
        return jax.lax.fori_loop(0, recipe.steps, lambda t, c: update(t, c, key), start)[0]

    began = time.perf_counter()
    compiled = jax.jit(train).lower(jax.random.key(0)).compile()
    return lambda seed: jax.block_until_ready(compiled(jax.random.key(seed))), time.perf_counter() - began


def peak(dtype: str) -> float:
    """Floating-point operations a second of a plain square product on all devices at once: median of 5."""
    import jax
    import jax.numpy as jnp

    from unlearn_jax.population.sharding import member_mesh, member_shardings
    from unlearn_jax.runtime import multihost

    devices, side = jax.device_count(), SIDE.get(jax.default_backend(), 2048)
    split, _ = member_shardings(member_mesh(devices))
    pair = np.ones((devices, side, side), jnp.dtype(dtype))
    many = jax.jit(jax.vmap(jnp.dot), in_shardings=split, out_shardings=split)
    pair = multihost.placed(pair, split)
    return devices * 2.0 * side**3 / timed(lambda: jax.block_until_ready(many(pair, pair)), REPEATS)[1]


def measure(name: str, members: int, built: Built, alone, args, most: float) -> dict:
    """One row: speeds in examples (or tokens) a second, their ratio, compile seconds and the share of the peak.

    ``alone`` is what `loop` gave, or None where no loop is measured; ``most`` the device's operations a second.
    """
    train = population(built, members, args.chunk, args.axis, args.data_devices)
    compiling = train(0).compile_seconds
    ours, theirs = [], []
    for seed in range(1, REPEATS + 1):
        ours.append(train(seed).seconds)
        if alone is not None:
            began = time.perf_counter()
            alone[0](seed)
            theirs.append(time.perf_counter() - began)
    recipe, case = built.problem.recipe, built.case
    work = recipe.steps * recipe.batch
    seconds = float(np.median(ours))
    row = {"case": name, "members": members, "unit": "tokens" if case.vocab else "samples"}
    row |= {"per_second": work * case.tokens / seconds, "compile_seconds": compiling}
    row |= {"flops_per_second": 3 * built.flops * work / seconds}
    row |= {"share_of_peak": row["flops_per_second"] / most}
    if alone is not None:
        other = work * case.tokens / float(np.median(theirs))
        row |= {"loop_per_second": other, "ratio": row["per_second"] / other, "loop_compile_seconds": alone[1]}
    return row


HEADS = ("case", "N", "population/s", "loop/s", "ratio", "GFLOP/s", "of peak", "compile, s", "loop, s")


def line(row: dict) -> str:
    """A row of the printed table."""
    number = lambda key, form: format(row[key], form) if key in row else ""
    return (
        f"{row['case']:<10}{row['members']:>5}{row['per_second']:>14,.0f}{number('loop_per_second', ',.0f'):>14}"
        f"{number('ratio', '.2f'):>7}{row['flops_per_second'] / 1e9:>10,.1f}{row['share_of_peak']:>8.0%}"
        f"{row['compile_seconds']:>11.1f}{number('loop_compile_seconds', '.1f'):>9}"
    )


def heading() -> str:
    """The line above the rows."""
    return "{:<10}{:>5}{:>14}{:>14}{:>7}{:>10}{:>8}{:>11}{:>9}".format(*HEADS)
