"""The rules of the contract; `RULES` has them by name, in the order in which they are checked."""

from __future__ import annotations

import jax
import numpy as np

from unlearn_jax.methods import prepare_entry
from unlearn_jax.methods.support.common import NEEDS
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.testing import toy
from unlearn_jax.testing.contract import MEMBERS, Rule, Trial, require
from unlearn_jax.testing.effects import (
    does_nothing,
    forgets,
    fresh_key,
    fresh_start,
    moves,
    retains,
    sees,
    statistics,
    unused_rows,
    weightless,
)


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
    population, begins = trial.unlearned, trial.start
    like = {part: begins[part] for part in ("params", "state")}
    require(
        described(population.variables) == described(like),
        "the result has other parts, shapes or dtypes than the start",
    )
    if trial.entry.model is None:
        require(
            described(population.variables) == described(trial.original), "the result is not shaped as the original"
        )
    require(_finite(population.variables), "a weight is not finite")
    losses, steps = int(np.isfinite(population.loss).sum()), trial.made[1].steps
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
        collectives = toy.collectives(compiled)
        require(not collectives, f"devices talk to one another: {', '.join(sorted(collectives))}")
        if devices > 1 and MEMBERS % devices == 0:
            require(f"num_partitions={devices}" in compiled.as_text(), "the members are not spread over the devices")


def solo(trial: Trial) -> None:
    """A member equals itself unlearned alone, without any member axis."""
    fold, plan, hp = trial.made
    keys = member_keys(0, trial.entry.name, MEMBERS)
    arguments = {"fold": fold, "plan": plan, "hp": hp, "data": toy.stored(), "sets": toy.tables(MEMBERS), "keys": keys}
    alone, loss = toy.solo(5, **arguments, start=trial.start)
    toy.close(toy.member(trial.unlearned.variables, 5), alone)
    losses = trial.unlearned.loss[5]
    np.testing.assert_allclose(losses[np.isfinite(losses)], loss, rtol=1e-3, atol=1e-4)


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
        population = trial.run(hp=values, keys=keys, start=toy.member(trial.start, alike))
        require(population.compile_seconds == 0.0, "a value of a numeric setting takes a program of its own")
        gaps = toy.gap(population.variables, toy.member(population.variables, alike))
        idle = [name for name, gap in zip(names, gaps[1:]) if not gap > least]
        require(
            not idle, f"no effect of {', '.join(f'{n} = {other[n]:g}' for n in idle)}: give other values, or drop it"
        )
        require((gaps[1 + len(names) :] < 1e-6).all(), "equal members with equal settings differ")
        toy.close(toy.member(population.variables, 0), toy.member(trial.unlearned.variables, 0))


def without_request(trial: Trial) -> None:
    """A member without request keeps finite weights; without retained data too it stays where it is."""
    requested = [toy.REQUESTED] * (MEMBERS - 1) + [toy.REQUESTED[:0]]
    sets = make_tables([toy.KEPT] * MEMBERS, requested, pad_to=50)
    population = trial.run(sets=sets, start=trial.begun(trial.original, requested=requested))
    require(population.compile_seconds == 0.0, "a member without request takes a program of its own")
    require(_finite(population.variables), "a member without request gets weights that are not finite")
    require(np.isfinite(population.loss).sum() == MEMBERS * trial.made[1].steps, "its loss is not finite")
    others = slice(MEMBERS - 1)
    toy.same(toy.member(population.variables, others), toy.member(trial.unlearned.variables, others))
    if trial.entry.needs <= {"forget", "teacher", "pixels"} and trial.entry.begin is None:
        toy.close(toy.member(population.variables, MEMBERS - 1), toy.member(trial.original, MEMBERS - 1), 1e-7)


def cost(trial: Trial) -> None:
    """The plan costs what was counted by hand, where it was, and has a row for each update."""
    plan, case = trial.made[1], trial.case
    if case.steps is not None:
        of_plan = plan.steps, plan.grad_evals_forget, plan.grad_evals_retain
        counted = case.steps, case.forget, case.retain
        problem = "the plan has {} updates at {:g} + {:g} gradient evaluations, by hand {} at {:g} + {:g}"
        require(np.allclose(of_plan, counted, rtol=1e-6), problem.format(*of_plan, *counted))
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
        problem = f"{slots[part]} slots of the {part} set are paid for, of {size} examples, with needs"
        require((slots[part] >= size) == (part in trial.entry.needs), f"{problem} {sorted(trial.entry.needs)}")


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
    "sees_forget": Rule(sees("forget", toy.REQUESTED)),
    "sees_retain": Rule(sees("retain", toy.KEPT)),
    "unused_rows": Rule(unused_rows, lambda entry: "heldout" not in entry.needs),
    "fresh_start": Rule(fresh_start),
    "fresh_key": Rule(fresh_key, lambda entry: "fresh_init" in entry.needs),
    "without_request": Rule(without_request),
    "host_loop": Rule(host_loop),
    "solo": Rule(solo),
    "weightless": Rule(weightless, lambda entry: entry.begin is entry.end is entry.model is None),
}
