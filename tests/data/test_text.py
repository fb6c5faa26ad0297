"""Documents as a data set: readers that know nothing of the requests, edited copies, mined neighbours, bad input."""

import os

import documents
import numpy as np
import pytest
from sentences import one_sentence

from unlearn_jax.data import checks
from unlearn_jax.data.arrays import dataset_digest
from unlearn_jax.data.checks import subset
from unlearn_jax.data.references import detected_groups, reference_rows
from unlearn_jax.data.similarity.mined import mine, threshold_of
from unlearn_jax.data.sources.corpora import Corpus
from unlearn_jax.data.splits import make_bench, request_rows
from unlearn_jax.data.targets import choose_targets
from unlearn_jax.data.text import readers
from unlearn_jax.data.text.documents import from_corpus, read_texts, text_embedding
from unlearn_jax.data.text.readers import Features, make_reader
from unlearn_jax.errors import InputError

ROWS = documents.made_texts(90)
NAMES = tuple(documents.CLASSES)
TARGETS = [np.array([3, 10]), np.array([20, 41])]


def corpus(rows=ROWS, tests=30):
    """The last ``tests`` documents are for the test."""
    texts, labels = [text for _, text in rows], np.array([NAMES.index(name) for name, _ in rows], np.int32)
    cut = len(rows) - tests
    return Corpus("made", tuple(texts[:cut]), labels[:cut], tuple(texts[cut:]), labels[cut:], NAMES)


DATA = from_corpus(corpus())


def bench(features, level="near", copies=3, data=DATA):
    """The stored examples of two requests."""
    read = read_texts(data, features, np.concatenate(TARGETS))
    return make_bench(read, TARGETS, copies=copies, level=level, seed=0)


@pytest.mark.parametrize("name", ["tfidf", "tokens"])
def test_what_an_oracle_is_given_does_not_depend_on_the_targets_texts(name):
    rows = list(ROWS)
    for row in np.concatenate(TARGETS):
        rows[row] = (rows[row][0], f"unheard words {row} alter every weight wheat wheat wheat")
    before, after = (bench(Features(name), data=data) for data in (DATA, from_corpus(corpus(rows))))
    kept = reference_rows("oracle", before, request_rows(before, 0, copies=3), 0, 0)
    tests = np.flatnonzero(np.isin(before.origin, (2, 4)))
    outside = np.concatenate([np.setdiff1d(kept, np.concatenate(TARGETS)), tests])
    assert len(outside) == 56 + 30
    np.testing.assert_array_equal(before.inputs[outside], after.inputs[outside])
    target = TARGETS[0][0]
    assert (before.inputs[target] != after.inputs[target]).any()
    whole = [read_texts(data, Features(name)).train.inputs for data in (DATA, from_corpus(corpus(rows)))]
    assert whole[0].shape != whole[1].shape or (whole[0] != whole[1]).any()  # a reader of everything would tell


@pytest.mark.parametrize("name", ["tfidf", "tokens"])
@pytest.mark.parametrize("level", ["exact", "near", "far", "near:0.5"])
def test_fewer_copies_are_the_same_copies(name, level):
    few, many = (bench(Features(name), level, copies) for copies in (1, 3))
    first = (many.origin == 1) & (many.copy == 1)
    np.testing.assert_array_equal(few.inputs[few.origin == 1], many.inputs[first])
    np.testing.assert_array_equal(few.texts[few.origin == 1], many.texts[first])
    for made in (few, many):
        np.testing.assert_array_equal(made.inputs[made.origin == 3], many.inputs[many.origin == 3])
    assert (many.origin == 3).sum() == (0 if level == "exact" else 8)


def test_copies_have_the_words_and_the_class_of_their_source():
    found = bench(Features("tokens"))
    for row in np.flatnonzero(np.isin(found.origin, (1, 3))):
        (source,) = np.flatnonzero((found.origin == 0) & (found.cluster == found.cluster[row]))
        assert found.labels[row] == found.targets[row] == found.labels[source]
        assert found.texts[row] != found.texts[source]
        assert len(set(found.texts[row].split()) & set(found.texts[source].split())) > 4
    assert found.kind == "text" and found.inputs.dtype == np.int32 and found.inputs.shape[1] == readers.CONTEXT
    recalls = [detected_groups(found, request_rows(found, 0, copies=3), cosine).recall for cosine in (0.8, 1.0)]
    assert recalls[0] == 1.0 > recalls[1]  # found by their words


def test_vectors_have_unit_mean_square_and_are_projected_where_there_are_many_words(monkeypatch):
    made = make_reader(Features("tfidf"), DATA.train.texts.tolist())
    plain, cut = made.encode(DATA.train.texts.tolist())
    assert plain.dtype == np.float32 and plain.shape[1] > 60 and cut == 0 and made.vocab is None
    monkeypatch.setattr(readers, "DIMENSIONS", 12)
    small = make_reader(Features("tfidf"), DATA.train.texts.tolist()).encode(DATA.train.texts.tolist())[0]
    assert small.shape == (60, 12)
    for inputs in (plain, small):
        np.testing.assert_allclose(np.square(inputs).mean(), 1.0, rtol=1e-4)
    assert make_reader(Features("tfidf", 10), DATA.train.texts.tolist()).encode(["wheat"])[0].shape == (1, 10)


def test_texts_beyond_the_context_are_cut_and_counted():
    read = read_texts(DATA, Features("tokens", context=12))
    longer = sum(len(text.split()) + 2 > 12 for text in [*DATA.train.texts, *DATA.test.texts])
    assert 0 < longer < 90
    assert read.about.notes == (f"{longer} of 90 documents are longer than the 12 tokens of the context and were cut",)
    assert read.train.inputs.shape == (60, 12)
    assert read_texts(DATA, Features("tokens", context=40)).about.notes == ()


def test_byte_pairs_are_learned_from_the_fitted_texts():
    pytest.importorskip("tokenizers", reason="byte pairs need the extra 'text'")
    read = make_reader(Features("tokens", vocabulary=300, context=6, tokenizer="byte_pair"), ["a banana band"] * 5)
    ids, cut = read.encode(["banana", "zzzzzzzz unseen"])
    assert ids.shape == (2, 6) and ids.dtype == np.int32 and cut == 1 and read.vocab <= 300
    assert (ids[0] > 0).sum() < (ids[1] > 0).sum()  # a known word is fewer pieces, and nothing is unknown


def test_a_tokenizer_of_the_users_own_has_its_padding_moved_to_zero(tmp_path):
    library = pytest.importorskip("tokenizers", reason="reads tokenizer.json")
    words = {"the": 0, "[PAD]": 1, "[UNK]": 2, "wheat": 3}
    made = library.Tokenizer(library.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    read = make_reader(Features("tokens", context=4, tokenizer=str(tmp_path)), [])
    assert read.encode(["the wheat sings"])[0].tolist() == [[1, 3, 2, 0]] and read.vocab == 4

    del words["[PAD]"]
    made = library.Tokenizer(library.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    read = make_reader(Features("tokens", context=4, tokenizer=str(tmp_path)), [])
    assert read.encode(["the wheat sings"])[0].tolist() == [[1, 3, 2, 0]] and read.vocab == 4  # no number is padding


def test_a_part_of_a_corpus_keeps_its_texts_and_the_digest_is_that_of_the_texts():
    part = subset(DATA, 30, 9, seed=1)
    np.testing.assert_array_equal(part.train.texts, DATA.train.texts[part.train.ids])
    one, other = (read_texts(DATA, Features(name)) for name in ("tfidf", "tokens"))
    assert dataset_digest(one) == dataset_digest(other) == dataset_digest(DATA) != dataset_digest(part)
    rows = [*ROWS[:-1], (ROWS[-1][0], "another text")]
    assert dataset_digest(from_corpus(corpus(rows))) != dataset_digest(DATA)
    assert checks.check_dataset(one) is one


def test_embeddings_are_kept_beside_the_run_and_read_back(tmp_path, monkeypatch):
    from unlearn_jax.models import minilm

    calls = []

    def embed(folder, texts, length):
        calls.append(len(texts))
        return minilm.Embedded(np.eye(len(texts), 4, dtype=np.float32), 1)

    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(minilm, "embed", embed)
    monkeypatch.setattr(readers, "_KEPT", {})
    monkeypatch.setenv(readers.MINILM, str(tmp_path))
    features = Features("minilm", cache=tmp_path / "kept")
    first = read_texts(DATA, features)
    assert calls == [60, 30] and first.about.notes[0].startswith("2 of 90 documents are longer than the 256 tokens")
    assert np.linalg.norm(first.train.inputs[0]) == 2.0
    (damaged, _) = sorted((tmp_path / "kept").iterdir())
    again = read_texts(DATA, features)
    readers._KEPT.clear()
    np.testing.assert_array_equal(read_texts(DATA, features).train.inputs, again.train.inputs)
    assert calls == [60, 30]
    damaged.write_bytes(b"half")
    readers._KEPT.clear()
    read_texts(DATA, features)
    assert len(calls) == 3


@pytest.mark.skipif(not os.environ.get(readers.MINILM), reason="set UNLEARN_JAX_MINILM to a folder with MiniLM's files")
def test_minilm_takes_edited_copies_for_near():
    found = bench(Features("minilm"), copies=1)
    sources, copies = (found.inputs[(found.origin == origin) & (found.cluster >= 0)] for origin in (0, 1))
    assert found.inputs.shape[1] == 384
    cosine = (sources / np.sqrt(384)) @ (copies / np.sqrt(384)).T
    assert np.diag(cosine).min() > 0.8 and (np.argmax(cosine, axis=1) == np.arange(4)).all()


def crowds():
    """Ten crowds of four documents that share most words, and twenty loners."""
    said = [f"topic{k} about{k} story{k} witness{i}" for i in range(4) for k in range(10)]
    alone = [f"loner{i} speaks apart{i} away{i}" for i in range(20)]
    return from_corpus(corpus([(NAMES[i % 3], text) for i, text in enumerate([*said, *alone])], tests=5))


def test_neighbours_are_disjoint_near_and_the_nearest_first():
    assert (threshold_of("natural"), threshold_of("natural:.75"), threshold_of("near")) == (0.5, 0.75, None)
    data = crowds()
    vectors = text_embedding(data.train.texts)
    found = mine(vectors, 2, 0.3, seed=0)
    cosine = (vectors @ vectors.T).toarray()
    assert len(found.rows) == 10 and found.near.shape == (10, 2)
    assert len(np.unique(np.concatenate([found.rows, found.near.ravel()]))) == 30
    for row, near in zip(found.rows, found.near):
        assert (cosine[row, near] >= 0.3).all() and cosine[row, near[0]] >= cosine[row, near[1]]
        assert {data.train.texts[other].split()[0] for other in near} == {data.train.texts[row].split()[0]}
    dense = mine(vectors.toarray(), 2, 0.3, seed=0)
    np.testing.assert_array_equal(dense.near, found.near)
    assert len(mine(vectors, 4, 0.3, seed=0).rows) == 0


def test_mined_neighbours_stand_as_copies_and_are_no_rest():
    data = crowds()
    found = mine(text_embedding(data.train.texts), 3, 0.3, seed=0)
    (targets,) = choose_targets(data, "random", 4, 1, 0, among=(found.rows, "crowds"))
    near = found.near[np.searchsorted(found.rows, targets)]
    read = read_texts(data, Features("tokens"), np.concatenate([targets, near.ravel()]))
    laid = make_bench(read, [targets], copies=3, level="natural", seed=0, mined=near)
    assert (laid.origin == 0).sum() == 55 - 12 and (laid.origin == 1).sum() == 12 and not (laid.origin == 3).any()
    few = request_rows(laid, 0, copies=1)
    assert len(few.similar) == 4 and len(few.rest) == 55 - 16
    np.testing.assert_array_equal(laid.dataset_id[few.similar], near[:, 0])
    np.testing.assert_array_equal(laid.texts[few.similar], data.train.texts[near[:, 0]])
    np.testing.assert_array_equal(laid.labels[few.similar], data.train.classes[near[:, 0]])
    assert not np.isin(laid.dataset_id[few.rest], near).any()
    with pytest.raises(InputError, match=r"^11 targets are more than the 10 crowds: ask for fewer\.$"):
        choose_targets(data, "random", 11, 1, 0, among=(found.rows, "crowds"))


def test_small_classes_give_no_more_targets_than_they_can_spare():
    room = np.array([1, 0, 50])
    score = np.linspace(0, 1, 60)
    (found,) = choose_targets(DATA, "atypical", 6, 1, 0, score, room=room)
    labels = DATA.train.classes[found]
    assert (labels == 0).sum() == 1 and (labels == 1).sum() == 0 and (labels == 2).sum() == 5
    with pytest.raises(InputError, match=r"ask for at most 21 targets, or for fewer copies\.$"):
        choose_targets(DATA, "random", 22, 1, 0, room=room)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: make_reader(Features("words"), ["a"]),
            "unknown features 'words': choose one of minilm, tfidf, tokens",
        ),
        (lambda: make_reader(Features("tfidf"), ["... !"]), "the texts have no words"),
        (lambda: make_reader(Features("tokens", tokenizer="nowhere.json"), ["a"]), "there is no file 'nowhere.json'"),
        (lambda: make_reader(Features("tokens", context=2), ["a"]).encode(["a"]), "no room for text"),
        (lambda: threshold_of("natural:2"), "write natural:COSINE with a cosine in"),
        (lambda: from_corpus(corpus()._replace(class_names=("only",))), "'made' has one class, 'only'"),
        (lambda: from_corpus(corpus()._replace(class_names=())), "'made' has no class: give documents of two"),
        (lambda: read_texts(DATA, Features("tfidf"), np.arange(60)), "no training document outside the requests"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(call, said):
    one_sentence(said, call)


def test_missing_weights_say_how_to_point_to_them(monkeypatch, tmp_path):
    for folder in ("", str(tmp_path)):
        monkeypatch.setenv(readers.MINILM, folder)
        said = "set UNLEARN_JAX_MINILM to a folder that holds model.safetensors.*or take --features tfidf"
        one_sentence(said, lambda: make_reader(Features("minilm"), ["a"]))
