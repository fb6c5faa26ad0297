"""Twelve tiny language models of all families: their config.json, and weights by a rule from the tensors' names."""

import json
import zlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from unlearn_jax.models.hf.families import spec_of
from unlearn_jax.models.hf.module import abstract_params
from unlearn_jax.models.hf.tensors import leaf_of, shape_in_file, tensors_of

GOLDEN = Path(__file__).parent / "golden" / "hf_logits.npz"  # of transformers 5.24 with torch 2.13, see the slow test
VOCAB = 64
TOKENS = np.array([[5, 0, 63, 17, 2, 2, 40, 9], [0, 1, 33, 33, 7, 60, 12, 0]], np.int32)

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
    "tie_word_embeddings": False,
}
RMS, LAYER = {"rms_norm_eps": 1e-6}, {"layer_norm_eps": 1e-5}
GEMMA = SIZES | RMS | {"head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
KINDS = ["sliding_attention", "full_attention"]
CONFIGS = {
    "llama": SIZES | RMS | {"model_type": "llama", "rope_theta": 500.0, "rope_scaling": LLAMA3},
    "llama_linear": SIZES
    | RMS
    | {
        "model_type": "llama",
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
    },
    "mistral": SIZES | RMS | {"model_type": "mistral", "head_dim": 16, "sliding_window": 3, "rope_theta": 1e4},
    "qwen2": SIZES
    | RMS
    | {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 4,
        "max_window_layers": 1,
        "tie_word_embeddings": True,
        "rope_theta": 1e6,
    },
    "qwen3": SIZES | RMS | {"model_type": "qwen3", "head_dim": 16, "rope_parameters": {"rope_theta": 1e6}},
    "gemma": GEMMA | {"model_type": "gemma", "num_key_value_heads": 1, "hidden_act": "gelu_pytorch_tanh"},
    "gemma2": GEMMA
    | {
        "model_type": "gemma2",
        "sliding_window": 3,
        "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
    },
    "gemma3": GEMMA
    | {
        "model_type": "gemma3_text",
        "sliding_window": 3,
        "layer_types": KINDS,
        "query_pre_attn_scalar": 16,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "phi": SIZES
    | LAYER
    | {"model_type": "phi", "num_key_value_heads": 4, "hidden_act": "gelu_new", "partial_rotary_factor": 0.5},
    "phi3": SIZES | RMS | {"model_type": "phi3", "partial_rotary_factor": 0.5, "sliding_window": 5},
    "gpt2": {
        "model_type": "gpt2",
        "vocab_size": VOCAB,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "layer_norm_epsilon": 1e-5,
        "activation_function": "gelu_new",
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "gpt_neox": SIZES | LAYER | {"model_type": "gpt_neox", "hidden_act": "gelu", "rotary_pct": 0.25},
}


def weights(config: dict) -> dict[str, np.ndarray]:
    """Tensors by their names in the file: draws seeded by the name; scales of norms are near what leaves x as it is."""
    spec = spec_of(config)
    params = abstract_params(spec, jnp.float32)
    found = {}
    for tensor in tensors_of(spec, params):
        shape = shape_in_file(tensor, [leaf_of(params, path).shape for path in tensor.parts])
        draw = np.random.default_rng(zlib.crc32(tensor.name.encode())).normal(size=shape)
        centre = 1.0 if tensor.parts[0][-1] == "scale" and spec.norm != "rms_plus_one" else 0.0
        found[tensor.name] = np.float32(centre + 0.2 * draw)
    return found


def write(folder: Path, name: str, shards: int = 1, **changes) -> Path:
    """The folder of a tiny model, in as many files as asked."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIGS[name] | changes
    (folder / "config.json").write_text(json.dumps(config))
    tensors = weights(config)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return folder
    where = {tensor: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, tensor in enumerate(tensors)}
    for file in set(where.values()):
        save_file({t: tensors[t] for t, f in where.items() if f == file}, folder / file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder
