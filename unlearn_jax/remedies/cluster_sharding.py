"""Cluster sharding: SISA whose shards keep near-duplicates together.

Ours: SISA (arXiv 1912.03817) splits data at random, so the near-copies of a sample lie in every shard, and a request
that names them all retrains them all. Here near-duplicate groups of the whole training set (leader clustering at a
cosine of ``threshold``, as `dedup_first`), found before any request is known, go to one slice of one shard whole, the
largest group first, each to the emptiest slice. With ``expand`` (the default) a request takes along the groups of its
samples, which the provider knows; without it only the shards differ from SISA's.
"""

from __future__ import annotations

import numpy as np

from unlearn_jax.methods.support.common import MethodSpec
from unlearn_jax.remedies.common import Remedied, Remedy, RemedyContext, by_request, moved
from unlearn_jax.remedies.dedup_first import near_groups


def apply(evidence: RemedyContext, settings: dict) -> Remedied:
    """Group, then run SISA on the groups."""
    grouped = by_request(evidence, lambda member: near_groups(evidence, member, settings["threshold"]))
    found, together = [], []
    for member, (rows, groups) in enumerate(grouped):
        is_requested = np.isin(rows, evidence.requested[member])
        along = np.isin(groups, groups[is_requested]) & ~is_requested & settings["expand"]
        found.append(rows[along].astype(np.int32))
        table = np.full(len(evidence.labels), -1)
        table[rows] = groups
        together.append(table)
    treat = moved(evidence, found)._replace(together=together)
    return Remedied(evidence.run(treat), found if settings["expand"] else None)


def only_sisa(entry: MethodSpec) -> str:
    """Why a method has no shards; '' for SISA."""
    return "" if entry.name == "sisa" else "it has no shards"


REMEDY = Remedy(
    name="cluster_sharding",
    paper="this project; SISA: Bourtoule et al. 2021, arXiv 1912.03817",
    rule="SISA with near-duplicate groups in one slice of one shard, dropped whole",
    apply=apply,
    numeric={},
    static={"threshold": 0.0, "expand": True},
    methods=only_sisa,
    fresh=True,
    shares=("threshold",),
)
