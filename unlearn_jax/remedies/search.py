"""Who is similar to a request, from the examples and the original models alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.data.aligned import aligned_cosine
from unlearn_jax.data.kinds import KINDS, Made
from unlearn_jax.data.nearest import unit_rows
from unlearn_jax.errors import InputError, choose
from unlearn_jax.influence import batch_of, ekfac_fit
from unlearn_jax.influence.rows import ekfac_rows
from unlearn_jax.population.evaluate import features
from unlearn_jax.population.plans import FORWARD
from unlearn_jax.remedies.common import Evidence, by_request, mean_size
from unlearn_jax.trees import join_shared, split_shared

SIMILARITIES = ("auto", "inputs", "aligned", "terms", "features", "influence")
RULES = ("nearest", "mutual", "standout")
LEAST = {
    "aligned": 0.96
}  # cosine of a neighbour by default, where a similarity has a level below which nothing is near
SEARCH = {  # settings of a search, for `Remedy.static`
    "similarity": "auto",
    "rule": "standout",
    "k": 8,
    "at_least": 0.0,
    "margin": 0.01,
    "same_class": True,
}
CHOICES = {"similarity": SIMILARITIES, "rule": RULES}  # for `Remedy.choices`
MOST_KNOWN = 16  # similarities kept
MOST_FITTED = 5000  # rows that the curvature behind the similarity influence is fitted to


def similarity(evidence: Evidence, member: int, name: str, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How alike stored rows are: cosines (q, n) float32 of rows ``queries`` (q,) with ``rows`` (n,).

    ``inputs``: the embedding by which the kind of data tells near-duplicates (block means, TF-IDF, word counts);
    ``aligned``: the same of images in their best pose; ``terms``: of token sequences, which tokens occur, rare ones
    weighing more; ``features``: penultimate features of the member's original, less their mean; ``influence``: EK-FAC
    influence of one on the other's loss under the member's original, sizes of gradients apart, by the last layer;
    ``auto``: aligned for images, terms for facts, else inputs.
    """
    name = _named(evidence, name)
    if name in ("features", "influence"):
        both = np.concatenate([queries, rows])
        vectors = (_feature_rows if name == "features" else _influence_rows)(evidence, member, both)
        return vectors[: len(queries)] @ vectors[len(queries) :].T
    key = (evidence.kind, name, *(np.asarray(part).tobytes() for part in (queries, rows, evidence.kept[member])))
    if not (_KNOWN and _KNOWN[0] is evidence.stored.inputs):
        _KNOWN[:] = [evidence.stored.inputs, {}]
    if key not in _KNOWN[1]:
        while len(_KNOWN[1]) >= MOST_KNOWN:
            _KNOWN[1].pop(next(iter(_KNOWN[1])))
        _KNOWN[1][key] = _of_examples(evidence, member, name, queries, rows)
    return _KNOWN[1][key].copy()


_KNOWN: list = []  # the stored inputs last asked about, and similarities of them alone, which every remedy asks again


def _of_examples(evidence: Evidence, member: int, name: str, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A similarity that does not depend on any model."""
    if name == "aligned":
        if evidence.kind != "image":
            raise InputError("similarity 'aligned' is for images: take inputs, features or influence.")
        images = np.asarray(evidence.stored.inputs)
        return aligned_cosine(images[queries], images[rows])
    if name == "terms":
        every = term_rows(evidence.stored.inputs, evidence.kept[member])
        return every[queries] @ every[rows].T
    part = Made(*(np.asarray(x) for x in evidence.stored), evidence.texts)
    every = KINDS[evidence.kind].embedding(part, np.unique(evidence.kept[member]))
    found = every[queries] @ every[rows].T
    return np.asarray(found.toarray() if hasattr(found, "toarray") else found, np.float32)


def misfit(name: str, kind: str, inputs: str) -> str:
    """Why a similarity does not suit data of a kind and a model's inputs, a sentence; '' where it does."""
    if name == "aligned" and kind != "image":
        return "similarity 'aligned' is for images: take inputs, features or influence."
    if name == "terms" and inputs not in ("language", "tokens", "wordpiece"):
        return "similarity 'terms' is for token sequences: take inputs, features or influence."
    return ""


def _named(evidence: Evidence, name: str) -> str:
    """The similarity that is meant."""
    if choose("similarity", name, SIMILARITIES) == "auto":
        return {"image": "aligned", "facts": "terms"}.get(evidence.kind, "inputs")
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


def one_of(evidence: Evidence, member: int):
    """The member's original variables."""
    own, shared = split_shared(evidence.original)
    return join_shared(jax.tree.map(lambda x: jnp.asarray(x[member]), own), shared)


def _feature_rows(evidence: Evidence, member: int, rows: np.ndarray) -> np.ndarray:
    """Unit rows of features less their mean."""
    own, shared = split_shared(evidence.original)
    one = join_shared(jax.tree.map(lambda x: x[member : member + 1], own), shared)
    found = features(evidence.problem.model, one, np.asarray(evidence.stored.inputs)[rows], members=1)
    return unit_rows(found - found.mean(axis=0))


def _influence_rows(evidence: Evidence, member: int, rows: np.ndarray) -> np.ndarray:
    """Unit rows whose inner products are EK-FAC influence."""
    from unlearn_jax.carriers import DAMPING, last_layer

    problem, variables = evidence.problem, one_of(evidence, member)
    batch = lambda at: batch_of(*(x[jnp.asarray(at)] for x in evidence.stored), np.ones(len(at), np.float32))
    kept = evidence.kept[member]
    if len(kept) > MOST_FITTED:
        kept = np.random.default_rng([evidence.seed, 15]).choice(kept, MOST_FITTED, replace=False)
    fitted = batch(np.sort(kept))
    classes = problem.task.candidates is None and problem.num_classes <= 20
    select = last_layer(problem.model, variables, fitted)
    fit = ekfac_fit(
        problem.model, problem.task, variables, fitted, labels="exact" if classes else "sampled", select=select
    )
    found = [
        ekfac_rows(problem.model, problem.task, variables, batch(part), fit, relative_damping=DAMPING)
        for part in np.array_split(rows, max(1, len(rows) // 2048))
    ]
    return unit_rows(np.concatenate([np.asarray(part) for part in found]))


def found_neighbours(evidence: Evidence, member: int, settings: dict) -> np.ndarray:
    """Retained rows that are taken for similar samples of a member's request, ascending.

    Candidates are the ``k`` nearest retained rows of each requested one, of its class with ``same_class``, at a cosine
    of ``at_least`` or more (0 = that of the similarity, see `LEAST`; there may then be none). The rule ``nearest``
    takes them all; ``mutual`` those that have the requested row among
    their own ``k`` nearest; ``standout`` those that are nearer to it than to any sample that is neither requested nor
    a candidate of the same row, by ``margin`` or more (a ratio test, as for matching key points).

    The defaults were chosen on other targets than those reported (digits, ``--skip-requests 4``), by the precision and
    recall of the search there and by how little it finds for held-out examples, which have no copies; no model's output
    was looked at.

    Raises:
        InputError: no retained row is as near as an ``at_least`` that was given.
    """
    choose("rule", settings["rule"], RULES)
    asked, kept = np.asarray(evidence.requested[member]), np.asarray(evidence.kept[member])
    cosine = _candidates(evidence, member, settings, asked, kept)
    k = min(settings["k"], len(kept))
    near = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    least = settings["at_least"] or LEAST.get(_named(evidence, settings["similarity"]), 0.0)
    good = np.take_along_axis(cosine, near, axis=1) >= least
    if not good.any() and not settings["at_least"]:
        return np.zeros(0, np.int32)
    if not good.any():
        said = f"no retained sample comes within a cosine of {settings['at_least']:g} of the request"
        raise InputError(f"{said}: give a lower at_least, or another similarity.")
    if settings["rule"] == "nearest":
        return np.unique(kept[near[good]]).astype(np.int32)
    pool = np.unique(near[good])
    among = np.concatenate([asked, kept])
    back = similarity(evidence, member, settings["similarity"], kept[pool], among)
    back[np.arange(len(pool)), len(asked) + pool] = -np.inf  # itself
    judge = _mutual if settings["rule"] == "mutual" else _stands_out
    return np.unique(kept[judge(settings, cosine, near, good, pool, back)]).astype(np.int32)


def _candidates(evidence: Evidence, member: int, settings: dict, asked: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(requested, kept) cosines, -inf where a row does not come into question."""
    cosine = similarity(evidence, member, settings["similarity"], asked, kept)
    if settings["same_class"]:
        cosine = np.where(evidence.labels[asked][:, None] == evidence.labels[kept][None], cosine, -np.inf)
    return cosine


def _mutual(settings: dict, cosine, near, good, pool, back) -> list[int]:
    """Candidates that have the requested row among their own nearest; columns of ``kept``."""
    taken, among = [], np.argsort(-back, axis=1, kind="stable")[:, : settings["k"]]
    at = {int(row): place for place, row in enumerate(pool)}
    for query in range(len(near)):
        taken += [c for c in near[query][good[query]].tolist() if query in among[at[c]]]
    return taken


def _stands_out(settings: dict, cosine, near, good, pool, back) -> list[int]:
    """Candidates nearer to the requested row than to every sample that is no candidate of it; columns of ``kept``."""
    taken, count = [], len(near)
    at = {int(row): place for place, row in enumerate(pool)}
    for query in range(count):
        own = near[query][good[query]]
        for c in own.tolist():
            others = back[at[c]].copy()
            others[:count] = -np.inf  # requested ones are forgotten in any case
            others[count + own] = -np.inf
            if max(back[at[c]][query], cosine[query, c]) - others.max() >= settings["margin"]:
                taken.append(c)
    return taken


def searched(evidence: Evidence, settings: dict) -> tuple[list[np.ndarray], tuple[float, float]]:
    """`found_neighbours` of every member, and the gradient evaluations that it took on request and retained data."""
    found = by_request(evidence, lambda member: found_neighbours(evidence, member, settings))
    return found, search_cost(evidence, settings["similarity"])


def search_cost(evidence: Evidence, name: str) -> tuple[float, float]:
    """Gradient evaluations a member that a similarity of all training rows takes, on request and retained data."""
    each = {"features": FORWARD, "influence": 2.0}.get(name, 0.0)  # a curvature, and a gradient of each row
    return each * mean_size(evidence.requested), each * mean_size(evidence.kept)
