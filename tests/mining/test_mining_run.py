"""Whole searches of small data: what is written agrees with what is known of the data; bad files are refused."""

import json

import documents
import numpy as np
import pytest
import toy
from pyarrow import parquet

from unlearn_jax import DATASETS, from_arrays
from unlearn_jax.data import load_dataset
from unlearn_jax.errors import InputError
from unlearn_jax.mining import EMBEDDINGS, MiningConfig, run_mining
from unlearn_jax.mining.config import threshold_of
from unlearn_jax.mining.embeddings import Asked
from unlearn_jax.mining.targets import read_embedding, read_ids
from unlearn_jax.mining.validate import checked

SIZE = 60


@pytest.fixture
def copied(monkeypatch):
    """A registered set of random images in which training row 40 + i is a copy of row i, i < 5, and test row 0 of 7."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (SIZE + 10, 8, 8, 1), np.uint8), rng.integers(0, 3, SIZE + 10)
    images[40:45], images[SIZE] = images[:5], images[7]
    labels[40:44], labels[44] = labels[:4], (labels[4] + 1) % 3
    labels[SIZE] = labels[7]
    split = (images[:SIZE], labels[:SIZE], images[SIZE:], labels[SIZE:])
    monkeypatch.setitem(DATASETS, "copied", lambda *, data_dir=None: from_arrays("copied", *split))
    return "copied"


def test_planted_copies_are_found_and_written(copied, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("3\n20  # no copy\n")
    out = run_mining(MiningConfig(dataset=copied, threshold=0.99, k=3), tmp_path / "run", ids=ids)
    told = json.loads((out / "neighbours.json").read_text())
    assert (told["linked"], told["pairs"], told["clusters"], told["largest"]) == (10, 5, 5, 2)
    assert told["pairs_same_label"] == pytest.approx(0.8) and told["sizes"] == [[2, 5]]
    assert told["test"] == {"samples": 10, "near": 1, "same_label": 1.0, "clusters": 0}
    assert [(t["id"], t["near"], t["links"], t["nearest"]) for t in told["targets"][:1]] == [(3, True, 1, 43)]
    assert told["targets"][1]["near"] is False
    pairs = parquet.read_table(out / "neighbours.parquet").to_pydict()
    held = list(zip(pairs["split"], pairs["id"], pairs["neighbour"], pairs["same_label"]))
    expected = [("train", i, i + 40, i < 4) for i in range(5)] + [("train", i + 40, i, i < 4) for i in range(5)]
    assert held == [*expected, ("test", SIZE, 7, True)]
    np.testing.assert_allclose(pairs["cosine"], 1.0, atol=1e-6)
    samples = parquet.read_table(out / "clusters.parquet").to_pydict()
    assert [samples["cluster"][i] for i in (0, 4, 44, 20)] == [0, 4, 4, -1]
    assert samples["size"][0] == 2 and samples["nearest"][41] == 1
    again = run_mining(MiningConfig(dataset=copied, threshold=0.99), out)  # a search may be written again
    assert json.loads((again / "neighbours.json").read_text())["targets"] == []


def test_rows_of_the_users_own(copied, tmp_path):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(SIZE + 10, 6))
    rows[10] = 3 * rows[11]
    rows[SIZE + 2] = rows[30]
    np.save(tmp_path / "rows.npy", rows)
    config = MiningConfig(dataset=copied, threshold=0.9999)
    out = run_mining(config, tmp_path / "run", embedding_file=tmp_path / "rows.npy")
    told = json.loads((out / "neighbours.json").read_text())
    assert (told["linked"], told["test"]["near"], told["config"]["embedding"]) == (2, 1, "file")
    np.save(tmp_path / "rows.npy", rows[:SIZE])
    out = run_mining(config, tmp_path / "run", embedding_file=tmp_path / "rows.npy")
    assert json.loads((out / "neighbours.json").read_text())["test"] is None


def test_texts_by_words_they_share(tmp_path):
    rows = documents.made_texts(60)
    rows += [(label, text + " indeed") for label, text in rows[:6]]
    table = documents.write_table(tmp_path / "news.tsv", rows)
    dataset = load_dataset(table)
    train = dict(zip(dataset.train.texts.tolist(), dataset.train.ids.tolist()))
    twins = [(text, text + " indeed") for _, text in rows[:6]]
    planted = {frozenset((train[a], train[b])) for a, b in twins if a in train and b in train}
    for config in (
        MiningConfig(dataset=table, embedding="tfidf", threshold=0.85),
        MiningConfig(dataset=table, embedding="minhash", ngrams="words:1", threshold=0.8),
        MiningConfig(dataset=table, embedding="minhash", ngrams="chars:4", permutations=256),
    ):
        out = run_mining(config, tmp_path / config.embedding)
        pairs = parquet.read_table(out / "neighbours.parquet").to_pydict()
        own = zip(pairs["split"], pairs["id"], pairs["neighbour"])
        assert planted <= {frozenset(pair) for split, *pair in own if split == "train"}
        assert ("jaccard" in pairs) == (config.embedding == "minhash")


NETWORKS = [("influence", {}), ("features", {}), ("influence", {"layers": "all"})]


@pytest.mark.parametrize(("name", "options"), toy.some(NETWORKS, 1))
def test_networks_find_copies_too(copied, name, options):
    network = {"model": "mlp", "model_options": ("widths=8",), "steps": 20, "members": 2}
    config, dataset = MiningConfig(copied, name, threshold=0.9, **network, **options), load_dataset(copied)
    rows = EMBEDDINGS[name].make(Asked(checked(config), dataset, 0.9))
    np.testing.assert_allclose(np.linalg.norm(rows.train, axis=1), 1.0, atol=1e-5)
    cosine = (rows.train[:4] * rows.train[40:44]).sum(axis=1)
    np.testing.assert_allclose(cosine, 1.0, atol=1e-4)  # of the same label
    np.testing.assert_allclose(rows.test[0] @ rows.train[7], 1.0, atol=1e-4)
    twin = rows.train[4] @ rows.train[44]  # the label plays a part in influence alone
    assert twin == pytest.approx(1.0, abs=1e-4) if name == "features" else twin < 0.9


@pytest.mark.parametrize("name", toy.some(["words", "tfidf", "minhash"], 1))
def test_statements_have_the_embeddings_of_texts(name):
    config = checked(MiningConfig("facts", name, threshold=0.4))
    found = EMBEDDINGS[name].find(Asked(config, load_dataset("facts"), 0.4))
    assert found.train.rows.shape[1] == 10 and np.isfinite(found.train.cosine[:, 0]).any()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"embedding": "tfidf"}, "unknown embedding of 'digits' 'tfidf': choose one of features, influence, pixels"),
        ({"embedding": "nonsense"}, "choose one of"),
        ({"k": 0}, "--k is 0"),
        ({"k": 5000}, "at most 1000"),
        ({"threshold": 1.5}, "--threshold is 1.5"),
        ({"threshold": 0.0}, "or 0 with --mutual"),
        ({"threshold": float("nan")}, "--threshold is nan"),
        ({"largest": 0.0}, "--largest is 0"),
        ({"steps": 5}, "--steps has no meaning for the embedding pixels"),
        ({"members": 2}, "--members has no meaning"),
        ({"ngrams": "words:2"}, "--ngrams has no meaning"),
        ({"dataset": "facts", "embedding": "minhash", "ngrams": "words"}, "words:3"),
        ({"dataset": "facts", "embedding": "minhash", "threshold": 0.01}, "more permutations"),
        ({"embedding": "influence", "layers": "first"}, "unknown layers"),
        ({"embedding": "features", "model": "decoder"}, "does not read"),
    ],
)
def test_settings_that_cannot_be_followed(settings, said):
    with pytest.raises(InputError, match=said):
        checked(MiningConfig(**settings))


def test_thresholds_where_none_is_given():
    known = {"digits": 0.97, "fashion_mnist": 0.995, "reuters_r8": 0.9, "facts": 0.9}
    assert {name: threshold_of(MiningConfig(name)) for name in known} == known
    assert threshold_of(MiningConfig("facts", "minhash")) == 0.8 and threshold_of(MiningConfig(threshold=0.5)) == 0.5


def test_files_that_do_not_fit_are_refused(copied, tmp_path):
    dataset, path = load_dataset(copied), tmp_path / "rows.npy"
    for held, said in (
        (np.zeros((SIZE - 1, 3)), "has 59 rows and 'copied' 60 training samples and 10 test samples"),
        (np.zeros(SIZE), "one row of numbers"),
        (np.array([["a"]] * SIZE), "one row of numbers"),
        (np.full((SIZE, 2), np.nan), "row 0 of"),
    ):
        np.save(path, held)
        with pytest.raises(InputError, match=said):
            read_embedding(path, dataset)
    with pytest.raises(InputError, match="there is no file"):
        read_embedding(tmp_path / "none.npy", dataset)
    (tmp_path / "bad.npy").write_text("no array")
    with pytest.raises(InputError, match="cannot be read as .npy"):
        read_embedding(tmp_path / "bad.npy", dataset)
    np.save(path, np.zeros((SIZE, 3)))
    with pytest.raises(InputError, match="leave --train-size"):
        run_mining(MiningConfig(copied, train_size=20), tmp_path / "run", embedding_file=path)
    with pytest.raises(InputError, match="leave one out"):
        checked(MiningConfig(copied, "pixels"), path)
    ids = tmp_path / "ids.txt"
    for text, said in (
        ("1\n2\n1\n", "id 1 is in lines 1 and 3"),
        ("1\n999\n", "no training sample of id 999: ids are 0 to 59"),
        (f"{SIZE}\n", "id 60 \\(of test samples\\)"),
        ("1\ntwo\n", "line 2 of"),
        ("# nothing\n", "names no sample"),
    ):
        ids.write_text(text)
        with pytest.raises(InputError, match=said):
            read_ids(ids, dataset)
    with pytest.raises(InputError, match="cannot be read"):
        read_ids(tmp_path / "none.txt", dataset)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_left_alone(copied, tmp_path):
    for name, content in (("manifest.json", "{}"), ("neighbours.json", "[]")):
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        (folder / name).write_text(content)
        with pytest.raises(InputError, match="give another --out"):
            run_mining(MiningConfig(copied, threshold=0.99), folder)
        assert [path.name for path in folder.iterdir()] == [name]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        run_mining(MiningConfig(copied), tmp_path / "file")
