"""How fast a population trains, beside a plain loop of separate jitted trainings.

    python experiments/bench.py                       # MLP on 8x8 digits and a small ConvNet, N = 1, 8, 32, 128
    python experiments/bench.py --models resnet9 --members 1,32 --steps 50
    python experiments/bench.py --audits              # how long the metrics take, on random margins
    python experiments/bench.py --influence           # how long the influence estimators take, on one core
    python experiments/bench.py --neighbours          # how long exact nearest neighbours of 50,000 rows take

Both train the same networks with the same optimizer on the same kind of batches: the loop calls one jitted training
function (all steps inside one compiled loop) once per model; the population is `run_population`. Compile time is
printed apart. The loop's time is measured on at most 8 trainings and given per training.

Cost: about 3 minutes on 2 CPU cores. It should reach, on 2 cores, 1.8 times the loop's model-samples per second from
N = 8 on for the MLP (docs/performance.md has the measured table).
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import _bench_audits
import _bench_influence
import _bench_neighbours
import tyro
from _cli import guarded, use_every_core

INPUTS = {
    "mlp": (8, 8, 1),
    "linear": (8, 8, 1),
    "convnet": (28, 28, 1),
    "resnet9": (32, 32, 3),
    "resnet18": (32, 32, 3),
}
EXAMPLES = 2048
REPEATS = 3


@dataclass(frozen=True)
class Args:
    """Model-samples per second of populations and of a plain loop."""

    models: str = "mlp,convnet"
    """registered models, with commas"""
    members: str = "1,8,32,128"
    """population sizes, with commas"""
    steps: int = 0
    """updates of each training; 0 = 300 for mlp, 4 for others"""
    batch: int = 128
    """batch size"""
    dtype: str = "float32"
    """compute dtype: float32 or bfloat16"""
    chunk: int = 0
    """members in one program; 0 = by backend"""
    axis: str = "auto"
    """vmap, map or auto"""
    audits: bool = False
    """measure the metrics of the audits instead"""
    influence: bool = False
    """measure the influence estimators instead, on one core"""
    neighbours: bool = False
    """measure the search for nearest neighbours instead, on one device"""
    json: Path | None = None
    """also write the rows to this file"""


def run(args: Args) -> None:
    """Measure and print a table."""
    from unlearn_jax.records import environment, write_json

    sizes = checked(args)
    if args.influence:
        _bench_influence.one_core()
    elif not args.neighbours:
        use_every_core()
    where = environment()
    print(f"{where['device']}, {where['devices']} JAX devices, jax {where['versions']['jax']}", end="")
    print(f"; median of {_bench_influence.REPEATS if args.influence else REPEATS}")
    if args.audits or args.influence or args.neighbours:
        asked = _bench_influence if args.influence else _bench_neighbours if args.neighbours else _bench_audits
        rows = asked.measure()
        if args.json:
            write_json(args.json, where | {"rows": rows})
        return
    print(f"{'model':<9} {'N':>4} {'population':>12} {'loop':>12} {'ratio':>6}  {'compile':>8} {'compile loop':>12}")
    print(f"{'':<9} {'':>4} {'samples/s':>12} {'samples/s':>12} {'':>6}  {'s':>8} {'s':>12}")
    rows = []
    for model in args.models.split(","):
        loop = None
        for members in sizes:
            problem, data = make_problem(model.strip(), args)
            loop = loop or measure_loop(problem, data)
            speed, compiling = measure_population(problem, data, members, args)
            row = {"model": model, "members": members, "samples_per_second": speed, "compile_seconds": compiling}
            rows.append(row | {"loop_samples_per_second": loop[0], "loop_compile_seconds": loop[1]})
            print(f"{model:<9} {members:>4} {speed:>12,.0f} {loop[0]:>12,.0f} {speed / loop[0]:>6.2f}  ", end="")
            print(f"{compiling:>8.1f} {loop[1]:>12.1f}", flush=True)
    if args.json:
        write_json(args.json, where | {"rows": rows})


def checked(args: Args) -> list[int]:
    """The population sizes, if everything asked can be followed; nothing is measured before."""
    from unlearn_jax.errors import InputError, choose
    from unlearn_jax.models import MODELS
    from unlearn_jax.population.checkpoint import check_writable
    from unlearn_jax.settings import numbers

    for name in args.models.split(","):
        choose("model", name.strip(), MODELS)
    sizes = numbers(args.members, "members")
    if not sizes or min(sizes) < 1:
        raise InputError(f"--members is '{args.members}': give population sizes of at least 1, such as 1,8.")
    choose("axis", args.axis, ("auto", "vmap", "map"))
    for name, least in (("steps", 0), ("chunk", 0), ("batch", 1)):
        if getattr(args, name) < least:
            raise InputError(f"--{name} is {getattr(args, name)}: give at least {least}.")
    if args.json:
        check_writable(args.json.parent, "--json", keep=False)
    return sizes


def make_problem(name: str, args: Args):
    """Model, recipe and random images."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from unlearn_jax.methods import Problem
    from unlearn_jax.methods.common import Recipe
    from unlearn_jax.models import build_model
    from unlearn_jax.population.run import Stored
    from unlearn_jax.tasks import classification

    shape = INPUTS.get(name, (32, 32, 3))
    model = build_model(name, 10, shape, mean=(0.5,) * shape[-1], std=(0.25,) * shape[-1], dtype=args.dtype)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (EXAMPLES, *shape), np.uint8)
    data = Stored(jnp.asarray(pixels), jnp.asarray(rng.integers(0, 10, EXAMPLES), jnp.int32))
    steps = args.steps or (300 if name in ("mlp", "linear") else 4)
    example = jax.ShapeDtypeStruct((1, *shape), jnp.uint8)
    return Problem(model, classification(), example, 10, Recipe(steps=steps, batch=args.batch)), data


def measure_population(problem, data, members: int, args: Args) -> tuple[float, float]:
    """Model-samples per second after compilation, and seconds of compilation."""
    import numpy as np

    from unlearn_jax.methods import prepare
    from unlearn_jax.models import flops_per_example
    from unlearn_jax.population.members import make_tables, member_keys
    from unlearn_jax.population.run import Options, run_population
    from unlearn_jax.population.sharding import choose_axis

    fold, plan, hp = prepare("retrain", problem)
    axis = args.axis
    if axis == "auto":
        axis = choose_axis(flops_per_example(problem.model, problem.example.shape[1:], "uint8"))
    tables = make_tables([np.arange(EXAMPLES, dtype=np.int32)] * members)
    call = lambda seed: run_population(
        fold, plan, data, tables, member_keys(seed, "bench", members), {},
        hp={k: np.full(members, v) for k, v in hp.items()}, options=Options(chunk=args.chunk, axis=axis),
    )  # fmt: skip
    compiling = call(0).compile_seconds
    seconds = np.median([call(seed).seconds for seed in range(1, REPEATS + 1)])
    return problem.recipe.steps * problem.recipe.batch / seconds, compiling


def measure_loop(problem, data) -> tuple[float, float]:
    """The same for separate trainings, one jitted function called once per model."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    model, recipe, task = problem.model, problem.recipe, problem.task
    from unlearn_jax.types import Batch

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
    compiling, times = time.perf_counter() - began, []
    for seed in range(1, 9):
        began = time.perf_counter()
        jax.block_until_ready(compiled(jax.random.key(seed)))
        times.append(time.perf_counter() - began)
    return recipe.steps * recipe.batch / float(np.median(times)), compiling


if __name__ == "__main__":
    parsed = tyro.cli(Args, description=__doc__)
    sys.exit(guarded(lambda: run(parsed)))
