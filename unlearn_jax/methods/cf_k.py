"""CF-k: catastrophic forgetting of the last k groups of layers: fine-tune them alone on retained data.

Goel et al. 2022 (arXiv 2201.06640). As EU-k, from the original weights of those groups. Batch statistics in evaluation
mode, so that all before them stays bit-identical.
"""

from __future__ import annotations

from unlearn_jax.methods.eu_k import last_layers_fold
from unlearn_jax.methods.support.common import BOTH, LANGUAGE, RATE, RULE, TUNED, MethodSpec
from unlearn_jax.population.plans import epochs_over_retained

ENTRY = MethodSpec(
    name="cf_k",
    paper="Goel et al. 2022, arXiv 2201.06640 (CF-k)",
    rule="fine-tune the last k groups of layers alone on the retained data",
    needs=frozenset({"retain"}),
    build=last_layers_fold,
    plan=epochs_over_retained,
    numeric={"lr": 0.3, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "k": 1, "optimizer": "sgd", "momentum": 0.9},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_transformer": (
            {"lr": 1e-3, "k": 2, "optimizer": "adam"},
            "ours, not tuned: a training rate; two groups, as the last one of a decoder is a norm",
        ),
        "small_text": ({"lr": 0.03}, RULE),
        "cifar": ({"lr": 0.01, "batch": 256}, "as for fine-tuning in the SalUn comparison"),
        "language": (LANGUAGE[0] | {"k": 2}, LANGUAGE[1] + "; k 2, the last block and the norm behind it"),
    },
    notes="features keep the request's influence",
    reads=BOTH,
    space=(RATE,),
)
