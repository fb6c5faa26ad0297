"""A folder of a Hugging Face model -> `Model` and variables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.models.adapters import from_linen
from unlearn_jax.models.hf.families import read_config, spec_of
from unlearn_jax.models.hf.folder import open_tensors
from unlearn_jax.models.hf.module import Causal, abstract_params
from unlearn_jax.models.hf.spec import Spec
from unlearn_jax.models.hf.tensors import check_complete, leaf_of, shape_in_file, split, tensors_of
from unlearn_jax.models.layers import compute_dtype
from unlearn_jax.types import Model, Variables


class HFModel(Model):
    """A `Model` that knows its Linen module and where it came from."""

    module: Causal
    config: dict[str, Any]  # of config.json
    folder: Path | None  # None = of no folder

    @property
    def spec(self) -> Spec:
        """Sizes and variants."""
        return self.module.spec


def make_model(
    config: dict[str, Any], folder: Path | None = None, *, dtype: str = "float32", remat: bool = False
) -> HFModel:
    """The model that the entries of a ``config.json`` describe; nothing else is read.

    ``init`` draws parameters at random. The arguments are those of `load_hf`.
    """
    module = Causal(spec_of(config), compute_dtype(dtype), remat)
    model = HFModel(*from_linen(module))
    model.module, model.config, model.folder = module, dict(config), folder
    return model


def load_hf(
    folder: str | Path,
    dtype: str = "float32",
    *,
    remat: bool = False,
    place: Callable[[tuple[str, ...], np.ndarray], Any] = lambda path, array: jnp.asarray(array),
) -> tuple[HFModel, Variables]:
    """The causal language model in a folder with ``config.json`` and safetensors files, sharded or not.

    Families: Llama, Mistral, Qwen2, Qwen3, Gemma 1, 2 and 3 (text), Phi 1 to 3, GPT-2, GPT-NeoX (Pythia).
    ``model.apply(variables, tokens)[0]`` are `Outputs` of int32 tokens (B, T): ``logits`` (B, T, V) float32, of which
    position t predicts token t + 1; ``features`` (B, D), the mean of the last normed states over the text's tokens;
    ``hidden`` ``block0``, ... (B, T, D), the stream after each block, and ``norm``, the last normed states. Rows are
    filled up at the end with -1 (`NO_TOKEN`), so that every number of the vocabulary, 0 included, is a token. Dense
    layers are Linen's: `lora.lora` adapts those of ``attention``, ``mlp``, ``mlp/gate``, ``attention/q``, ...

    Args:
        folder: of the model.
        dtype: of parameters and activations, "float32" or "bfloat16"; statistics of norms, softmax and logits are
            float32. Tensors are read and converted one at a time.
        remat: whether each block is computed again in the backward pass, so that its inside is not kept.
        place: puts the parameter at a path, a NumPy array, where it is to be; `placing.sharded` lays it on a mesh.

    Returns:
        The model and its variables, ``{"params", "state": {}}``.

    Raises:
        InputError: no such folder, a family, scaling or variant that is not supported, a shard or tensor that is
            missing, or one of another shape.

    Example:
        >>> model, variables = load_hf("models/smollm2")  # doctest: +SKIP
        >>> model.apply(variables, jnp.array([[504, 3575, 282]]))[0].logits.shape  # doctest: +SKIP
        (1, 3, 49152)
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"there is no folder '{folder}': give the folder of a Hugging Face model.")
    model = make_model(read_config(folder), folder, dtype=dtype, remat=remat)
    dtype_ = compute_dtype(dtype)
    shapes, stored = abstract_params(model.spec, dtype_), open_tensors(folder)
    tensors, params = tensors_of(model.spec, shapes), {}
    check_complete(tensors, {tuple(p.key for p in path) for path, _ in jax.tree.flatten_with_path(shapes)[0]})
    for tensor in tensors:
        parts = [leaf_of(shapes, path).shape for path in tensor.parts]
        array = stored.read(tensor.name, shape_in_file(tensor, parts))
        for path, part in zip(tensor.parts, split(tensor, array, [shape[-1] for shape in parts])):
            put(params, path, place(path, np.ascontiguousarray(part.astype(dtype_))))
    return model, {"params": params, "state": {}}


def put(tree: dict, path: tuple[str, ...], value) -> None:
    """Set the entry of nested dicts at a path."""
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
