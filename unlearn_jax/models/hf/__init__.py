"""Causal language models from folders of Hugging Face weights: loading, decoding, losses, saving."""

from unlearn_jax.models.hf.decode import cached_hf, end_tokens
from unlearn_jax.models.hf.families import FAMILIES, read_config, spec_of
from unlearn_jax.models.hf.load import HFModel, load_hf, make_model
from unlearn_jax.models.hf.loss import Head, chunked_cross_entropy, chunked_logprob, head_of
from unlearn_jax.models.hf.module import NO_TOKEN
from unlearn_jax.models.hf.placing import sharded
from unlearn_jax.models.hf.save import save_hf, save_peft
from unlearn_jax.models.hf.spec import Rope, Spec

__all__ = [
    "FAMILIES",
    "NO_TOKEN",
    "HFModel",
    "Head",
    "Rope",
    "Spec",
    "cached_hf",
    "chunked_cross_entropy",
    "chunked_logprob",
    "end_tokens",
    "head_of",
    "load_hf",
    "make_model",
    "read_config",
    "save_hf",
    "save_peft",
    "sharded",
    "spec_of",
]
