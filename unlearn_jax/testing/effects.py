"""The rules of the contract on what a method's result depends on, and what it does to the losses."""

from __future__ import annotations

import jax
import numpy as np

from unlearn_jax.methods import prepare_entry
from unlearn_jax.population.members import member_keys
from unlearn_jax.testing import toy
from unlearn_jax.testing.contract import CHANCE, FALL, MEMBERS, Trial, changed, require


def does_nothing(trial: Trial) -> None:
    """With the need ``nothing``: every bit stays."""
    toy.same(trial.unlearned.variables, trial.original)


def moves(trial: Trial) -> None:
    """Weights move."""
    gaps = toy.gap(trial.unlearned.variables, trial.original)
    require((gaps > 1e-3).all(), f"a member moves by no more than {gaps.min():.2g}: does it do anything?")


def statistics(trial: Trial) -> None:
    """Running batch statistics follow the batches that ``batch_stats`` declares."""
    entry, begins = trial.entry, trial.start
    if entry.batch_stats == "none":
        return toy.same(trial.unlearned.variables["state"], begins["state"])
    still = {key: 0.0 for key in entry.numeric if key.endswith("lr") or key == "share"}  # weights stay
    before, after = (
        trial.run(start=begins, hp=still, data=data).variables["state"] for data in (None, changed(toy.REQUESTED))
    )
    moved = lambda a, b: toy.gap({"params": a}, {"params": b})
    require((moved(before, begins["state"]) > 1e-3).all(), "running statistics stay: declare batch_stats 'none'")
    follow = moved(before, after) > 1e-4
    how = "follow" if follow.any() else "do not follow"
    require((follow == (entry.batch_stats == "both")).all(), f"they {how} the request, not as batch_stats declares")


def forgets(trial: Trial) -> None:
    """The loss of a memorised request rises."""
    before = trial.losses(trial.original, toy.REQUESTED, before=True)
    after = trial.losses(trial.unlearned.variables, toy.REQUESTED)
    require(before.mean() < 0.5 * CHANCE, "the originals have not memorised the request")
    problem = (
        f"the request's loss goes from {before.mean():.2f} to {after.mean():.2f}: it is to rise by .1, in each member"
    )
    require((after > before).all() and (after - before).mean() > 0.1, problem)


def retains(trial: Trial) -> None:
    """The loss on retained data stays bounded."""
    loss = trial.losses(trial.unlearned.variables, toy.KEPT).mean()
    require(
        loss < FALL * CHANCE, f"the loss on retained data is {loss:.2f}, above {FALL * CHANCE:.2f}: milder settings?"
    )


def sees(part: str, rows: np.ndarray):
    """The rule that a method sees a set if it declares so, and else not at all."""

    def rule(trial: Trial) -> None:
        data, reads = changed(rows), part in trial.entry.needs
        gaps = trial.gaps(trial.run(data=data, start=trial.begun(trial.original, data=data)))
        problem = (
            f"declares the need '{part}' and does not read it" if reads else f"reads what only the need '{part}' gives"
        )
        require((gaps > 1e-4).all() if reads else (gaps == 0.0).all(), problem)

    rule.__doc__ = f"It reads the {part} set if it declares so, and else has no way to it."
    return rule


def unused_rows(trial: Trial) -> None:
    """Rows in no set have no effect."""
    data = changed(toy.UNUSED)
    population = trial.run(data=data, start=trial.begun(trial.original, data=data))
    toy.same(population.variables, trial.unlearned.variables)


def weightless(trial: Trial) -> None:
    """Examples of weight 0 have no effect, on a model without batch statistics."""
    fold, plan, hp = prepare_entry(trial.entry, toy.problem(), trial.case.settings, toy.SIZES)
    dead = np.concatenate([toy.KEPT[::4], toy.REQUESTED[::3]])
    weight = np.ones((1, toy.ROWS), np.float32)
    weight[:, dead] = 0.0
    sets, keys = toy.tables(1)._replace(weight=weight), member_keys(0, trial.entry.name, 1)
    variables = toy.perceptron().init(keys[0], toy.stored().inputs)
    start = jax.tree.map(lambda x: np.asarray(x)[None], variables)
    arguments = {"fold": fold, "plan": plan, "hp": hp, "sets": sets, "keys": keys, "start": start}
    results = [toy.solo(0, data=data, **arguments)[0] for data in (toy.stored(), changed(dead))]
    gap = max(float(np.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, results)))
    require(gap < 1e-6, f"examples of weight 0 move weights by {gap:.2g}: average with batch.weight")


def fresh_start(trial: Trial) -> None:
    """Only a fresh start forgets the original weights."""
    rng = np.random.default_rng(0)
    start = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(x.dtype), trial.original)
    gaps, fresh = trial.gaps(trial.run(start=trial.begun(start))), "fresh_init" in trial.entry.needs
    problem = (
        "depends on the original in spite of the need 'fresh_init'" if fresh else "takes no account of the original"
    )
    require((gaps == 0.0).all() if fresh else (gaps > 1e-2).all(), problem)


def fresh_key(trial: Trial) -> None:
    """A fresh start follows the member's key."""
    start, keys = trial.begun(trial.original, seed=1), member_keys(1, trial.entry.name, MEMBERS)
    gaps = trial.gaps(trial.run(keys=keys, start=start))
    require((gaps > 1e-2).all(), "other keys give the same members: draw the start from init's key")
