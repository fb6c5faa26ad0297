"""What a causal language model consists of: the frozen specification that a ``config.json`` is turned into."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple


class Rope(NamedTuple):
    """Rotary positions of one block [Su et al., 2021, arXiv 2104.09864]."""

    theta: float
    scaling: str = "default"  # default | linear | llama3
    factor: float = 1.0
    low: float = 1.0  # llama3: wavelengths above original / low are divided by the factor,
    high: float = 4.0  # those below original / high are left alone
    original: int = 8192


@dataclasses.dataclass(frozen=True)
class Spec:
    """Sizes and variants of one model; hashable."""

    family: str  # model_type of config.json
    vocab: int
    width: int
    depth: int
    heads: int
    kv_heads: int  # groups of queries share keys and values
    head_dim: int
    inner: int  # of the MLP
    context: int  # most positions that it was trained for
    norm: str = "rms"  # rms | rms_plus_one (Gemma: times 1 + scale) | layer
    eps: float = 1e-6
    activation: str = "silu"  # silu | gelu | gelu_tanh
    gated: bool = True  # MLP with a gate
    biases: frozenset[str] = frozenset()  # of qkv, out, mlp, head
    tied: bool = False  # the embedding table is the output layer
    qk_norm: bool = False  # norms of queries and keys
    sandwich: bool = False  # norms after attention and MLP too
    parallel: str = "no"  # attention and MLP read the same stream: no | one_norm | two_norms
    learned_positions: bool = False  # a table of ``context`` positions instead of rotary ones
    rotary: int = 0  # coordinates of a head that are turned
    ropes: tuple[Rope, ...] = ()  # by block
    windows: tuple[int, ...] = ()  # by block: how many positions are seen, 0 = all
    scale: float = 1.0  # of the products of queries and keys
    embed_scale: float = 1.0
    attention_cap: float = 0.0  # soft cap, 0 = none
    logit_cap: float = 0.0
