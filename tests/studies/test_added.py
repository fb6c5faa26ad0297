"""An entry is all that a method or a data set of one's own needs: names, defaults, sweeps and docs follow from it."""

import documents
import numpy as np
import pytest

from unlearn_jax import DATASETS, METHODS, StudyConfig
from unlearn_jax.data import DatasetSpec, from_corpus, load_dataset
from unlearn_jax.data.sources.corpora import Corpus
from unlearn_jax.errors import InputError
from unlearn_jax.methods import Recipe, Span, catalogue
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.setup import prepare_study
from unlearn_jax.studies.validate import check
from unlearn_jax.sweeps.spaces import space_words

NAMES = tuple(documents.CLASSES)


def corpus():
    """90 short documents of three classes, 60 for training."""
    rows = documents.made_texts(90)
    labels = np.asarray([NAMES.index(name) for name, _ in rows], np.int32)
    texts = tuple(text for _, text in rows)
    return Corpus("letters", texts[:60], labels[:60], texts[60:], labels[60:], NAMES)


def test_a_method_is_its_entry(monkeypatch):
    entry = METHODS["finetune"]._replace(name="toy", rule="a toy rule", space=(Span("lr", 0.5, 2.0),))
    monkeypatch.setitem(METHODS, "toy", entry)
    study = resolve(StudyConfig(methods="all", hp=("toy.lr=.1,.2",)))
    check(study)
    assert study.methods[-1] == "toy" and study.settings == {"toy": {"lr": [0.1, 0.2]}}
    lr = entry.numeric["lr"]
    assert space_words("toy", "small", False) == {"lr": f"lr=log:{lr / 2:.4g}:{lr * 2:.4g}"}
    assert "| `toy` |" in catalogue.methods_table() and "a toy rule" in catalogue.methods_table()


def test_a_method_says_itself_that_it_perturbs_pixels(monkeypatch):
    entry = METHODS["finetune"]
    monkeypatch.setitem(METHODS, "toy", entry._replace(name="toy", needs=entry.needs | {"pixels"}))
    images, texts = (resolve(StudyConfig(dataset=data, methods="all")) for data in ("digits", "bulletins"))
    assert "toy" in images.methods and "toy" not in images.left_out
    assert "toy" not in texts.methods and "toy" in texts.left_out
    with pytest.raises(InputError, match="toy"):
        check(resolve(StudyConfig(dataset="bulletins", methods="toy")))


def test_a_data_set_is_its_entry(monkeypatch):
    spec = DatasetSpec(
        lambda *, data_dir=None: from_corpus(corpus()), "text", recipe=Recipe(steps=3, batch=16),
        study={"copies": "0,2", "targets": "random", "members": 4}, dedup_threshold=0.8,
    )  # fmt: skip
    monkeypatch.setitem(DATASETS, "letters", spec)
    study = resolve(StudyConfig(dataset="letters", num_targets=3, methods="finetune"))
    check(study)
    assert (study.kind, study.model, study.recipe.steps, study.scale) == ("text", "mlp", 3, "small_text")
    assert (study.copies, study.dedup_threshold, study.natural_cosine) == ((0, 2), 0.8, 0.5)
    assert study.config.members == 4 and study.name.startswith("letters-near-random-")
    bench = prepare_study(study).bench
    assert bench.kind == "text" and (bench.origin == 1).sum() == 6  # two edited copies of each target


def test_a_data_set_of_another_kind_than_its_entry_says_is_refused(monkeypatch):
    monkeypatch.setitem(DATASETS, "letters", lambda *, data_dir=None: from_corpus(corpus()))
    with pytest.raises(
        InputError, match=r"kind text, its entry says image: enter it as DatasetSpec\(load, kind='text'"
    ):
        load_dataset("letters")
    with pytest.raises(InputError, match="unknown data set 'leters'.*'letters' is nearest"):
        check(resolve(StudyConfig(dataset="leters")))
