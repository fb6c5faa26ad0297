"""Models by name, and their size and cost.

Every factory of an image model is ``factory(num_classes, input_shape, **options) -> Model`` on standardised float
inputs (B, H, W, C); parameters and logits are float32, the last linear layer is ``params["head"]``. Perceptrons take
vectors (B, D) too, ``input_shape`` being (D,). Those of language take a vocabulary's size for ``num_classes``, (T,) for
``input_shape`` and int32 tokens (B, T); a classifier of texts takes the vocabulary's size as ``vocab`` beside it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from unlearn_jax.errors import InputError, choose
from unlearn_jax.models import convnet, minilm, mlp, resnet, transformer, vit
from unlearn_jax.models.adapters import from_linen, from_nnx, standardize
from unlearn_jax.models.equinox import from_equinox
from unlearn_jax.registry import Registry, callable_with
from unlearn_jax.types import Model, Variables

MODELS: Registry = Registry(
    {
        "linear": mlp.linear,
        "mlp": mlp.mlp,
        "convnet": convnet.convnet,
        "resnet9": resnet.resnet9,
        "resnet18": resnet.resnet18,
        "vit": vit.vit,
        "decoder": transformer.decoder,
        "encoder": transformer.encoder,
        "minilm": minilm.minilm,
    },
    "model",
    "unlearn_jax.models",
    callable_with(2, (4, 4, 1)),
)
"""Name -> factory ``(num_classes, input_shape, **options) -> Model``; what you put in is run like what is built in."""
READS = {  # what a model's inputs may be, where not images alone
    "linear": ("images", "vectors"),
    "mlp": ("images", "vectors"),
    "decoder": ("language",),
    "encoder": ("tokens",),
    "minilm": ("wordpiece",),
}

__all__ = [
    "MODELS", "build_model", "count_parameters", "flops_per_example", "from_equinox", "from_linen", "from_nnx",
    "model_options", "reads", "standardize",
]  # fmt: skip


def model_options(name: str) -> dict[str, object]:
    """Option names of a model with their defaults; `InputError` for an unknown model.

    What has no default is not the user's to choose: it comes from the data.

    Example:
        >>> model_options("mlp")["widths"]
        (128, 128)
    """
    parameters = inspect.signature(MODELS[MODELS.pick(name)]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}


def reads(name: str) -> tuple[str, ...]:
    """What a model's inputs may be: as `READS` says, else the attribute ``reads`` of its factory, else images."""
    return READS.get(name) or getattr(MODELS[name], "reads", ("images",))


def build_model(
    name: str,
    num_classes: int,
    input_shape: Sequence[int],
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    vocab: int | None = None,
    **options,
) -> Model:
    """The model called ``name`` for (B, H, W, C) inputs, ``input_shape`` being (H, W, C).

    With ``mean`` and ``std`` (per channel, pixels in [0, 1]) it takes raw images, see `standardize`; without,
    floats that are standardised already. ``vocab`` is how many token numbers there are, for a model of tokens.
    ``options`` go to the factory. Raises `InputError` for an unknown name or option.

    Example:
        >>> model = build_model("mlp", 10, (8, 8, 1), widths=(64,))
    """
    valid = model_options(name)
    for option in options:
        choose(f"{name} option", option, valid)
    if (mean is None) != (std is None):
        raise InputError("mean and std go together: give both, or neither for inputs that are standardised already.")
    if "tokens" in reads(name) and vocab is None:
        raise InputError(f"model '{name}' reads tokens: give vocab, how many token numbers there are.")
    if vocab is not None:
        options["vocab"] = vocab
    model = MODELS[name](num_classes, tuple(input_shape), **options)
    return model if mean is None or std is None else standardize(model, mean=mean, std=std)


def count_parameters(variables: Variables) -> int:
    """Number of trained values (the leaves of ``params``) of one member; arrays or their abstract shapes.

    Example:
        >>> model = build_model("linear", 10, (8, 8, 1))
        >>> count_parameters(jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 8, 8, 1))))
        650
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def flops_per_example(model: Model, input_shape: Sequence[int], dtype=jnp.float32) -> float:
    """Floating-point operations of one forward pass on one example of ``input_shape`` (H, W, C).

    XLA's count for the traced program (a multiplication and an addition are two), without compiling; where
    the backend gives none, twice the number of parameters.
    """
    inputs = jax.ShapeDtypeStruct((1, *input_shape), dtype)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), inputs)
    cost = jax.jit(lambda v, x: model.apply(v, x)[0].logits).lower(variables, inputs).cost_analysis()
    flops = (cost or {}).get("flops")
    return float(flops) if flops else 2.0 * count_parameters(variables)
