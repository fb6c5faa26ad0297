"""Who is asked to be forgotten: the ways of choosing the targets among the training images."""

from __future__ import annotations

import numpy as np

from unlearn_jax.data.arrays import Dataset
from unlearn_jax.data.kinds import KINDS
from unlearn_jax.data.similarity.mined import Mined
from unlearn_jax.data.similarity.nearest import top_k
from unlearn_jax.errors import InputError

AROUND = 20  # nearest examples that say whether one is contested


def distance_to_class(dataset: Dataset) -> np.ndarray:
    """Distance of each training example to its own class's mean, in units of that class's median; (n,)."""
    flat = embedding_of(dataset)
    distance = np.zeros(flat.shape[0])
    for label in np.unique(dataset.train.classes):
        of_class = dataset.train.classes == label
        part = (flat[of_class] if isinstance(flat, np.ndarray) else flat[of_class].toarray()).astype(np.float64)
        away = np.linalg.norm(part - part.mean(axis=0), axis=1)
        distance[of_class] = away / max(np.median(away), 1e-12)
    return distance


def embedding_of(dataset: Dataset):
    """What the kind of data calls alike, of all training examples; (n, d)."""
    return KINDS[dataset.kind].embedding(dataset.train, slice(None))


def contested(dataset: Dataset, mined: Mined | None = None) -> np.ndarray:
    """How far each training example's surroundings speak for other classes, (n,): from -1 (none) to 1 (all of them).

    Of its `AROUND` nearest training examples, the cosines of those of other classes less those of its own, over their
    sum; to four digits, so that it does not depend on the device. No model is needed.

    Args:
        dataset: the source.
        mined: clusters, whose own neighbours do not count.
    """
    size, more = len(dataset.train.ids), 0 if mined is None else mined.near.shape[1]
    near = top_k(embedding_of(dataset), AROUND + more)
    weight = np.where(near.rows >= 0, np.maximum(near.cosine, 0.0), 0.0).astype(np.float64)
    if mined is not None and more:
        neighbours = np.full((size, more), -1)
        neighbours[mined.rows] = mined.near
        weight[(near.rows[:, :, None] == neighbours[:, None]).any(axis=2)] = 0.0
    weight *= (weight > 0).cumsum(axis=1) <= AROUND
    classes = dataset.train.classes
    sign = np.where(classes[near.rows] == classes[:, None], -1.0, 1.0)
    return np.round((weight * sign).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12), 4)


def choose_targets(
    dataset: Dataset,
    kind: str,
    per_request: int,
    requests: int,
    seed: int,
    score: np.ndarray | None = None,
    *,
    among: tuple[np.ndarray, str] | None = None,
    room: np.ndarray | None = None,
    mined: Mined | None = None,
    skipped: int = 0,
) -> list[np.ndarray]:
    """Disjoint target sets among the training rows.

    Args:
        dataset: the source.
        kind: ``random``, ``class`` (all targets of a request share a class), ``whole_class`` (they are all of a
            class), ``distant`` (far from their own class's mean), ``atypical`` (least sure under pilot models that
            never saw them; needs ``score``), ``contested`` (their ``score`` is that of `contested`) or ``person``
            (facts: all that is said of as many people as it takes).
        per_request: targets in each request, with ``person`` at least so many; of no effect on ``whole_class``.
        requests: number of requests.
        seed: of the study.
        score: (n,) larger = taken first, for ``atypical`` and ``contested``.
        among: training rows that may be chosen, and what to call them; by default as the kind of data says.
        room: (classes,) most targets that all requests together take of a class, where they are of mixed classes.
        mined: clusters of those that may be chosen, whose neighbours have to be spared too.
        skipped: requests that are passed over first: their targets (classes, people) are in none of those returned, and
            are those that the first ``skipped`` of more requests would have taken between them.

    Returns:
        ``requests`` arrays of ``per_request`` rows (of a class's size, for ``whole_class``), sorted. ``atypical``,
        ``contested`` and ``distant`` deal the highest scores out in turn, so that requests are equally hard.

    Raises:
        InputError: more targets than half the training set, than may be chosen, or than the class holds.
    """
    if per_request < 1 or requests < 1:
        raise InputError("ask for at least 1 target and 1 request.")
    rng = np.random.default_rng([seed, 1])
    if kind == "whole_class":
        return _whole_classes(dataset, requests, rng, skipped)
    _check_half(dataset, per_request * requests)
    wanted = per_request * (skipped + requests)
    allowed, called = among or _candidates(dataset)
    if wanted > len(allowed):
        more = ", those of skipped requests included," * (skipped > 0)
        raise InputError(f"{wanted} targets{more} are more than the {len(allowed)} {called}: ask for fewer.")
    if kind == "class":
        return _class_targets(dataset, per_request, requests, rng, allowed, skipped)
    if kind == "person":
        return _whole_people(dataset, allowed, per_request, skipped + requests, rng)[skipped:]
    if kind == "random":
        order = allowed[rng.permutation(len(allowed))]
    else:
        far = distance_to_class(dataset) if kind == "distant" else score
        assert far is not None
        order = allowed[np.argsort(-far[allowed], kind="stable")]
    drawn = order[:wanted] if room is None else _within(dataset.train.classes, order, wanted, room, mined)
    drawn = drawn[per_request * skipped :]
    return [np.sort(drawn[r::requests]) for r in range(requests)]


def _candidates(dataset: Dataset) -> tuple[np.ndarray, str]:
    """Training rows that may be chosen by default, and what they are called."""
    kind = KINDS[dataset.kind]
    return kind.candidates(dataset), "facts that are told once" if kind.person else f"training {kind.nouns}"


def _within(classes, order: np.ndarray, wanted: int, room: np.ndarray, mined: Mined | None) -> np.ndarray:
    """The first rows in order of which no class gives more than it has room for, neighbours included."""
    turn, labels = np.zeros(len(order), int), classes[order]
    for label in np.unique(labels):
        of_class = labels == label
        turn[of_class] = np.arange(of_class.sum())
    fit = order[turn < room[labels]]
    fit = fit if mined is None else _spared(classes, fit, mined)
    if len(fit) < wanted:
        problem = (
            f"{wanted} targets with so many copies take more of the small classes than can be spared for a placebo"
        )
        raise InputError(f"{problem}: ask for at most {len(fit)} targets, or for fewer copies.")
    return fit[:wanted]


def _spared(classes: np.ndarray, order: np.ndarray, mined: Mined) -> np.ndarray:
    """Rows in order, without those whose cluster would leave a class no stranger more than it has neighbours."""
    left, near = np.bincount(classes), dict(zip(mined.rows.tolist(), mined.near))
    kept = []
    for row in order.tolist():
        after = left.copy()
        after[classes[row]] -= 1
        np.subtract.at(after, classes[near[row]], 2)  # the neighbour, and the stranger that a placebo drops for it
        if (after[classes[[row, *near[row]]]] >= 1).all():
            left = after
            kept.append(row)
    return np.asarray(kept, order.dtype)


def _check_half(dataset: Dataset, wanted: int) -> None:
    """Raise `InputError` for targets that are more than half of the training examples."""
    n, nouns = len(dataset.train.ids), KINDS[dataset.kind].nouns
    if wanted > n // 2:
        raise InputError(f"{wanted} targets are more than half of the {n} training {nouns}: ask for fewer.")


def _whole_people(dataset: Dataset, allowed: np.ndarray, per_request: int, requests: int, rng) -> list[np.ndarray]:
    about = KINDS[dataset.kind].person
    if about is None:
        raise InputError(f"--targets person is for facts, not for '{dataset.name}': choose random or class.")
    person = about(dataset)[allowed]
    people = iter(rng.permutation(np.unique(person)))
    chosen: list[np.ndarray] = [np.zeros(0, int) for _ in range(requests)]
    for number in range(requests):
        while len(chosen[number]) < per_request:
            one = next(people, None)
            if one is None:
                raise InputError(
                    f"there are not enough people for {requests} requests of {per_request}: ask for fewer."
                )
            chosen[number] = np.sort(np.concatenate([chosen[number], allowed[person == one]]))
    return chosen


def _drawn_classes(dataset: Dataset, requests: int, rng, skipped: int) -> np.ndarray:
    """Another class for each request, after those of the skipped ones."""
    classes = len(dataset.class_names)
    if skipped + requests > classes:
        more = f" and {skipped} skipped" * (skipped > 0)
        raise InputError(f"{requests} requests by class{more} but only {classes} classes: ask for fewer.")
    return rng.permutation(classes)[skipped : skipped + requests]


def _whole_classes(dataset: Dataset, requests: int, rng, skipped: int) -> list[np.ndarray]:
    """All training rows of a class, for each request."""
    drawn = _drawn_classes(dataset, requests, rng, skipped)
    chosen = [np.flatnonzero(dataset.train.classes == label) for label in drawn]
    if min(len(rows) for rows in chosen) == 0:
        nouns = KINDS[dataset.kind].nouns
        raise InputError(f"a class drawn for a request has no training {nouns}: drop that class, or change --seed.")
    _check_half(dataset, sum(len(rows) for rows in chosen))
    return chosen


def _class_targets(dataset: Dataset, per_request: int, requests: int, rng, allowed, skipped) -> list[np.ndarray]:
    """Each request draws its targets from one class, another class for each request."""
    chosen = []
    for label in _drawn_classes(dataset, requests, rng, skipped):
        members = allowed[dataset.train.classes[allowed] == label]
        if len(members) < per_request:
            problem = f"class {label} has {len(members)} {KINDS[dataset.kind].nouns}"
            raise InputError(f"{problem}, fewer than {per_request} targets: ask for fewer.")
        chosen.append(np.sort(rng.choice(members, per_request, replace=False)))
    return chosen
