"""The numeric core needs jax, flax, optax, numpy and jaxtyping, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy

PROGRAM = """
import sys
from importlib import metadata

import flax.linen, flax.nnx, jax, optax  # flax itself needs rich; what it has imported is taken away again below

missing = "tyro tensorflow_datasets matplotlib sklearn scipy pyarrow rich orbax PIL beartype"
for name in missing.split():
    sys.modules[name] = None  # importing it now raises ImportError
entry_points, metadata.entry_points = metadata.entry_points, None  # importing the library calls it not

import jax.numpy as jnp
import numpy as np

import unlearn_jax
import unlearn_jax.data.sources.prepare
import unlearn_jax.metrics
import unlearn_jax.models
import unlearn_jax.population.run as run
from unlearn_jax.methods import TrainSpec, prepare
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.population.evaluate import evaluate
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.tasks import classification

assert next(iter(unlearn_jax.METHODS)) == "do_nothing"
metadata.entry_points = entry_points
model = unlearn_jax.models.build_model("linear", 3, (2, 2, 1))
example = jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.float32)
fold, plan, hp = prepare("retrain", TrainSpec(model, classification(), example, 3, Recipe(steps=2, batch=4)))
data = run.Stored(jnp.ones((6, 2, 2, 1)), jnp.arange(6) % 3)
hp = {name: np.full(2, value) for name, value in hp.items()}
found = run.run_population(fold, plan, data, make_tables([np.arange(6)] * 2), member_keys(0, "a", 2), {}, hp=hp)
margin = evaluate(model, classification(), found.variables, data, width=2).margin
assert np.isfinite(found.loss[:, [0, 32]]).all() and np.isfinite(margin).all()
linear, x, y = (lambda w, x: x.reshape(len(x), -1) @ w), np.ones((6, 2, 2, 1), np.float32), np.arange(6) % 3
new = unlearn_jax.unlearn(linear, np.ones((4, 3)), forget=(x[:2], y[:2]), retain=(x[2:] + 1, y[2:]), epochs=3)
assert np.isfinite(new).all()
print("trained", found.loss.shape)
"""


def test_the_numeric_core_trains_without_the_other_packages():
    root = Path(__file__).parents[1]
    quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    environment = os.environ | {"PYTHONPATH": str(root), "XLA_FLAGS": quick, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "trained (2, 64)"


@pytest.mark.parametrize(("words", "level"), toy.some([(["--coordinator=host:1"], "3"), ([], "1")], 1))
def test_a_run_of_several_processes_settles_what_c_plus_plus_says_before_jax_is_loaded(words, level):
    """JAX sets a level of its own where there is none yet, and jaxlib reads it once."""
    program = "import sys, os; import unlearn_jax; print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "JAX_PLATFORMS": "cpu"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.strip() == level  # JAX's own is 1
