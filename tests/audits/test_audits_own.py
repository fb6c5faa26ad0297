"""Files of logits: what is read, and one sentence for everything that cannot be."""

import numpy as np
import pytest

from unlearn_jax.audits import Precision, audit_logits
from unlearn_jax.audits.own import read_logits
from unlearn_jax.errors import InputError
from unlearn_jax.results.tables import read_csv

N, CLASSES = 24, 3
SPLIT = np.repeat(["forget", "similar", "retain", "test"], 6)
LABELS = np.arange(N) % CLASSES


def files(tmp_path, changes=None, names=("original", "retrain", "unlearned"), members=8):
    """Files of random logits; the first holds labels and splits; ``changes`` by population replaces arrays."""
    rng, found = np.random.default_rng(0), {}
    for number, name in enumerate(names):
        arrays = {"logits": rng.normal(size=(members, N, CLASSES)).astype(np.float32)}
        arrays |= {"labels": LABELS, "split": SPLIT} if number == 0 else {}
        arrays |= (changes or {}).get(name, {})
        arrays = {key: value for key, value in arrays.items() if value is not None}
        found[name] = tmp_path / f"{name}.npz"
        np.savez(found[name], **arrays)
    return found


def test_populations_are_read_by_split_with_references_first(tmp_path):
    panels = read_logits(files(tmp_path, names=("unlearned", "retrain", "original")))
    assert [p.name for p in panels.populations] == ["retrain", "original", "unlearned"]
    assert {s: x.shape for s, x in panels.populations[0].logits[0].items()} == {
        split: (8, 6, CLASSES) for split in ("forget", "similar", "rest", "test")
    }
    with np.load(tmp_path / "unlearned.npz") as stored:
        np.testing.assert_array_equal(panels.find("unlearned").logits[0]["rest"], stored["logits"][:, 12:18])
    assert panels.ground[0].labels["test"].tolist() == LABELS[18:].tolist()


def test_a_single_model_and_clusters_of_examples_are_taken(tmp_path):
    given = {"unlearned": {"logits": np.zeros((N, CLASSES))}, "original": {"cluster": np.arange(N) // 2}}
    panels = read_logits(files(tmp_path, given))
    assert panels.find("unlearned").logits[0]["forget"].shape == (1, 6, CLASSES)
    assert panels.ground[0].clusters["forget"].tolist() == [0, 0, 1, 1, 2, 2]


def test_names_make_no_folder_elsewhere_and_paths_may_be_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {name: str(path) for name, path in files(tmp_path, names=("retrain", "mine")).items()}
    assert audit_logits(
        {"retrain": given["retrain"], "../up/../..": given["mine"]}, how=Precision(20, 20, 40)
    ).parts == ("audits", "up")
    with pytest.raises(InputError, match="nothing that was unlearned"):
        read_logits(files(tmp_path, names=("retrain", "null_b")))


def test_an_audit_of_files_writes_figures_against_the_reference_there_is(tmp_path):
    how = Precision(20, 20, 40)
    out = audit_logits(files(tmp_path), out=tmp_path / "out", how=how, command="here")
    told = (out / "audit.csv").read_text()
    assert ",retrain,forget,klom,closed," in told and ",oracle," not in told
    assert "no second population like retrain" in (out / "audit.json").read_text()
    assert "inside_null" in told and ",neighbour_exposure," not in told


@pytest.mark.parametrize("single", [True, False])
def test_one_model_of_each_kind_gives_figures_without_intervals_of_members(tmp_path, single):
    """Nothing is drawn from a single model, and nothing fails; a constant population neither."""
    constant = {} if single else {"unlearned": {"logits": np.zeros((4, N, CLASSES))}}
    given = files(tmp_path, constant, members=1 if single else 4)
    out = audit_logits(given, out=tmp_path / "out", how=Precision(20, 20, 40))
    rows = read_csv(out / "audit.csv")
    assert any((r["metric"], r["split"], r["method"]) == ("accuracy", "forget", "unlearned") for r in rows)


BAD = {
    "no reference": ({}, ("original", "unlearned"), "names no reference"),
    "nothing unlearned": ({}, ("original", "retrain"), "names nothing that was unlearned"),
    "no logits": ({"unlearned": {"logits": None}}, None, "has no array 'logits'"),
    "flat logits": ({"unlearned": {"logits": np.zeros(N)}}, None, "logits of unlearned are"),
    "one class": ({"unlearned": {"logits": np.zeros((2, N, 1))}}, None, "numbers .members, examples, classes."),
    "all diverged": ({"unlearned": {"logits": np.full((2, N, CLASSES), np.nan)}}, None, "leave this population out"),
    "other examples": ({"unlearned": {"logits": np.zeros((2, N - 1, CLASSES))}}, None, "hold other examples"),
    "no labels": ({"original": {"labels": None}}, None, "no file holds 'labels'"),
    "no split": ({"original": {"split": None}}, None, "no file holds 'split'"),
    "few labels": ({"original": {"labels": LABELS[1:]}}, None, "one entry for each of the 24"),
    "label out of range": ({"original": {"labels": LABELS + 1}}, None, "whole numbers from 0 to 2"),
    "labels that differ": ({"unlearned": {"labels": LABELS[::-1]}}, None, "is not that of"),
    "strange split": (
        {"original": {"split": np.repeat(["forget", "mine"], 12)}},
        None,
        "split holds 'mine': use forget",
    ),
    "no test": ({"original": {"split": np.repeat(["forget", "retain"], 12)}}, None, "names no 'test' example"),
    "no forget": ({"original": {"split": np.repeat(["test", "retain"], 12)}}, None, "names no 'forget' example"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_a_sentence(tmp_path, case):
    changes, names, said = BAD[case]
    with pytest.raises(InputError, match=said):
        read_logits(files(tmp_path, changes, *([names] if names else [])))


def test_files_that_are_no_archives_are_refused(tmp_path):
    given = files(tmp_path)
    given["unlearned"].write_text("no")
    with pytest.raises(InputError, match="is no .npz archive"):
        read_logits(given)
    given["unlearned"] = tmp_path / "gone.npz"
    with pytest.raises(InputError, match="there is no file"):
        read_logits(given)


@pytest.mark.parametrize(
    "words, said", [(["retrain"], "is not understood"), (["a=b", "a=c"], "gives a twice"), ([], "no reference")]
)
def test_words_that_name_no_files_are_refused(words, said):
    with pytest.raises(InputError, match=said):
        audit_logits(words)


def test_too_few_draws_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match="--draws is 3: give at least 20"):
        audit_logits(["retrain=x.npz", "u=y.npz"], how=Precision(3, 200, 200))
