"""The shapes that every part of the library agrees on; no logic lives here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
PyTree = Any
NOT_ANSWER = -1  # language: target of a position whose next token is prompt or padding
Variables = dict[str, PyTree]  # {"params", "state"} and, where members share weights, "shared"


class Outputs(NamedTuple):
    """What a model computes for a batch of B inputs."""

    logits: Array  # (B, K); language: (B, T, V), those at a position are of the next token
    features: Array  # (B, D), the penultimate representation
    hidden: dict[str, Array] | None = None  # named intermediate values, on request


class Model(NamedTuple):
    """Two pure functions; closed over by the programs that use them and never vmapped.

    ``init(key, inputs) -> variables`` and
    ``apply(variables, inputs, key=None, train=False) -> (Outputs, new_state)``, where ``variables`` is a dict
    with ``params`` (trained), ``state`` (running statistics, ``{}`` where there are none) and optionally
    ``shared`` (no member axis: a frozen base, or under ``start`` where new initialisations begin) and ``inputs`` is
    (B, ...).
    """

    init: Callable[..., Variables]
    apply: Callable[..., tuple[Outputs, PyTree]]


class Task(NamedTuple):
    """Per-example quantities of (logits, batch), each (B,); what makes vision and language one interface.

    Classification has logits (B, K) and targets (B,); language has logits (B, T, V) and targets (B, T), where a target
    of -1 is no token of the answer.
    """

    loss: Callable[[Array, Batch], Array]
    margin: Callable[[Array, Batch], Array]  # log-odds of the true label, nats
    correct: Callable[[Array, Batch], Array]  # 0. or 1.
    token_logprob: Callable[[Array, Batch], Array] | None = None  # language: (B, T)
    candidates: Candidates | None = None  # language, where the possible answers are known: margins are among them
    swap: Callable[[Batch, Array], Batch] | None = None  # language: answers, each moved on by (B,) among its like
    refuse: Callable[[Batch], Batch] | None = None  # language: with "I do not know" for an answer


class Candidates(NamedTuple):
    """The K answers of L tokens that a question may have, among which a language model's answer is ranked.

    An answer's log-probability is that of its tokens one after another, so the model is asked once with each of the P
    beginnings (an answer without its last token) in the answer's place.
    """

    length: int  # L
    begins: Callable[[Batch], Array]  # (P, B, L - 1) int32
    scores: Callable[[Array, Batch], Array]  # logits at the answer after these (P, B, L, V) -> (B, K) log-prob., nats
    truth: Callable[[Batch], Array]  # (B,) int32, which is true


class Batch(NamedTuple):
    """B examples of one member; shapes are static, and weight 0 means "not in this member's set"."""

    inputs: Array  # (B, ...)
    targets: Array  # (B, ...)
    weight: Array  # (B,) in [0, 1]
    index: Array  # (B,) int32, the row among the stored examples
    mask: Array | None = None  # (B, T) live tokens
    extra: PyTree = None  # pairs, alternates


class Batches(NamedTuple):
    """What one update of a method is given.

    ``phase``, ``step``, ``rate`` and ``progress`` are scalars common to all members, so that ``lax.cond`` on them stays
    a branch under vmap (a per-member predicate would run both sides).
    """

    forget: Batch
    retain: Batch
    phase: Array  # () int32, the kind of update that the plan asks for
    step: Array  # () int32, position in the plan
    rate: Array  # () float32, by which the plan scales this update's learning rate
    progress: Array  # () float32 in [0, 1), share of the plan's updates done


class Method(NamedTuple):
    """An unlearning method as a fold over batches, written for one member.

    ``init(key, variables) -> state``, ``update(key, state, batches) -> (state, loss)`` and
    ``finish(state) -> variables``; ``state`` is a pytree of arrays.
    """

    init: Callable[[Array, Variables], PyTree]
    update: Callable[[Array, PyTree, Batches], tuple[PyTree, Array]]
    finish: Callable[[PyTree], Variables]


class Population(NamedTuple):
    """N trained members and what is known of their training; leading axis N except under ``shared``."""

    variables: Variables
    loss: Any  # (N, P) float32, training loss at P evenly spaced updates
    seconds: float  # run time of the population after compilation / N
    compile_seconds: float  # time spent compiling in this process (0 when the program was there)


class Recipe(NamedTuple):
    """How a reference model is trained from scratch; the same for every reference."""

    optimizer: str = "adamw"  # adamw | sgd
    lr: float = 2e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9  # sgd only
    steps: int = 1200
    batch: int = 128
    schedule: str = "constant"  # constant | cosine (one-cycle: a tenth of the steps to warm up)
    augment: str = "none"  # none | crop | crop_flip
