"""Paraphrase: whatever a method does to the request, it does to varied forms of it, drawn anew at every update.

After arXiv 2602.03379 (syntactic similarity, not topic, decides what unlearning reaches; diversify the request's
forms), known from its abstract. Images are shifted by up to ``strength`` eighths of the side and turned by up to
``strength`` times 15 degrees. Of texts, each word of the prompt is left blank with probability ``drop``: the first
token, an answer's tokens and the one before them stay, as do the targets. Nothing is searched for and nothing more is
spent.

The forms of images are poses, and near copies of images are made by poses too, of two thirds of that strength: on
made copies of images this remedy is flattered, as the similarity ``aligned`` is. On mined neighbours it is not.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from unlearn_jax.data.similarity.aligned import posed
from unlearn_jax.methods.support.parts import pixels
from unlearn_jax.models.transformer import PADDING
from unlearn_jax.remedies.common import Remedied, Remedy, RemedyContext, without
from unlearn_jax.tasks import answer_start
from unlearn_jax.types import Array, Batch, Method

STREAM = 24  # of the keys that an update derives


def wrap(method: Method, shared, hp) -> Method:
    """The method on varied requested examples."""
    del shared

    def update(key, state, batches):
        vary = blanked if jnp.issubdtype(batches.forget.inputs.dtype, jnp.signedinteger) else turned
        draw, forget = jax.random.fold_in(key, STREAM), batches.forget
        strength = hp["paraphrase_drop" if vary is blanked else "paraphrase_strength"]
        return method.update(key, state, batches._replace(forget=forget._replace(inputs=vary(draw, forget, strength))))

    return method._replace(update=update)


def turned(key: Array, batch: Batch, strength: Array | float) -> Array:
    """(B, H, W, C) images of a batch, each in a random pose; float32, 0..1 of uint8."""
    images = pixels(batch.inputs)
    poses = strength * jax.random.uniform(key, (3, len(images)), minval=-1.0, maxval=1.0)
    return jax.vmap(posed)(images, *poses)


def blanked(key: Array, batch: Batch, drop: Array | float) -> Array:
    """(B, T) tokens of a batch with random prompt tokens as padding."""
    tokens, place = batch.inputs, jnp.arange(batch.inputs.shape[1])[None, :]
    prompt = place >= 1
    if batch.targets.ndim == 2:
        prompt &= place < answer_start(batch)[:, None]
    gone = jax.random.bernoulli(key, drop, tokens.shape) & prompt
    return jnp.where(gone, jnp.asarray(PADDING, tokens.dtype), tokens)


def apply(evidence: RemedyContext, settings: dict) -> Remedied:
    """Run the method with the wrap."""
    hp = {f"paraphrase_{name}": settings[name] for name in ("strength", "drop")}
    return Remedied(evidence.run(evidence.plain._replace(wrap=wrap, hp=hp)))


REMEDY = Remedy(
    name="paraphrase",
    paper="arXiv 2602.03379 (syntactic diversification)",
    rule="the request is seen in varied form at every update: turned images, prompts with words left blank",
    apply=apply,
    numeric={"strength": 1.0, "drop": 0.2},
    static={},
    inputs=frozenset({"images", "tokens", "wordpiece", "language"}),
    methods=without("nothing", "protocol", "reference", forget=True),
)
