"""Populations trained on subsets of the data: random halves, and everything but one group, in one compiled program.

Memorisation (arXiv 2008.03703), datamodels (arXiv 2202.00622) and the linear datamodelling score (arXiv 2303.14186)
are made of random subsets. Here they are balanced: all members see as many units, and every unit is seen by as many
members, as random halves are only on average. Units are rows, or whole groups, so that no copy of a row that is out
stays in. All members take the same number of steps at the same batch size, so a smaller set is seen more often.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from unlearn_jax.errors import InputError
from unlearn_jax.influence.groups import as_groups, as_masks, as_outputs, balanced, equal_shares, units_of
from unlearn_jax.metrics.arrays import whole_number
from unlearn_jax.population.evaluate import evaluate
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.plans import Sizes
from unlearn_jax.population.run import DEFAULTS, Options, Stored, chunk_width, run_population
from unlearn_jax.types import Array, Model, Population, Task, Variables

FULL = -1  # group of a member that saw everything


class LeaveOut(NamedTuple):
    """Who sees what in a leave-group-out population."""

    masks: np.ndarray  # (M, n) bool
    group: np.ndarray  # (M,) int, which group the member did not see; -1 = it saw everything


class Predictions(NamedTuple):
    """What every member says of every query."""

    margin: np.ndarray  # (M, q), nats; NaN for a diverged member
    correct: np.ndarray  # (M, q), 0 or 1; NaN for a diverged member


class GroupEffects(NamedTuple):
    """n times the fall of the margin when a group is left out."""

    value: np.ndarray  # (G, q)
    error: np.ndarray  # (G, q) standard errors
    diverged: int  # members left out


def subset_masks(
    examples: int, members: int, *, fraction: float = 0.5, seed: int = 0, groups: Sequence | None = None
) -> Bool[np.ndarray, "{members} n"]:
    """Random subsets, balanced both ways.

    Args:
        examples: n.
        members: M.
        fraction: share of the units in each subset, in (0, 1).
        seed: of the draws.
        groups: arrays of rows that are in or out together; rows in none are units of their own.

    Returns:
        (M, n) bool. Every unit is in ``fraction M`` subsets and every subset has ``fraction U`` of the U units, each
        rounded up or down at random where it is no whole number. Independent otherwise: no pairs of complements.

    Raises:
        InputError: a fraction outside (0, 1), groups that overlap, or subsets that would be empty.

    Example:
        >>> masks = subset_masks(6, 4, groups=[[0, 1], [2, 3]])
        >>> masks.sum(axis=0).tolist(), bool((masks[:, 0] == masks[:, 1]).all())
        ([2, 2, 2, 2, 2, 2], True)
    """
    examples, members = whole_number(examples, "examples"), whole_number(members, "members")
    if not 0 < fraction < 1:
        raise InputError(f"fraction is {fraction}: give the share of the units in each subset, between 0 and 1.")
    unit = units_of(examples, groups)
    units, rng = int(unit.max()) + 1, np.random.default_rng([seed, members, 17])
    if round(fraction * members * units) < members:
        raise InputError(f"subsets of {fraction:g} of {units} units would be empty: give more units or a larger share.")
    columns = equal_shares(round(fraction * members * units), units, rng)
    rows = equal_shares(int(columns.sum()), members, rng)
    return balanced(rng.permuted(np.arange(members)[:, None] < columns[None], axis=0), rows, rng)[:, unit]


def leave_out_masks(examples: int, groups: Sequence, *, repeats: int = 8, full: int | None = None) -> LeaveOut:
    """Members that see everything, and members that see all but one group.

    Args:
        examples: n.
        groups: arrays of rows, each left out whole.
        repeats: members without each group.
        full: members that see everything; ``repeats sqrt(G)`` by default, which is best for as many members in all
            since every group is compared with them (Dunnett 1955).

    Returns:
        `LeaveOut`, those that see everything first.

    Raises:
        InputError: a group that is all rows, or other bad groups.

    Example:
        >>> plan = leave_out_masks(3, [[0], [1, 2]], repeats=2, full=1)
        >>> plan.group.tolist(), plan.masks.sum(axis=1).tolist()
        ([-1, 0, 0, 1, 1], [3, 2, 2, 1, 1])
    """
    groups, repeats = as_groups(groups, whole_number(examples, "examples")), whole_number(repeats, "repeats")
    full = round(repeats * len(groups) ** 0.5) if full is None else whole_number(full, "full")
    group = np.concatenate([np.full(full, FULL), np.repeat(np.arange(len(groups)), repeats)])
    masks = np.ones((len(group), examples), bool)
    for row, left in zip(masks, group):
        if left != FULL:
            row[groups[left]] = False
    if not masks.any(axis=1).all():
        raise InputError("a group holds all rows: leave out a part of them.")
    return LeaveOut(masks, group)


def train_subsets(
    problem,
    data,
    masks,
    *,
    settings: dict | None = None,
    role: str = "subsets",
    seed: int = 0,
    keys: Array | None = None,
    options: Options = DEFAULTS,
) -> Population:
    """Train a member from scratch on every subset by the problem's recipe.

    Args:
        problem: a `unlearn_jax.methods.support.common.Problem`; its recipe's steps and batch are those of every member.
        data: n examples with ``inputs`` and ``targets``: a `Batch` (its weights play no part) or a `Stored`.
        masks: (M, n) 0 or 1.
        settings: of retraining: ``lr``, ``weight_decay``.
        role: names the members' keys; another role is other seeds.
        seed: root of the keys.
        keys: (M,) typed keys instead, equal ones to give members the same initialisation.
        options: chunks, store, progress; see `unlearn_jax.population.run.Options`.

    Returns:
        The population, with its seconds. Rows outside a member's subset never reach it.

    Raises:
        InputError: masks that do not fit the data, an empty subset, inputs that are not finite.

    Example:
        >>> from unlearn_jax.methods import Recipe, TrainSpec
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> example = jax.ShapeDtypeStruct((1, 2), jnp.float32)
        >>> problem = TrainSpec(build_model("linear", 2, (2,)), classification(), example, 2, Recipe(steps=2, batch=2))
        >>> train_subsets(problem, Stored(jnp.eye(2), jnp.arange(2)), np.eye(2)).loss.shape[0]
        2
    """
    from unlearn_jax.methods import prepare  # here, so that methods may use this package

    masks, stored = as_masks(masks), Stored(jnp.asarray(data.inputs), jnp.asarray(data.targets))
    members, examples = masks.shape
    if len(stored.targets) != examples or len(stored.inputs) != examples:
        raise InputError(f"masks are of {examples} examples and data of {len(stored.targets)}: give a column for each.")
    if jnp.issubdtype(stored.inputs.dtype, jnp.floating) and not bool(jnp.isfinite(stored.inputs).all()):
        raise InputError("inputs hold values that are not finite: drop or repair those examples.")
    if not masks.any(axis=1).all():
        raise InputError("a member's mask is empty: give it at least one example.")
    sizes = Sizes(0, int(masks.sum(axis=1).max()), problem.num_classes)
    fold, plan, numeric = prepare("retrain", problem, settings, sizes)
    tables = make_tables([np.flatnonzero(mask).astype(np.int32) for mask in masks], pad_to=examples)
    keys = member_keys(seed, role, members) if keys is None else keys
    hp = {name: np.full(members, value, np.float32) for name, value in numeric.items()}
    return run_population(fold, plan, stored, tables, keys, {}, hp=hp, options=options)


def outputs_of(model: Model, task: Task, variables: Variables, data, *, options: Options = DEFAULTS) -> Predictions:
    """Margins and correctness of a population's members on q queries.

    Args:
        model: the members' model.
        task: what they mean.
        variables: leading axis M, as of `train_subsets`.
        data: queries with ``inputs`` and ``targets``; weights play no part.
        options: members per program and member axis.

    Raises:
        InputError: no query.
    """
    stored = Stored(jnp.asarray(data.inputs), jnp.asarray(data.targets))
    if not len(stored.targets):
        raise InputError("queries are empty: give at least one.")
    unshared = {name: part for name, part in variables.items() if name != "shared"}
    width = chunk_width(len(jax.tree.leaves(unshared)[0]), options)
    scores = evaluate(model, task, variables, stored, width=width, axis=options.axis, data_devices=options.data_devices)
    return Predictions(scores.margin, scores.correct)


def leave_out_effects(outputs, plan: LeaveOut) -> GroupEffects:
    """What leaving out each group really changes, in the unit of the scores.

    Args:
        outputs: (M, q) margins, or minus the loss, of the members of ``plan``. A member with a NaN is left out.
        plan: of `leave_out_masks`.

    Returns:
        (G, q): n times (mean of those that saw everything less mean of those without the group), positive = the group
        helped. It is the truth of a group's summed scores, but for this: with s rows out, members minimise the mean
        over the n - s left, so that their weight decay counts (n - s) l2 where scores keep the normaliser n l2.
        Standard errors are of the spread of members around their own group's mean, pooled over groups by query; NaN
        where no two members share a group, or a group has no member left.

    Raises:
        InputError: as many members as the plan's are not given, or all of them diverged.

    Example:
        >>> plan = leave_out_masks(4, [[0, 1]], repeats=1, full=1)
        >>> leave_out_effects([[2.0], [1.5]], plan).value.tolist()  # 4 rows, half a nat
        [[2.0]]
    """
    outputs, finite = as_outputs(outputs)
    masks = as_masks(plan.masks, ("outputs", outputs))
    groups = int(plan.group.max()) + 1
    member = (plan.group[None] == np.arange(FULL, groups)[:, None]) & finite[None]  # (1 + G, M)
    count, filled = member.sum(axis=1), np.where(finite[:, None], outputs, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (member.astype(float) @ filled) / count[:, None]
        apart = np.where(finite[:, None], filled - mean[plan.group - FULL], 0.0)
        spread = (apart**2).sum(axis=0) / np.float64((count - 1).clip(0).sum())
        error = np.sqrt(spread[None] * (1.0 / count[1:, None] + 1.0 / count[:1, None]))
    defined = (count[1:, None] > 0) & (count[0] > 0)
    scale = float(masks.shape[1])
    return GroupEffects(scale * (mean[:1] - mean[1:]), np.where(defined, scale * error, np.nan), int((~finite).sum()))
