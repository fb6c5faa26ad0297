"""Which examples a study's targets are, by pilot models where they are atypical, and their mined neighbours."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from unlearn_jax.data.arrays import Dataset
from unlearn_jax.data.kinds import KINDS
from unlearn_jax.data.similarity.mined import Mined, mine, threshold_of
from unlearn_jax.data.targets import choose_targets, contested, embedding_of
from unlearn_jax.errors import InputError
from unlearn_jax.methods import TrainSpec, prepare
from unlearn_jax.population import checkpoint
from unlearn_jax.population.evaluate import evaluate
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.run import Options, Stored, chunk_width, run_population
from unlearn_jax.runtime import multihost
from unlearn_jax.studies.resolve import Study
from unlearn_jax.trees import join_shared
from unlearn_jax.types import Variables

PILOT_MEMBERS = 16

Pick = Callable[[np.ndarray], tuple[list[np.ndarray], list[np.ndarray]]]


def target_selector(study: Study, dataset: Dataset) -> tuple[Pick, tuple[str, ...]]:
    """How the targets of a study are chosen, once there is a score of how atypical each training example is.

    Returns:
        ``score (n,) -> (targets, mined)``, both by request: rows of targets, and (targets, copies) rows of their mined
        neighbours, [] where copies are made; and notes for the record, sentences without full stop.

    Raises:
        InputError: neighbours asked for whole classes, or none that are near enough; by the function, more targets than
            there can be.
    """
    config, copies, notes, more = study.config, study.max_copies, (), {}
    chosen = functools.partial(
        choose_targets, dataset, config.targets, config.num_targets, config.requests, config.seed,
        skipped=config.skip_requests,
    )  # fmt: skip
    least, nouns = threshold_of(config.similarity, study.natural_cosine), KINDS[dataset.kind].nouns
    if (dataset.kind == "text" or least) and config.targets not in ("class", "whole_class"):
        count = np.bincount(dataset.train.classes, minlength=dataset.num_classes)
        more["room"] = np.maximum(count - 1, 0) // (copies + 1)
        if few := int((more["room"] == 0).sum()):
            notes = (f"{few} of {dataset.num_classes} classes have too few {nouns} for a placebo and give no targets",)
    if least is None:
        if config.targets != "contested":
            return lambda score: (chosen(score, **more), []), notes
        score = contested(dataset)
        return lambda _: (chosen(score, **more), []), notes
    if config.targets == "whole_class":
        raise InputError("--similarity natural takes single targets: choose other --targets than whole_class.")
    mined = mine(embedding_of(dataset), copies, least, config.seed)
    called = f"{nouns} with {copies} others at cosine {least:g} or more that share none"
    near = dict(zip(mined.rows.tolist(), mined.near))
    of_others = contested(dataset, mined) if config.targets == "contested" else None

    def pick(score: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        score = score if of_others is None else of_others
        apart: dict[str, Any] = {"mined": mined} if more else {}
        targets = chosen(score, among=(mined.rows, called), **more, **apart)
        return targets, [np.stack([near[row] for row in part.tolist()]) for part in targets]

    return pick, (
        *notes,
        f"copies are the nearest training {nouns}: what they and a target share is influence shared with S",
        *_notes_on_labels(dataset, mined),
    )


def _notes_on_labels(dataset: Dataset, mined: Mined) -> tuple[str, ...]:
    """How many neighbours are of another class than the example that they are near to; nothing where none is."""
    classes = dataset.train.classes
    same = classes[mined.near] == classes[mined.rows][:, None]
    if same.all():
        return ()
    share = f"{100 * same.mean():.1f}% of those of {len(same):,} possible targets"
    return (f"neighbours keep their own labels: {share} have their target's",)


def pilot_score(problem: TrainSpec, dataset: Dataset, seed: int, options: Options, shared: Variables, watch):
    """Minus the mean margin of each training example under pilot members that were not trained on it, (n,)."""
    n = len(dataset.train.targets)
    data = Stored(jnp.asarray(dataset.train.inputs), jnp.asarray(dataset.train.targets))
    halves = np.argsort(np.random.default_rng([seed, 5]).random((PILOT_MEMBERS // 2, n)), axis=1)
    seen = np.concatenate([halves[:, : n // 2], halves[:, n // 2 : n // 2 * 2]])
    fold, plan, hp = prepare("retrain", problem)
    hp = {k: np.full(PILOT_MEMBERS, v) for k, v in hp.items()}
    watch.stage("pilot", PILOT_MEMBERS)
    tables = make_tables([np.sort(rows) for rows in seen.astype(np.int32)])
    if (store := options.store) is not None:
        multihost.from_process_zero(lambda: checkpoint.check_writable(store) and None)
    keys, start = member_keys(seed, "pilot", PILOT_MEMBERS), join_shared({}, shared)
    labelled = watch.on(options)._replace(label="pilot")
    variables = run_population(fold, plan, data, tables, keys, start, hp=hp, options=labelled).variables
    how = {"axis": options.axis, "data_devices": options.data_devices, "width": chunk_width(PILOT_MEMBERS, options)}
    margin = evaluate(problem.model, problem.task, variables, data, **how).margin
    unseen = np.ones((PILOT_MEMBERS, n), bool)
    np.put_along_axis(unseen, seen, False, axis=1)
    unseen &= np.asarray(np.isfinite(margin).all(axis=1))[:, None]
    if not unseen.any(axis=0).all():
        raise InputError("the pilot models diverged: give a lower --lr, or choose --targets distant.")
    return -np.where(unseen, margin, 0.0).sum(axis=0) / unseen.sum(axis=0)
