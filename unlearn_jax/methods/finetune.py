"""Fine-tune: descend on the retained data only and hope that the request is forgotten on the way.

The baseline of Golatkar et al. 2020 (arXiv 1911.04933) and of most papers since; 10 epochs of SGD with momentum .9 at
.01 in the l1-sparse and SalUn comparisons. A large rate is what makes it forget. Batch statistics in training mode.
"""

from __future__ import annotations

from unlearn_jax.methods.support.common import BOTH, EARLIER, LANGUAGE, RATE, RULE, MethodSpec, retained_descent
from unlearn_jax.population.plans import epochs_over_retained

ENTRY = MethodSpec(
    name="finetune",
    paper="Golatkar et al. 2020, arXiv 1911.04933 (baseline)",
    rule="SGD on the retained data from the original weights",
    needs=frozenset({"retain"}),
    build=retained_descent,
    plan=epochs_over_retained,
    numeric={"lr": 0.1, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "optimizer": "sgd", "momentum": 0.9},
    presets={
        "small": ({}, "a third of what the rule above gives the perceptron, since .3 diverges on Fashion-MNIST"),
        "small_transformer": ({"lr": 1e-4, "optimizer": "adam"}, EARLIER),
        "small_text": ({"lr": 9e-4, "optimizer": "adam"}, RULE),
        "cifar": ({"lr": 0.01, "batch": 256}, "10 epochs of SGD at .01 in batches of 256, as in the SalUn comparison"),
        "language": LANGUAGE,
    },
    reads=BOTH,
    space=(RATE,),
)
