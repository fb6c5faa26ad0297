"""Dedup first: keep one sample of each near-duplicate group of the training set, then drop the request.

The order that a careful provider would choose: deduplicate all training rows, the requested ones among them, and only
then meet the request (Ye et al. 2025, arXiv 2501.16663, study how near-duplicates evade it). Groups are the
detector's of the reference `dedup`: leader clustering at a cosine of ``threshold`` (0 = the kind of data's own: .97
of images, .9 of words; data as dense as Fashion-MNIST want .99). With ``representative`` random, one sample of each
group stays by chance, so a cluster that is found whole keeps a copy of the target unless the target itself was drawn;
with requested, a group's requested sample stands for it and takes the whole group along when it is dropped, which is
`expand` by group. All methods but retraining start from originals that saw every duplicate, so whatever was dropped
is requested too, duplicates of strangers included.
"""

from __future__ import annotations

import numpy as np

from unlearn_jax.data.kinds import KINDS, Made
from unlearn_jax.data.similarity.duplicates import leader_groups, near_pairs
from unlearn_jax.errors import InputError
from unlearn_jax.remedies.common import Remedied, Remedy, RemedyContext, by_request, moved, without

THRESHOLD = {"image": 0.97, "text": 0.9, "facts": 0.9}  # cosine, by kind of data
REPRESENTATIVES = ("random", "requested")


def apply(evidence: RemedyContext, settings: dict) -> Remedied:
    """Group, draw a representative of each group for each member, and run the method on what is left."""
    grouped = by_request(evidence, lambda member: near_groups(evidence, member, settings["threshold"]))
    found = []
    for member, (rows, groups) in enumerate(grouped):
        is_requested = np.isin(rows, evidence.requested[member])
        rng = np.random.default_rng([evidence.seed, member, 21])
        first = is_requested if settings["representative"] == "requested" else None
        stays = representatives(groups, rng, first)
        found.append(np.setdiff1d(rows[~stays], evidence.requested[member]).astype(np.int32))
        if not len(np.setdiff1d(evidence.kept[member], found[-1])):
            raise InputError("dedup_first leaves no retained sample: give a higher threshold.")
    return Remedied(evidence.run(moved(evidence, found)), found)


def near_groups(evidence: RemedyContext, member: int, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """All training rows of a member, ascending, and the near-duplicate group of each.

    ``threshold`` 0 is that of the kind of data. What embeds texts is fitted to retained rows alone.

    Raises:
        InputError: a threshold above 1, or so low that most rows are duplicates.
    """
    kept = np.asarray(evidence.kept[member])
    rows = np.unique(np.concatenate([kept, evidence.requested[member]]))
    texts = None if evidence.texts is None else evidence.texts[rows]
    part = Made(*(np.asarray(x)[rows] for x in evidence.stored), texts=texts)
    embedding = KINDS[evidence.kind].embedding(part, np.flatnonzero(np.isin(rows, kept)))
    pairs = near_pairs(embedding, threshold or THRESHOLD[evidence.kind])
    return rows.astype(np.int32), leader_groups(pairs, np.arange(len(rows)))


def representatives(groups: np.ndarray, rng: np.random.Generator, first: np.ndarray | None = None) -> np.ndarray:
    """(n,) which rows stay: one of each group at random, of those where ``first`` is true if the group has any."""
    order = rng.permutation(len(groups))
    if first is not None:
        order = order[np.argsort(~first[order], kind="stable")]
    stays = np.zeros(len(groups), bool)
    stays[order[np.unique(groups[order], return_index=True)[1]]] = True
    return stays


REMEDY = Remedy(
    name="dedup_first",
    paper="Ye et al. 2025, arXiv 2501.16663 (deduplication and its evasion)",
    rule="one random sample of each near-duplicate group stays, then the request is dropped",
    apply=apply,
    numeric={},
    static={"threshold": 0.0, "representative": "random"},
    methods=without("nothing", "reference"),
    choices={"representative": REPRESENTATIVES},
    shares=("threshold",),
)
