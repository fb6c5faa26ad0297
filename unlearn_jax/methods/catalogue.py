"""The catalogue as a page: every method with its paper, rule, needs, cost and variant, from the registry alone.

python -m unlearn_jax.methods.catalogue > docs/methods.md
"""

from __future__ import annotations

from typing import Any

from unlearn_jax.methods import CORE, METHODS, SCALES, has_scale, plan_of
from unlearn_jax.methods.support.common import NEEDS, MethodSpec, Recipe
from unlearn_jax.population.plans import Sizes

EXAMPLE = Sizes(forget=30, retain=1200, classes=10)  # a request on digits, for the costs
STATISTICS = {"retain": "retained batches", "both": "all batches", "none": "unchanged"}
OPENING = """# Methods

Made from the registry by `python -m unlearn_jax.methods.catalogue`; a test holds this page to it. Each method is one
file of `unlearn_jax/methods/`, whose docstring says the rule and how it differs from the paper. `--methods core` runs
{core};
`--methods all` everything here but the class-only ones, which need `--targets whole_class`. What each leaves, and at
what price: [results](results.md#in-short), [leaderboard](leaderboard.md); the rules at length:
[rules](reference/rules.md); a method of your own: [extending](extending.md).

All methods run on N members in one program, seeds and numeric hyperparameters side by side. Some do part of their work
before it, in populations of their own through the same runner: the protocols, which prescribe how the original is
trained, and the matching methods, which are given the outputs of other retrained models. Of these `oracle_matching`
alone is an upper bound; `datamodel_matching` imitates `retrain`, which bounds it.

**Needs**: {needs}.

**Cost** in gradient evaluations (forward and backward of one example; a forward pass is a third, a Hessian-vector
product two) on the request and on retained data, at the defaults, for {forget} requested and {retain:,} retained
examples; `begin` stands for what a method spends before its own plan: the records' `grad_evals` and `seconds` count it
where it is not the original training, `--budget` leaves it out. `--budget B` gives every method with a length
(`epochs`, `rounds` or `steps`) the greatest at which its own plan costs at most B, and stretches with it what counts in
the same unit (`scrub`'s `max_epochs` and `decay`). **Batch statistics**: whose batches move the
running statistics of a model with batch normalisation.

**Not here**, as their rules could not be had in full: REM (redirection for erasing memory, arXiv 2505.17730), of which
the idea and the losses can be read but not how many channels are added where, how many masks there are and how much of
the new channels each leaves on; and NEDS (arXiv 2603.12275), of which the abstract can, which names a distribution
shaped over a fact's neighbours in a knowledge graph and no loss.
"""


def cost(entry: MethodSpec) -> str:
    """Gradient evaluations on request and retained data at `EXAMPLE`."""
    plan = plan_of(entry, EXAMPLE, entry.static, Recipe())
    text = f"{plan.grad_evals_forget:,.0f} / {plan.grad_evals_retain:,.0f}"
    return text + (" + begin" if entry.needs & {"reference", "protocol"} else "")


def settings(entry: Any) -> str:
    """The defaults of a method or a remedy as NAME VALUE, numeric ones first."""

    def text(value) -> str:
        if isinstance(value, tuple):
            return "+".join(map(str, value))
        return f"{value:g}" if isinstance(value, float) else str(value).lower()

    return ", ".join(f"{name} {text(value)}" for name, value in {**entry.numeric, **entry.static}.items())


def methods_table() -> str:
    """A row for each method: name, paper, rule, needs, cost, batch statistics, notes."""
    lines = ["| method | paper | rule | needs | cost F / R | batch statistics | notes |", "|" + " --- |" * 7]
    for name, entry in METHODS.items():
        needs = ", ".join(need for need in NEEDS if need in entry.needs)
        cells = (f"`{name}`", entry.paper, entry.rule, needs, cost(entry), STATISTICS[entry.batch_stats], entry.notes)
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def presets_table() -> str:
    """Defaults of each method, and what other scales change, with where that comes from."""
    lines = ["| method | small | " + " | ".join(SCALES[1:]) + " | from |", "|" + " --- |" * (2 + len(SCALES))]
    for name, entry in METHODS.items():
        cells, sources = [f"`{name}`", settings(entry) or "the recipe's"], []
        for scale in SCALES[1:]:
            preset, source = entry.presets.get(scale, ({}, ""))
            changed = {k: v for k, v in preset.items() if v != {**entry.numeric, **entry.static}[k]}
            same = "the same" if has_scale(entry, scale) else "none"
            cells.append(settings(entry._replace(numeric={}, static=changed)) or same)
            sources += [f"{scale}: {source}"] if source else []
        small = entry.presets.get("small", ({}, ""))[1]
        lines.append("| " + " | ".join([*cells, "; ".join([f"small: {small}"] * bool(small) + sources)]) + " |")
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    needs = "; ".join(f"*{name}* = {text}" for name, text in NEEDS.items())
    core = ", ".join(f"`{name}`" for name in CORE)
    opening = OPENING.format(core=core, needs=needs, forget=EXAMPLE.forget, retain=EXAMPLE.retain)
    defaults = (
        "## Defaults\n\n"
        "`--scale small|small_conv|small_text|small_transformer|cifar|language` chooses the column; without it a study "
        "takes cifar on CIFAR, elsewhere small for perceptrons (small_text on documents), small_transformer for "
        "language models and text encoders, and small_conv for every other network. A method without a source for a "
        "scale is not run at it. `--hp METHOD.NAME=VALUE` overrides.\n\n"
        "Defaults marked *the rule above* are chosen by margins of examples that nobody was trained on: those of small "
        "on digits, those of small_text on `bulletins`, by a perceptron either time. Of a grid of three to nine "
        "values, those are allowed that keep 98% of the retained examples, rest and similar together, at three sizes "
        "of the request: 30 random targets with 4 near copies of each, 150 (with 2 on digits, 4 on bulletins), and a "
        "whole class (seed 7, 8 members). Of them it is the one with the smallest `sqrt((e / 4)^2 + g^2)`, mean over "
        "the first two sizes: e is how far mean margins of held-out examples are from the original's, and g how far "
        "the request's mean margin is, in either direction, from the one that held-out examples suggest for examples "
        "like it that nobody was trained on (`unlearn_jax.metrics.heldout.expected_margins`), in nats. Of a whole "
        "class there is no such margin to be had. It is the rule `margins` of "
        "[sweeps](sweeps.md#by-what-a-setting-is-chosen) but for taking too much forgetting for as bad as too little. "
        "No oracle is looked at, nor the targets or seed of any reported figure. `python experiments/defaults.py "
        "--choose --methods NAME` runs the rule, and without `--choose` shows [what methods do at their "
        "defaults](defaults.md). On those 30 digits held-out examples suggest a margin of 12.5, which is the oracle's "
        "own; of atypical ones they suggest 8.9 where the oracle has 6.3, so that there the rule errs towards "
        "forgetting too little. On bulletins copies say much of a document, and held-out documents suggest some 6 nats "
        "less than the original has, so that methods which change nothing are as far from the rule's aim as methods "
        "which undo training.\n\n"
        "Where a request's length is the method's (`pieces` in the table), it is split into that number of batches "
        "whatever its size, so that the number of updates does not grow with it: 12 as in ten passes over TOFU's "
        "forget10 by 32. An ascent ends at chance (`bound` 1). What else the family of `gradient_ascent`, `grad_diff`, "
        "`kl_retain`, `npo`, `simnpo`, `undial` and `satimp` has at small (`beta`, weights on retained data) is such "
        "that its members can be told apart: what two of them do to the margins of 30 targets correlates by .90 at "
        "most, of random targets and of atypical ones (2 CPU cores, jax 0.10.2, seed 7, 8 members: `python "
        "experiments/defaults.py --sizes 30 --methods gradient_ascent,grad_diff,kl_retain,npo,simnpo,undial,satimp`, "
        "and with `--targets atypical --skip-requests 4`); with ten updates each it was .95 to .99. Published "
        "settings, at cifar and language, have `pieces` 0, which means batches of the usual size, and `bound` inf "
        "where the paper has none.\n\n"
        "Defaults marked *the earlier rule above* are, of a grid of four, the value with the lowest margin on the "
        "request that kept 98% accuracy on retained digits, rest and similar together (random targets, 4 near copies "
        "of each, seed 7, 8 members): small_conv with `--model convnet`; small_transformer on retained statements of "
        "`facts` in the same way (4 members), by Adam throughout and at rates of 1e-4 to 3e-3, the lowest of which "
        "stands where no margin fell (`finetune`, `satimp`). That rule favours forgetting too much over too little, "
        "and another network bears less. At small_conv the methods that then lost what remains where a whole class was "
        "asked for (`woodfisher` kept 57%, `unsir` 70%, `jit_lipschitz` 38%, `warnecke_first` 84%, `warnecke_second` "
        "43%, `ssd` 90%, `lfssd` 93%, `cfw` 93%; 4 members) were chosen anew by the rule above, and so were those that "
        "lost it at 30 or 150 random targets (`random_label` 81%, `uam` 95%, `dpo_idk` 81%, `undial` 82%, `ceu` 72%); "
        "[what all do there](defaults.md#digits-a-convolutional-network). On facts the rule above chose `woodfisher`, "
        "`ssd`, `kde` and `prmq` (one size, 4 to 8 members), which had lost what remains. Choose rates anew for "
        "another model."
    )
    return f"{opening}\n{methods_table()}\n\n{defaults}\n\n{presets_table()}\n"


if __name__ == "__main__":
    print(page(), end="")
