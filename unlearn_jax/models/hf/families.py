"""``config.json`` of the supported families -> `Spec`, in the forms of transformers 4 and 5."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from unlearn_jax.errors import InputError, choose
from unlearn_jax.models.hf.spec import Rope, Spec

ACTIVATIONS = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
SLIDING, FULL = "sliding_attention", "full_attention"


class Config(dict):
    """The entries of a ``config.json``; an entry that is needed and missing is an `InputError`."""

    def __missing__(self, name: str):
        raise InputError(f"config.json has no entry '{name}', which a {self.get('model_type')} model needs.")


def read_config(folder: str | Path) -> Config:
    """The entries of ``folder/config.json``."""
    path = Path(folder).expanduser() / "config.json"
    if not path.is_file():
        raise InputError(f"there is no config.json in '{folder}': give the folder of a Hugging Face model.")
    try:
        found = json.loads(path.read_text())
    except ValueError:
        raise InputError(f"'{path}' is not JSON: get the model's files afresh.") from None
    if not isinstance(found, dict):
        raise InputError(f"'{path}' is not a JSON object: get the model's files afresh.")
    return Config(found)


def spec_of(config: dict[str, Any]) -> Spec:
    """The specification of a model; `InputError` names a family, scaling or variant that is not supported."""
    config = Config(config)
    make = FAMILIES[choose("model family", config["model_type"], FAMILIES)]
    if config.get("quantization_config"):
        raise InputError("config.json says that the weights are quantized: give a folder of plain weights.")
    return make(config)


def _common(config: Config) -> Spec:
    """What all families but GPT-2 say under the same names."""
    width, heads, depth = config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]
    head_dim = config.get("head_dim") or width // heads
    kinds = config.get("layer_types") or [FULL] * depth
    ropes = tuple(_rope(config, kind) for kind in kinds)
    eps = config.get("rms_norm_eps", config.get("layer_norm_eps", config.get("layer_norm_epsilon", 1e-5)))
    return Spec(
        config["model_type"],
        config["vocab_size"],
        width,
        depth,
        heads,
        config.get("num_key_value_heads") or heads,
        head_dim,
        config["intermediate_size"],
        config["max_position_embeddings"],
        eps=eps,
        activation=_activation(config.get("hidden_activation") or config["hidden_act"]),
        tied=config.get("tie_word_embeddings", False),
        rotary=int(head_dim * _partial(config)),
        ropes=ropes,
        windows=tuple((config.get("sliding_window") or 0) if kind == SLIDING else 0 for kind in kinds),
        scale=head_dim**-0.5,
    )


def _activation(name: str) -> str:
    return ACTIVATIONS[choose("activation", name, ACTIVATIONS)]


def _partial(config: Config) -> float:
    """The share of a head's coordinates that are turned."""
    rope = config.get("rope_parameters") or {}
    default = config.get("partial_rotary_factor", config.get("rotary_pct", 1.0))
    return rope.get("partial_rotary_factor", default)


def _rope(config: Config, kind: str) -> Rope:
    """Rotary positions of a block with attention of this kind."""
    entries = config.get("rope_parameters")
    if entries is None:  # as transformers 4 writes it
        theta = config.get("rope_theta", config.get("rotary_emb_base", 1e4))
        entries = {"rope_theta": theta, **(config.get("rope_scaling") or {})}
        if kind == SLIDING and config["model_type"] == "gemma3_text":
            entries = {"rope_theta": config.get("rope_local_base_freq", 1e4)}
    entries = Config(entries.get(kind, entries) | {"model_type": config["model_type"]})
    scaling = entries.get("rope_type", entries.get("type", "default"))
    theta = float(entries["rope_theta"])
    if scaling == "default":
        return Rope(theta)
    if scaling == "linear":
        return Rope(theta, scaling, float(entries["factor"]))
    if scaling == "llama3":
        names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        return Rope(theta, scaling, *(entries[name] for name in names))
    raise InputError(f"rope scaling '{scaling}' is not supported: give a model with default, linear or llama3 scaling.")


def _by_default(config: Config, **defaults) -> Config:
    return Config(defaults | config)


def _llama(config: Config) -> Spec:
    """Llama, Mistral and Phi-3; the last two may see a window in every block."""
    spec = _common(config)
    window = 0 if spec.family == "llama" else config.get("sliding_window") or 0
    biases = {"qkv", "out"} if config.get("attention_bias") else set()
    biases |= {"mlp"} if config.get("mlp_bias") else set()
    return replace(spec, windows=(window,) * spec.depth, biases=frozenset(biases))


def _qwen(config: Config) -> Spec:
    """Qwen2, with biases of queries, keys and values, and Qwen3, with norms of queries and keys."""
    family, depth = config["model_type"], config["num_hidden_layers"]
    if not config.get("use_sliding_window"):
        config = Config(config | {"layer_types": None})
    elif not config.get("layer_types"):
        first = config["max_window_layers"]
        config = Config(config | {"layer_types": [SLIDING if i >= first else FULL for i in range(depth)]})
    spec = _common(_by_default(config, head_dim=128) if family == "qwen3" else config)
    if family == "qwen2":
        return replace(spec, biases=frozenset({"qkv"}))
    return replace(spec, qk_norm=True, biases=frozenset({"qkv", "out"} if config.get("attention_bias") else ()))


def _gemma(config: Config) -> Spec:
    """Gemma 1; the embedding is scaled and the norms multiply by 1 + scale."""
    spec = _common(_by_default(config, head_dim=256, tie_word_embeddings=True))
    biases = frozenset({"qkv", "out"} if config.get("attention_bias") else ())
    return replace(spec, norm="rms_plus_one", embed_scale=spec.width**0.5, biases=biases)


def _gemma_with_windows(config: Config, *, pattern: int) -> Spec:
    """Gemma 2 and 3: norms after the layers, soft caps, every ``pattern``-th block sees everything."""
    pattern, depth = config.get("sliding_window_pattern") or pattern, config["num_hidden_layers"]
    kinds = [SLIDING if (i + 1) % pattern else FULL for i in range(depth)]
    config = Config(config | {"layer_types": config.get("layer_types") or kinds})
    if config.get("use_bidirectional_attention"):
        raise InputError("config.json asks for attention in both directions: give a causal language model.")
    return replace(
        _gemma(_by_default(config, sliding_window=4096)),
        sandwich=True,
        qk_norm=config["model_type"] == "gemma3_text",
        scale=config.get("query_pre_attn_scalar", 256) ** -0.5,
        attention_cap=config.get("attn_logit_softcapping") or 0.0,
        logit_cap=config.get("final_logit_softcapping") or 0.0,
    )


def _phi(config: Config) -> Spec:
    """Phi-1, 1.5 and 2: attention and MLP read one norm, and everything has a bias."""
    if config.get("qk_layernorm"):
        raise InputError("a phi model with qk_layernorm is not supported: give one without.")
    spec = _common(_by_default(config, partial_rotary_factor=0.5))
    biases = frozenset({"qkv", "out", "mlp", "head"})
    return replace(spec, norm="layer", gated=False, parallel="one_norm", biases=biases)


def _neox(config: Config) -> Spec:
    """GPT-NeoX and Pythia: attention and MLP read a norm each of the same stream."""
    spec = _common(_by_default(config, rotary_pct=0.25))
    biases = frozenset({"qkv", "out", "mlp"} if config.get("attention_bias", True) else {"mlp"})
    parallel = "two_norms" if config.get("use_parallel_residual", True) else "no"
    return replace(spec, kv_heads=spec.heads, norm="layer", gated=False, parallel=parallel, biases=biases)


def _gpt2(config: Config) -> Spec:
    """GPT-2: a table of positions, everything with a bias but the tied output layer."""
    if not config.get("scale_attn_weights", True) or config.get("scale_attn_by_inverse_layer_idx"):
        raise InputError("a gpt2 model that scales attention by block or not at all is not supported.")
    width, heads, depth = config["n_embd"], config["n_head"], config["n_layer"]
    return Spec(
        "gpt2",
        config["vocab_size"],
        width,
        depth,
        heads,
        heads,
        width // heads,
        config.get("n_inner") or 4 * width,
        config["n_positions"],
        norm="layer",
        eps=config.get("layer_norm_epsilon", 1e-5),
        activation=_activation(config.get("activation_function", "gelu_new")),
        gated=False,
        biases=frozenset({"qkv", "out", "mlp"}),
        tied=config.get("tie_word_embeddings", True),
        learned_positions=True,
        windows=(0,) * depth,
        scale=(width // heads) ** -0.5,
    )


FAMILIES: dict[str, Callable[[Config], Spec]] = {
    "llama": _llama,
    "mistral": _llama,
    "phi3": _llama,
    "qwen2": _qwen,
    "qwen3": _qwen,
    "gemma": _gemma,
    "gemma2": partial(_gemma_with_windows, pattern=2),
    "gemma3_text": partial(_gemma_with_windows, pattern=6),
    "phi": _phi,
    "gpt2": _gpt2,
    "gpt_neox": _neox,
}
"""``model_type`` of a config.json -> what makes a `Spec` of it."""
