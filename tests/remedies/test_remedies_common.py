"""The contract of every registered remedy, around one method each on the toy; `ROWS` must have a row for each."""

from typing import NamedTuple

import jax
import numpy as np
import plots
import pytest
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS
from unlearn_jax.remedies import REMEDIES, RemedyContext, remedy_settings, select_remedies

F, R, FORWARD = 10.0, 40.0, 1 / 3


class Row(NamedTuple):
    """A method that the remedy wraps, settings, what it finds, and its cost by hand: 10 requested, 40 retained."""

    method: str
    given: dict  # of the method
    settings: dict
    finds: bool | None  # True = exactly the planted copies, False = most of them, None = it does not search
    cost: tuple[float, float]


BESIDE = {"epochs": [3], "batch": [16], "pieces": [0], "lr": [0.01]}
STEPS = {"steps": 6, "batch": 16}
PLAIN = (3 * 10.0, 3 * 16.0)  # a batch holds the request, 16 retained stand beside it
EXPANDED = (6 * 16.0, 6 * 16.0)  # 20 requested are two batches
LOOKS = {"similarity": "inputs"}  # by what examples look like, of which the hand knows the copies
ROWS = {
    "expand": Row("grad_diff", BESIDE, LOOKS, True, EXPANDED),
    "weight": Row("grad_diff", BESIDE, LOOKS, True, EXPANDED),
    "dedup_first": Row("grad_diff", BESIDE, {"representative": "requested"}, True, EXPANDED),
    "influence_closure": Row("grad_diff", BESIDE, {"k": 1}, False, (EXPANDED[0] + 2 * F, EXPANDED[1] + 2 * R)),
    "likelihood_ratio": Row("grad_diff", BESIDE, LOOKS | {"k": 4}, True, EXPANDED),
    "local_teacher": Row(
        "do_nothing", {}, LOOKS | STEPS | {"neighbours": 5, "teacher_share": 0.5}, True,
        (6 * 16 * (1 + FORWARD), 6 * 16 * (1 + FORWARD) + 0.5 * 20 * 16),
    ),  # fmt: skip
    "tilt": Row(
        "do_nothing", {}, LOOKS | STEPS, True,
        (6 * 16 * (1 + FORWARD) + F * FORWARD, 6 * 16 * (1 + FORWARD) + R * FORWARD),
    ),  # fmt: skip
    "stand_in": Row(
        "do_nothing", {}, LOOKS | {"share": 0.5, "total": 1.0, "calibrate": 0, "batch": 16}, True,
        (3 * 16 * (1 + FORWARD), 3 * 16 * (1 + FORWARD) + 0.5 * 20 * 16),  # half on the stand-in, three updates remain
    ),  # fmt: skip
    "project": Row("grad_diff", BESIDE, LOOKS, True, (EXPANDED[0] * (1 + FORWARD), EXPANDED[1] * (2 + FORWARD))),
    "perturb": Row("grad_diff", BESIDE, {"radius": 0.3}, None, PLAIN),
    "paraphrase": Row("grad_diff", BESIDE, {}, None, PLAIN),
    "corrective": Row("grad_diff", BESIDE, {"batch": 16}, None, (PLAIN[0] + F, PLAIN[1] + R)),
    "partition": Row(
        "grad_diff", BESIDE, {"parts": 2}, None, (2 * 3 * 5.0 + F * FORWARD, 2 * 3 * 16.0)
    ),
    "cluster_sharding": Row("sisa", {"shards": [2], "slices": [1]}, {}, True, None),
}  # fmt: skip
NAMES = sorted(REMEDIES)
every_remedy = pytest.mark.parametrize("name", NAMES)


def applied(name, original, settings=None, **more):
    """What a remedy makes of the toy study."""
    row = ROWS[name]
    evidence = plots.evidence(row.method, name, original, row.given, **more)
    return REMEDIES[name].apply(evidence, remedy_settings(name, row.settings | (settings or {})))


@pytest.fixture(scope="module")
def done(original):
    """Every remedy's result, by name, once."""
    found = {}

    def get(name):
        if name not in found:
            found[name] = applied(name, original)
        return found[name]

    return get


def test_every_registered_remedy_has_a_row_here():
    assert set(ROWS) == set(REMEDIES)


@every_remedy
def test_entries_say_what_the_library_must_know(name):
    remedy = REMEDIES[name]
    assert remedy.name == name and remedy.paper and remedy.rule and not remedy.rule.endswith(".")
    assert not set(remedy.numeric) & set(remedy.static)
    assert all(isinstance(value, float) for value in remedy.numeric.values())
    assert {*remedy.choices, *remedy.shares} <= {*remedy.static}
    assert all(remedy.static[key] in values for key, values in remedy.choices.items())
    reasons = [remedy.methods(entry) for entry in METHODS.values()]
    assert "" in reasons and not any(said.endswith(".") for said in reasons)
    assert not remedy.methods(METHODS[ROWS[name].method])


def test_evidence_has_no_word_of_clusters_copies_or_oracles(original):
    evidence = plots.evidence("finetune", "expand", original)
    assert not set(RemedyContext._fields) & {"cluster", "origin", "copy", "similar", "rest", "clean", "oracle", "bench"}
    context = evidence.context(evidence.plain)
    for i in range(plots.MEMBERS):  # what a method may call free of the clusters is all that is kept
        np.testing.assert_array_equal(context.clean[i], evidence.kept[i])


@every_remedy
def test_a_remedy_keeps_shapes_moves_finds_the_planted_copies_and_costs_what_is_counted_by_hand(name, done, original):
    found, (unlearned, row) = done(name).found, (done(name).unlearned, ROWS[name])
    variables = unlearned.population.variables
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(variables))
    if METHODS[row.method].model is None:
        described = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
        assert described(variables) == described(original)
        assert (toy.gap(variables, original) > 1e-3).all()
    assert row.cost is None or unlearned.grad_evals == pytest.approx(row.cost)
    assert (found is None) == (row.finds is None)
    for rows in found or ():
        if row.finds:
            np.testing.assert_array_equal(rows, plots.PLANTED)
        else:
            assert np.isin(plots.PLANTED, rows).sum() >= 8 and len(rows) <= 10


@pytest.mark.parametrize("name", toy.some(["tilt", *(name for name in NAMES if name != "tilt")], 1))
def test_a_second_run_gives_the_same_bits(name, done, original):
    first, before = done(name).unlearned.population, len(toy.COMPILED)
    again = applied(name, original).unlearned.population
    toy.same(again.variables, first.variables)
    assert again.compile_seconds < 0.5 and len(toy.COMPILED) - before <= 8  # no fold of its own a second time


@every_remedy
def test_an_unknown_setting_lists_the_valid_ones(name):
    with pytest.raises(InputError, match=f"remedy '{name}' has no setting 'tempo'") as caught:
        remedy_settings(name, {"tempo": 1})
    assert all(key in str(caught.value) for key in REMEDIES[name].numeric | REMEDIES[name].static)


def test_remedies_are_selected_by_name_or_group():
    assert select_remedies("all") == list(REMEDIES) and select_remedies("none") == [] == select_remedies("")
    assert select_remedies("tilt, expand,tilt") == ["tilt", "expand"]
    with pytest.raises(InputError, match="unknown remedy 'dedup'"):
        select_remedies("dedup")
