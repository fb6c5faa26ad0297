"""Remedies around methods on answers of tokens: a table of next-token logits, six statements, two of them requested."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import toy

from unlearn_jax.data.splits import RequestRows
from unlearn_jax.methods import prepare
from unlearn_jax.methods.runner import RunSpec
from unlearn_jax.population.members import member_keys
from unlearn_jax.population.program import Stored
from unlearn_jax.population.run import Options
from unlearn_jax.remedies import REMEDIES, remedy_settings
from unlearn_jax.studies.remedies import evidence_of

_FOUND = importlib.util.spec_from_file_location("statements", Path(__file__).parents[1] / "methods" / "statements.py")
statements = importlib.util.module_from_spec(_FOUND)
_FOUND.loader.exec_module(statements)

EMPTY, MEMBERS = np.zeros(0, np.int32), 2
ASKED, KEPT = np.array([0, 1], np.int32), np.array([2, 3, 4, 5], np.int32)
LABELS = np.array([0, 1, 0, 1, 0, 1], np.int32)
SHORT = {"steps": 3, "batch": 2}
ONE = {"rule": "nearest", "k": 1}  # of each requested, or nobody would stay
ROWS = {  # method, its settings, the remedy's; a table has no layer to tap, so influence_closure is not among them
    "expand": ("grad_diff", ONE),
    "weight": ("grad_diff", ONE),
    "dedup_first": ("grad_diff", {"threshold": 0.5}),
    "likelihood_ratio": ("grad_diff", {"ratio": 0.0, "k": 1}),
    "local_teacher": ("do_nothing", SHORT | ONE | {"neighbours": 2, "teacher_share": 1.0}),
    "project": ("grad_diff", ONE),
    "paraphrase": ("grad_diff", {"drop": 0.5}),
    "corrective": ("grad_diff", {"alpha": 0.1, "batch": 4}),
    "partition": ("grad_diff", {}),
    "cluster_sharding": ("sisa", {"threshold": 0.99}),
}
OTHERS = [name for name in ROWS if name not in ("expand", "local_teacher", "paraphrase")]
GIVEN = {"grad_diff": {"epochs": [3], "batch": [2], "lr": [0.1]}, "sisa": {"shards": [2], "slices": [1]}}


def evidence(method, remedy, original):
    """What a remedy is given of the statements."""
    batch, problem = statements.batch(range(6)), statements.PROBLEM
    one = RequestRows(ASKED, EMPTY, KEPT[:1], KEPT[1:], EMPTY, EMPTY, EMPTY, 1.0)
    job = RunSpec(
        problem, Stored(batch.inputs, batch.targets), [one] * MEMBERS, prepare("retrain", problem),
        Options(chunk=MEMBERS), 0, 6, "small", 0.0,
    )  # fmt: skip
    bench = SimpleNamespace(kind="facts", labels=LABELS, texts=None)
    return evidence_of(SimpleNamespace(bench=bench), job, method, remedy, GIVEN.get(method, {}), original)


@pytest.fixture(scope="module")
def original():
    """Variables of two members, as they are drawn."""
    keys = member_keys(0, "original", MEMBERS)
    return jax.tree.map(np.asarray, jax.vmap(lambda key: statements.table().init(key, None))(keys))


@pytest.mark.parametrize("name", toy.some(["expand", "local_teacher", "paraphrase", *OTHERS], 3))
def test_a_remedy_runs_on_answers_of_tokens(name, original):
    method, settings = ROWS[name]
    given = evidence(method, name, original)
    done = REMEDIES[name].apply(given, remedy_settings(name, settings))
    variables = done.unlearned.population.variables
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(variables))
    if method != "sisa":
        assert (toy.gap(variables, original) > 1e-3).all()
    for rows in done.found or ():
        assert np.isin(rows, KEPT).all()
