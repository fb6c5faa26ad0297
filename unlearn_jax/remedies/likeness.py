"""How alike stored examples are, by what they look like or by what the original models make of them.

None of it knows how a study makes its copies, but for ``aligned``: its poses (shifts and turns) are what near copies of
images are made by, so it is there as a choice and never taken by itself.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.data.kinds import KINDS, Made
from unlearn_jax.data.similarity.aligned import aligned_cosine
from unlearn_jax.data.similarity.nearest import unit_rows
from unlearn_jax.errors import InputError, choose
from unlearn_jax.influence import batch_of, ekfac_fit
from unlearn_jax.influence.rows import ekfac_rows
from unlearn_jax.population.evaluate import features
from unlearn_jax.remedies.common import RemedyContext
from unlearn_jax.trees import join_shared, split_shared

SIMILARITIES = ("auto", "inputs", "aligned", "terms", "features", "influence")
MAX_KNOWN = 16  # similarities kept
MAX_FITTED = 5000  # rows that the curvature behind the similarity influence is fitted to


def similarity(evidence: RemedyContext, member: int, name: str, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How alike stored rows are: cosines (q, n) float32 of rows ``queries`` (q,) with ``rows`` (n,).

    ``inputs``: the embedding by which the kind of data tells near-duplicates (block means, TF-IDF, word counts);
    ``aligned``: the same of images in their best pose; ``terms``: of token sequences, which tokens occur, rare ones
    weighing more; ``features``: penultimate features of the member's original, less their mean; ``influence``: EK-FAC
    influence of one on the other's loss under the member's original, sizes of gradients apart, by the last layer;
    ``auto``: features for images, terms for facts, else inputs.
    """
    name = named_similarity(evidence, name)
    if name in ("features", "influence"):
        both = np.concatenate([queries, rows])
        vectors = (_feature_rows if name == "features" else influence_rows)(evidence, member, both)
        return vectors[: len(queries)] @ vectors[len(queries) :].T
    key = (evidence.kind, name, *(np.asarray(part).tobytes() for part in (queries, rows, evidence.kept[member])))
    if not (_KNOWN and _KNOWN[0] is evidence.stored.inputs):
        _KNOWN[:] = [evidence.stored.inputs, {}]
    if key not in _KNOWN[1]:
        while len(_KNOWN[1]) >= MAX_KNOWN:
            _KNOWN[1].pop(next(iter(_KNOWN[1])))
        _KNOWN[1][key] = _of_examples(evidence, member, name, queries, rows)
    return _KNOWN[1][key].copy()


_KNOWN: list = []  # the last stored inputs, and similarities of them alone, which every remedy needs again


def _of_examples(evidence: RemedyContext, member: int, name: str, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A similarity that does not depend on any model."""
    if name == "aligned":
        if evidence.kind != "image":
            raise InputError("similarity 'aligned' is for images: take inputs, features or influence.")
        images = np.asarray(evidence.stored.inputs)
        return aligned_cosine(images[queries], images[rows])
    if name == "terms":
        every = term_rows(evidence.stored.inputs, evidence.kept[member])
        return every[queries] @ every[rows].T
    part = Made(*(np.asarray(x) for x in evidence.stored), texts=evidence.texts)
    every = KINDS[evidence.kind].embedding(part, np.unique(evidence.kept[member]))
    cosine = every[queries] @ every[rows].T
    return np.asarray(cosine.toarray() if hasattr(cosine, "toarray") else cosine, np.float32)


def misfit(name: str, kind: str, inputs: str) -> str:
    """Why a similarity does not suit data of a kind and a model's inputs, a sentence; '' where it does."""
    if name == "aligned" and kind != "image":
        return "similarity 'aligned' is for images: take inputs, features or influence."
    if name == "terms" and inputs not in ("language", "tokens", "wordpiece"):
        return "similarity 'terms' is for token sequences: take inputs, features or influence."
    return ""


def named_similarity(evidence: RemedyContext, name: str) -> str:
    """The similarity that is meant."""
    if choose("similarity", name, SIMILARITIES) == "auto":
        return {"image": "features", "facts": "terms"}.get(evidence.kind, "inputs")
    return name


def term_rows(inputs, known: np.ndarray) -> np.ndarray:
    """Unit rows of which tokens occur, times the logarithm of how rare each is among the rows ``known``.

    Args:
        inputs: (n, T) integer tokens, 0 is padding.
        known: row numbers.

    Returns:
        (n, V) float32.

    Raises:
        InputError: inputs that are no tokens.
    """
    tokens = np.asarray(inputs)
    if tokens.ndim != 2 or tokens.dtype.kind not in "iu":
        raise InputError("similarity 'terms' is for token sequences: take inputs, features or influence.")
    there = np.zeros((len(tokens), int(tokens.max()) + 1), np.float32)
    there[np.arange(len(tokens))[:, None], tokens] = 1.0
    there[:, 0] = 0.0
    often = there[known].sum(axis=0)
    return unit_rows(there * np.log((1.0 + len(known)) / (1.0 + often)))


def one_of(evidence: RemedyContext, member: int):
    """The member's original variables."""
    unshared, shared = split_shared(evidence.original)
    return join_shared(jax.tree.map(lambda x: jnp.asarray(x[member]), unshared), shared)


def _feature_rows(evidence: RemedyContext, member: int, rows: np.ndarray) -> np.ndarray:
    """Unit rows of features less their mean."""
    unshared, shared = split_shared(evidence.original)
    one = join_shared(jax.tree.map(lambda x: x[member : member + 1], unshared), shared)
    rows_of_features = features(evidence.problem.model, one, np.asarray(evidence.stored.inputs)[rows], members=1)
    return unit_rows(rows_of_features - rows_of_features.mean(axis=0))


def influence_rows(evidence: RemedyContext, member: int, rows: np.ndarray, power: float = 0.0) -> np.ndarray:
    """Rows whose inner products are EK-FAC influence by the last layer, their norms raised to ``power``; (n, D)."""
    from unlearn_jax.influence.layers import DAMPING, last_layer

    problem, variables = evidence.problem, one_of(evidence, member)
    batch = lambda at: batch_of(*(x[jnp.asarray(at)] for x in evidence.stored), weight=np.ones(len(at), np.float32))
    kept = evidence.kept[member]
    if len(kept) > MAX_FITTED:
        kept = np.random.default_rng([evidence.seed, 15]).choice(kept, MAX_FITTED, replace=False)
    fitted = batch(np.sort(kept))
    classes = problem.task.candidates is None and problem.num_classes <= 20
    select = last_layer(problem.model, variables, fitted)
    fit = ekfac_fit(
        problem.model, problem.task, variables, fitted, labels="exact" if classes else "sampled", select=select
    )
    vectors = [
        ekfac_rows(problem.model, problem.task, variables, batch(part), fit, relative_damping=DAMPING)
        for part in np.array_split(rows, max(1, len(rows) // 2048))
    ]
    vectors = np.concatenate([np.asarray(part) for part in vectors])
    return unit_rows(vectors) * np.linalg.norm(vectors, axis=1, keepdims=True) ** np.float32(power)
