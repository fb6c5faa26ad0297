"""Every method of the registry runs through the call, or is refused with its reason; the page's table says which."""

from pathlib import Path

import jax
import nets
import numpy as np
import pytest
import toy

from unlearn_jax import METHODS, InputError, unlearn, unlearnable
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.own.refusals import NEVER
from unlearn_jax.own.table import methods_table, needs_of

ROOT = Path(__file__).parents[2]
CLASS = {  # a request of a whole class
    "forget": (nets.X[nets.Y == 2][:-4], nets.Y[nets.Y == 2][:-4]),
    "retain": (nets.X[nets.Y < 2], nets.Y[nets.Y < 2]),
    "validation": (nets.X[-12:], nets.Y[-12:]),
    "recipe": Recipe(steps=20, batch=40, lr=0.03),
}
NETS = {"plain": nets.Plain(), "normed, with dropout": nets.Averaging(0.2)}
QUICK = ("scrub_r", "unsir", "brief_retrain", "sisa")  # of each kind of need


def test_the_methods_that_are_refused_are_those_without_a_way():
    why = unlearnable(nets.Plain(), nets.drawn(nets.Plain()), **CLASS)
    assert list(why) == list(METHODS)
    refused = {name for name, said in why.items() if said}
    assert refused == {n for n, e in METHODS.items() if e.needs & {*NEVER, "head"} or "classes" not in e.reads}
    assert {name for name in METHODS if needs_of(METHODS[name]) is None} == refused - {"certified_removal"}
    assert all(name in why[name] and why[name].endswith(".") for name in refused)


def test_a_bare_function_without_anything_else_names_what_each_method_wants_for():
    why = unlearnable(nets.forward, nets.listed(), forget=nets.FORGET)
    for name, said in why.items():
        needs = needs_of(METHODS[name])
        assert bool(said) == (needs is None or bool(set(needs) - {"pixels"})), name
        if said:
            with pytest.raises(InputError) as refused:
                unlearn(nets.forward, nets.listed(), forget=nets.FORGET, method=name)
            assert str(refused.value) == said
    assert why["gradient_ascent"] == "" and "features" in why["boundary_expand"]


@pytest.mark.filterwarnings("ignore:.*lowered validation accuracy")
@pytest.mark.parametrize(
    ("net", "name"),
    [
        pytest.param(net, name, marks=[] if name in QUICK and net != "plain" else [pytest.mark.slow])
        for net in NETS
        for name in METHODS
    ],
)
def test_a_method_runs_or_says_why_not(net, name):
    given = nets.drawn(NETS[net])
    if needs_of(METHODS[name]) is None or "head" in METHODS[name].needs:
        with pytest.raises(InputError, match=name):
            unlearn(NETS[net], given, **CLASS, method=name)
        return
    new = unlearn(NETS[net], given, **CLASS, method=name)
    assert jax.tree.structure(new) == jax.tree.structure(given)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(new))
    if "nothing" in METHODS[name].needs:
        toy.same(new, given)
    else:
        assert nets.gap(new["params"], given["params"]) > 1e-6


def test_the_table_of_the_page_is_that_of_the_registry():
    page = (ROOT / "docs/howto/own_model.md").read_text("utf-8")
    assert methods_table() in page, "run: python -m unlearn_jax.own.table"
