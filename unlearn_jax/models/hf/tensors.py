"""Which tensors of a file a model's parameters are: one table by family, read for loading and for saving.

A file holds a layer's weight as (out, in) where Linen holds (in, out), and some families keep several layers in one
tensor: GPT-2, GPT-NeoX and Phi-3 queries, keys and values, Phi-3 gate and up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.models.hf.spec import Spec
from unlearn_jax.types import PyTree

Path = tuple[str, ...]
QKV = ("attention/q", "attention/k", "attention/v")


class Names(NamedTuple):
    """A family's names in files, with the modules that they are; those of a block follow ``block``."""

    embed: str
    norm: str
    head: str
    block: str
    dense: dict[str, tuple[str, ...]]
    norms: dict[str, str]
    positions: str = ""
    transposed: bool = True  # weights are (out, in)
    by_head: str = ""  # the layer whose outputs are ordered by head, then query, key, value


class Tensor(NamedTuple):
    """A tensor in a file, and the parameters that are joined in it along their last axis."""

    name: str
    parts: tuple[Path, ...]
    transposed: bool = False
    heads: int = 0  # not 0: the last axis goes by head, then by part


ATTENTION = {f"self_attn.{name}_proj": (f"attention/{name}",) for name in "qkv"}
MLP = {f"mlp.{name}_proj": (f"mlp/{name}",) for name in ("gate", "up", "down")}
LLAMA = Names(
    "model.embed_tokens",
    "model.norm",
    "lm_head",
    "model.layers.{}.",
    ATTENTION | {"self_attn.o_proj": ("attention/out",)} | MLP,
    {
        "input_layernorm": "norm1",
        "post_attention_layernorm": "norm2",
        "self_attn.q_norm": "attention/q_norm",
        "self_attn.k_norm": "attention/k_norm",
    },
)
AROUND = {  # of Gemma 2 and 3
    "post_attention_layernorm": "after1",
    "pre_feedforward_layernorm": "norm2",
    "post_feedforward_layernorm": "after2",
}
FAMILY_NAMES = {
    "gemma2": LLAMA._replace(norms=LLAMA.norms | AROUND),
    "gemma3_text": LLAMA._replace(norms=LLAMA.norms | AROUND),
    "phi3": LLAMA._replace(
        dense={
            "self_attn.qkv_proj": QKV,
            "self_attn.o_proj": ("attention/out",),
            "mlp.gate_up_proj": ("mlp/gate", "mlp/up"),
            "mlp.down_proj": ("mlp/down",),
        }
    ),
    "phi": LLAMA._replace(
        norm="model.final_layernorm",
        dense=ATTENTION | {"self_attn.dense": ("attention/out",), "mlp.fc1": ("mlp/up",), "mlp.fc2": ("mlp/down",)},
        norms={"input_layernorm": "norm1"},
    ),
    "gpt2": Names(
        "transformer.wte",
        "transformer.ln_f",
        "lm_head",
        "transformer.h.{}.",
        {
            "attn.c_attn": QKV,
            "attn.c_proj": ("attention/out",),
            "mlp.c_fc": ("mlp/up",),
            "mlp.c_proj": ("mlp/down",),
        },
        {"ln_1": "norm1", "ln_2": "norm2"},
        positions="transformer.wpe",
        transposed=False,
    ),
    "gpt_neox": Names(
        "gpt_neox.embed_in",
        "gpt_neox.final_layer_norm",
        "embed_out",
        "gpt_neox.layers.{}.",
        {
            "attention.query_key_value": QKV,
            "attention.dense": ("attention/out",),
            "mlp.dense_h_to_4h": ("mlp/up",),
            "mlp.dense_4h_to_h": ("mlp/down",),
        },
        {"input_layernorm": "norm1", "post_attention_layernorm": "norm2"},
        by_head="attention.query_key_value",
    ),
}
ALIASES = {"embed_out.weight": "lm_head.weight"}  # other names under which a file may hold a tensor


def tensors_of(spec: Spec, params: PyTree) -> list[Tensor]:
    """The tensors of a model's file; ``params`` are its parameters or their shapes."""
    names = FAMILY_NAMES.get(spec.family, LLAMA)
    found = [Tensor(f"{names.embed}.weight", (("embed",),))]
    if names.positions:
        found.append(Tensor(f"{names.positions}.weight", (("positions",),)))
    for i in range(spec.depth):
        at, block = names.block.format(i), f"block{i}/"
        for name, modules in names.dense.items():
            heads = spec.heads if name == names.by_head else 0
            found += _layer(params, at + name, [block + m for m in modules], names.transposed, heads)
        for name, module in names.norms.items():
            found += _layer(params, at + name, [block + module])
    found += _layer(params, names.norm, ["norm"])
    return found + _layer(params, names.head, ["head"], True)


def _layer(params, name: str, modules: Sequence[str], transposed: bool = False, heads: int = 0) -> list[Tensor]:
    """The tensors of a dense layer or a norm that the model has."""
    paths, found = [tuple(module.split("/")) for module in modules], []
    for leaf, theirs in (("kernel", "weight"), ("scale", "weight"), ("bias", "bias")):
        parts = tuple((*path, leaf) for path in paths)
        if all(leaf_of(params, part) is not None for part in parts):
            found.append(Tensor(f"{name}.{theirs}", parts, transposed and leaf == "kernel", heads))
    return found


def leaf_of(params: PyTree, path: Path):
    """What nested dicts hold at a path, None where nothing."""
    for name in path:
        params = params.get(name) if isinstance(params, dict) else None
    return params


def shape_in_file(tensor: Tensor, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape of a tensor whose parts have these shapes."""
    shape = (*shapes[0][:-1], sum(shape[-1] for shape in shapes))
    return shape[::-1] if tensor.transposed else shape


def split(tensor: Tensor, array: np.ndarray, widths: Sequence[int]) -> list[np.ndarray]:
    """The parts of a tensor, of these widths along their last axis."""
    array = array.T if tensor.transposed else array
    if tensor.heads:
        apart = array.reshape(*array.shape[:-1], tensor.heads, len(widths), -1)
        array = np.moveaxis(apart, -2, -3).reshape(array.shape)
    return np.split(array, np.cumsum(widths)[:-1], axis=-1)


def join(tensor: Tensor, parts: Sequence[np.ndarray]) -> np.ndarray:
    """The tensor of its parts, the inverse of `split`."""
    array = np.concatenate(parts, axis=-1)
    if tensor.heads:
        apart = array.reshape(*array.shape[:-1], len(parts), tensor.heads, -1)
        array = np.moveaxis(apart, -3, -2).reshape(array.shape)
    return np.ascontiguousarray(array.T if tensor.transposed else array)


def check_complete(tensors: Sequence[Tensor], paths: set[Path]) -> None:
    """Raise `InputError` where parameters are in no tensor of the family's files."""
    missing = paths - {part for tensor in tensors for part in tensor.parts}
    if missing:
        raise InputError(f"files of this family have no tensor for {'/'.join(min(missing))}: its names differ.")
