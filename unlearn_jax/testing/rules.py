"""The rules of the contract; `RULES` has them by name, in the order in which they are checked."""

from __future__ import annotations

import jax
import numpy as np

from unlearn_jax.methods import prepare_entry
from unlearn_jax.methods.support.common import NEEDS
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.testing import toy
from unlearn_jax.testing.contract import CHANCE, FALL, MEMBERS, Rule, Trial, changed, require


def declared(trial: Trial) -> None:
    """The entry says what the library must know."""
    entry, other = trial.entry, trial.case.other
    require(entry.name and entry.paper and entry.rule, "name, paper or rule is empty")
    require(
        entry.needs and entry.needs <= set(NEEDS), f"needs are {sorted(entry.needs)}: give some of {', '.join(NEEDS)}"
    )
    require(not set(entry.numeric) & set(entry.static), "a setting is numeric and static")
    require(all(isinstance(v, float) for v in entry.numeric.values()), "a numeric default is no float")
    require(other is None or set(other) == set(entry.numeric), "other values are not of the numeric settings")
    require(entry.batch_stats in ("retain", "both", "none"), "batch_stats is not retain, both or none")
    outside = bool(entry.needs & {"protocol", "reference", "heldout"})
    require(
        (entry.begin is not None or entry.end is not None) == outside,
        "begin or end go with the needs protocol, reference or heldout, and with no others",
    )


def keeps_shapes(trial: Trial) -> None:
    """Variables keep structure, shape and dtype, and are finite; every update has a loss."""
    described = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    found, begins = trial.unlearned, trial.start
    like = {part: begins[part] for part in ("params", "state")}
    require(
        described(found.variables) == described(like), "the result has other parts, shapes or dtypes than the start"
    )
    if trial.entry.model is None:
        require(described(found.variables) == described(trial.original), "the result is not shaped as the original")
    require(_finite(found.variables), "a weight is not finite")
    losses, steps = int(np.isfinite(found.loss).sum()), trial.made[1].steps
    require(losses == MEMBERS * steps, f"{losses} losses are finite, of {MEMBERS} members with {steps} updates")


def deterministic(trial: Trial) -> None:
    """A second run compiles nothing and gives the same bits."""
    first, before = trial.unlearned, len(toy.COMPILED)
    again = trial.run()
    require(again.compile_seconds == 0.0 and len(toy.COMPILED) == before, "a second run compiles anew")
    toy.same(again.variables, first.variables)


def no_collectives(trial: Trial) -> None:
    """No device talks to another."""
    _ = trial.unlearned  # compiles
    program, devices = toy.program(trial.made[0]), jax.device_count()
    for compiled in (program.begin, program.advance, program.end):
        found = toy.collectives(compiled)
        require(not found, f"devices talk to one another: {', '.join(sorted(found))}")
        if devices > 1 and MEMBERS % devices == 0:
            require(f"num_partitions={devices}" in compiled.as_text(), "the members are not spread over the devices")


def solo(trial: Trial) -> None:
    """A member equals itself unlearned alone, without any member axis."""
    fold, plan, hp = trial.made
    keys = member_keys(0, trial.entry.name, MEMBERS)
    given = {"fold": fold, "plan": plan, "hp": hp, "data": toy.stored(), "sets": toy.tables(MEMBERS), "keys": keys}
    alone, loss = toy.solo(5, **given, start=trial.start)
    toy.close(toy.member(trial.unlearned.variables, 5), alone)
    found = trial.unlearned.loss[5]
    np.testing.assert_allclose(found[np.isfinite(found)], loss, rtol=1e-3, atol=1e-4)


def host_loop(trial: Trial) -> None:
    """A loop on the host equals one on the device."""
    toy.close(trial.run(loop="host").variables, trial.unlearned.variables)


def hyperparameters(trial: Trial) -> None:
    """Every numeric hyperparameter has an effect, differs by member where asked, and needs no program of its own."""
    hp, other, least = trial.made[2], trial.other, 1e-4 if trial.case.other is not None else 1e-6
    _ = trial.unlearned  # compiles
    alike = np.zeros(MEMBERS, int)
    keys = member_keys(0, trial.entry.name, MEMBERS)[alike]
    for first in range(0, max(len(other), 1), MEMBERS - 1):
        names = list(other)[first : first + MEMBERS - 1]
        values = {key: np.full(MEMBERS, value) for key, value in hp.items()}
        for i, key in enumerate(names):
            values[key][i + 1] = other[key]
        found = trial.run(hp=values, keys=keys, start=toy.member(trial.start, alike))
        require(found.compile_seconds == 0.0, "a value of a numeric setting takes a program of its own")
        gaps = toy.gap(found.variables, toy.member(found.variables, alike))
        idle = [name for name, gap in zip(names, gaps[1:]) if not gap > least]
        require(
            not idle, f"no effect of {', '.join(f'{n} = {other[n]:g}' for n in idle)}: give other values, or drop it"
        )
        require((gaps[1 + len(names) :] < 1e-6).all(), "equal members with equal settings differ")
        toy.close(toy.member(found.variables, 0), toy.member(trial.unlearned.variables, 0))


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
    said = "follow" if follow.any() else "do not follow"
    require((follow == (entry.batch_stats == "both")).all(), f"they {said} the request, not as batch_stats declares")


def forgets(trial: Trial) -> None:
    """The loss of a memorised request rises."""
    before = trial.losses(trial.original, toy.REQUESTED, before=True)
    after = trial.losses(trial.unlearned.variables, toy.REQUESTED)
    require(before.mean() < 0.5 * CHANCE, "the originals have not memorised the request")
    said = (
        f"the request's loss goes from {before.mean():.2f} to {after.mean():.2f}: it is to rise by .1, in each member"
    )
    require((after > before).all() and (after - before).mean() > 0.1, said)


def retains(trial: Trial) -> None:
    """The loss on retained data stays bounded."""
    loss = trial.losses(trial.unlearned.variables, toy.KEPT).mean()
    require(
        loss < FALL * CHANCE, f"the loss on retained data is {loss:.2f}, above {FALL * CHANCE:.2f}: milder settings?"
    )


def _sees(part: str, rows: np.ndarray):
    """The rule that a method sees a set if it declares so, and else not at all."""

    def rule(trial: Trial) -> None:
        data, reads = changed(rows), part in trial.entry.needs
        gaps = trial.gaps(trial.run(data=data, start=trial.begun(trial.original, data=data)))
        said = (
            f"declares the need '{part}' and does not read it" if reads else f"reads what only the need '{part}' gives"
        )
        require((gaps > 1e-4).all() if reads else (gaps == 0.0).all(), said)

    rule.__doc__ = f"It reads the {part} set if it declares so, and else has no way to it."
    return rule


def unused_rows(trial: Trial) -> None:
    """Rows in no set have no effect."""
    data = changed(toy.UNUSED)
    found = trial.run(data=data, start=trial.begun(trial.original, data=data))
    toy.same(found.variables, trial.unlearned.variables)


def weightless(trial: Trial) -> None:
    """Examples of weight 0 have no effect, on a model without batch statistics."""
    fold, plan, hp = prepare_entry(trial.entry, toy.problem(), trial.case.settings, toy.SIZES)
    dead = np.concatenate([toy.KEPT[::4], toy.REQUESTED[::3]])
    weight = np.ones((1, toy.ROWS), np.float32)
    weight[:, dead] = 0.0
    sets, keys = toy.tables(1)._replace(weight=weight), member_keys(0, trial.entry.name, 1)
    variables = toy.perceptron().init(keys[0], toy.stored().inputs)
    start = jax.tree.map(lambda x: np.asarray(x)[None], variables)
    given = {"fold": fold, "plan": plan, "hp": hp, "sets": sets, "keys": keys, "start": start}
    found = [toy.solo(0, data=data, **given)[0] for data in (toy.stored(), changed(dead))]
    gap = max(float(np.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, found)))
    require(gap < 1e-6, f"examples of weight 0 move weights by {gap:.2g}: average with batch.weight")


def fresh_start(trial: Trial) -> None:
    """Only a fresh start forgets the original weights."""
    rng = np.random.default_rng(0)
    start = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(x.dtype), trial.original)
    gaps, fresh = trial.gaps(trial.run(start=trial.begun(start))), "fresh_init" in trial.entry.needs
    said = "depends on the original in spite of the need 'fresh_init'" if fresh else "takes no account of the original"
    require((gaps == 0.0).all() if fresh else (gaps > 1e-2).all(), said)


def fresh_key(trial: Trial) -> None:
    """A fresh start follows the member's key."""
    start, keys = trial.begun(trial.original, seed=1), member_keys(1, trial.entry.name, MEMBERS)
    gaps = trial.gaps(trial.run(keys=keys, start=start))
    require((gaps > 1e-2).all(), "other keys give the same members: draw the start from init's key")


def without_request(trial: Trial) -> None:
    """A member without request keeps finite weights; without retained data too it stays where it is."""
    requested = [toy.REQUESTED] * (MEMBERS - 1) + [toy.REQUESTED[:0]]
    sets = make_tables([toy.KEPT] * MEMBERS, requested, pad_to=50)
    found = trial.run(sets=sets, start=trial.begun(trial.original, requested=requested))
    require(found.compile_seconds == 0.0, "a member without request takes a program of its own")
    require(_finite(found.variables), "a member without request gets weights that are not finite")
    require(np.isfinite(found.loss).sum() == MEMBERS * trial.made[1].steps, "its loss is not finite")
    others = slice(MEMBERS - 1)
    toy.same(toy.member(found.variables, others), toy.member(trial.unlearned.variables, others))
    if trial.entry.needs <= {"forget", "teacher", "pixels"} and trial.entry.begin is None:
        toy.close(toy.member(found.variables, MEMBERS - 1), toy.member(trial.original, MEMBERS - 1), 1e-7)


def cost(trial: Trial) -> None:
    """The plan costs what was counted by hand, where it was, and has a row for each update."""
    plan, case = trial.made[1], trial.case
    if case.steps is not None:
        found = plan.steps, plan.grad_evals_forget, plan.grad_evals_retain
        counted = case.steps, case.forget, case.retain
        said = "the plan has {} updates at {:g} + {:g} gradient evaluations, by hand {} at {:g} + {:g}"
        require(np.allclose(found, counted, rtol=1e-6), said.format(*found, *counted))
    for column in (plan.forget_step, plan.retain_step, plan.forget_cost, plan.retain_cost, plan.rate):
        require(column.shape == (plan.steps,), "a column of the plan is not as long as its phases")


def pays(trial: Trial) -> None:
    """Every requested and retained example is shown where, and only where, it is paid for."""
    plan = trial.made[1]
    slots = {
        "forget": (plan.forget_cost > 0).sum() * plan.forget_batch,
        "retain": (plan.retain_cost > 0).sum() * plan.retain_batch,
    }
    for part, size in (("forget", len(toy.REQUESTED)), ("retain", len(toy.KEPT))):
        said = f"{slots[part]} slots of the {part} set are paid for, of {size} examples, with needs"
        require((slots[part] >= size) == (part in trial.entry.needs), f"{said} {sorted(trial.entry.needs)}")


def one_fold(trial: Trial) -> None:
    """The fold is one object for one problem and setting, so that its program is reused."""
    made = lambda more: prepare_entry(trial.entry, toy.problem(trial.model), trial.case.settings | more, toy.SIZES)
    require(made({})[0] is trial.made[0], "the same settings give another fold: build is to be one function")
    fold, _, values = made(trial.other)
    require(fold is trial.made[0] and values == trial.other, "other numeric values give another fold")


def _finite(variables) -> bool:
    return all(np.isfinite(x).all() for x in jax.tree.leaves(variables))


RULES: dict[str, Rule] = {
    "declared": Rule(declared),
    "cost": Rule(cost),
    "pays": Rule(pays, lambda entry: "protocol" not in entry.needs),  # which sees them before the plan begins
    "one_fold": Rule(one_fold),
    "keeps_shapes": Rule(keeps_shapes),
    "deterministic": Rule(deterministic),
    "no_collectives": Rule(no_collectives),
    "hyperparameters": Rule(hyperparameters),
    "does_nothing": Rule(does_nothing, lambda entry: "nothing" in entry.needs),
    "moves": Rule(moves, lambda entry: "nothing" not in entry.needs and entry.model is None),
    "statistics": Rule(statistics),
    "forgets": Rule(forgets, lambda entry: "forget" in entry.needs),
    "retains": Rule(retains, lambda entry: "retain" in entry.needs),
    "sees_forget": Rule(_sees("forget", toy.REQUESTED)),
    "sees_retain": Rule(_sees("retain", toy.KEPT)),
    "unused_rows": Rule(unused_rows, lambda entry: "heldout" not in entry.needs),
    "fresh_start": Rule(fresh_start),
    "fresh_key": Rule(fresh_key, lambda entry: "fresh_init" in entry.needs),
    "without_request": Rule(without_request),
    "host_loop": Rule(host_loop),
    "solo": Rule(solo),
    "weightless": Rule(weightless, lambda entry: entry.begin is entry.end is entry.model is None),
}
