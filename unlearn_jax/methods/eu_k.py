"""EU-k: exact unlearning of the last k groups of layers: re-initialise them and train them alone on retained data.

Goel et al. 2022 (arXiv 2201.06640). Everything before the last k groups stays bit-identical to the original, so the
features keep what they learned from the request: a cheap baseline, and a negative control for influence. Groups are the
model's top-level layers in the order in which it applies them; the head is one, but a language model's, its table of
embeddings, is the first, and the last is a norm. Batch statistics in evaluation mode;
those of re-initialised groups are a new model's too. The small-scale rate is the lowest that the catalogue's rule
allows: a new head forgets by being trained less, so its margins are low on all data; the published .01 trains it out.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from unlearn_jax.methods.support.common import BOTH, EARLIER, RATE, RULE, TUNED, MethodSpec, TrainSpec, retained_descent
from unlearn_jax.methods.support.parts import depth_order, fresh, last_groups
from unlearn_jax.population.plans import epochs_over_retained
from unlearn_jax.types import Method


def last_layers_fold(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on the retain stream that moves the last k groups alone, from where they are."""
    live = lambda trained: last_groups(problem, trained.params, static["k"])
    return retained_descent(problem, static, hp, train=False, mask=live)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """The same from a new initialisation of those groups."""
    fold = last_layers_fold(problem, static, hp)

    def init(key, variables):
        params = variables["params"]
        live = last_groups(problem, params, static["k"])
        new = fresh(problem, jax.random.fold_in(key, 1))
        mixed = jax.tree.map(lambda on, a, b: jnp.where(on > 0, b, a), live, params, new["params"])
        order = depth_order(problem.model, problem.example.shape, str(problem.example.dtype))
        inside = lambda path: any(getattr(part, "key", None) in order[-static["k"] :] for part in path)
        pick = lambda path, a, b: b if inside(path) else a
        state = jax.tree_util.tree_map_with_path(pick, variables["state"], new["state"])
        return fold.init(key, variables | {"params": mixed, "state": state})

    return Method(init, fold.update, fold.finish)


ENTRY = MethodSpec(
    name="eu_k",
    paper="Goel et al. 2022, arXiv 2201.06640 (EU-k)",
    rule="re-initialise the last k groups of layers and train them alone on the retained data",
    needs=frozenset({"retain"}),
    build=build,
    plan=epochs_over_retained,
    numeric={"lr": 0.01, "weight_decay": 5e-4},
    static={"epochs": 20, "batch": 128, "k": 1, "optimizer": "sgd", "momentum": 0.9},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 3e-4}, EARLIER),
        "small_text": ({"lr": 2e-3}, RULE),
        "small_transformer": (
            {"lr": 1e-3, "k": 2, "optimizer": "adam"},
            "ours, not tuned: a training rate; two groups, as the last one of a decoder is a norm",
        ),
        "cifar": ({"lr": 0.01, "epochs": 30}, "the rate of the comparisons; longer than CF-k, as published"),
        "language": (
            {"lr": 1e-3, "k": 2, "epochs": 10, "batch": 32, "optimizer": "adam", "weight_decay": 0.0},
            "ours: Adam at 1e-3, a training rate, as the new weights must be learned; k 2, the last block and norm",
        ),
    },
    notes="features keep the request's influence",
    reads=BOTH,
    space=(RATE,),
)
