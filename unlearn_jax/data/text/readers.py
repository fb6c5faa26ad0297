"""What a model is given of a text: TF-IDF projected to a few hundred values, MiniLM's embedding, or token numbers.

A reader is fitted on texts that are nobody's request and then reads any text alone, so that what a target says has no
way into the inputs of a model that must be free of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlearn_jax.data.text.measures import WORD
from unlearn_jax.data.text.tokenizer import NO_TOKEN, byte_pair_tokenizer, load_tokenizer, word_tokenizer
from unlearn_jax.errors import InputError, choose
from unlearn_jax.runtime.disk import write_arrays
from unlearn_jax.runtime.multihost import is_first

TERMS, DIMENSIONS = 4_000, 256  # of TF-IDF, before and after the projection
WORDS, CONTEXT = 8_000, 64  # token numbers, and tokens of a row
MINILM = "UNLEARN_JAX_MINILM"  # the environment variable with the folder of its files
MINILM_CONTEXT = 256
BYTE_PAIR = "byte_pair"  # a tokenizer trained on the texts
PADDING = 0  # of the encoder
MAX_KEPT = 8  # results
_KEPT: dict[str, tuple[np.ndarray, int]] = {}  # the embeddings of this process by digest


class Features(NamedTuple):
    """How texts are read; 0 and '' mean the reader's own."""

    name: str = "tfidf"  # of `READERS`
    vocabulary: int = 0  # most terms or token numbers
    context: int = 0  # tokens after which a text is cut
    tokenizer: str = ""  # `BYTE_PAIR`, a tokenizer.json, or its folder; '' = the words of the texts
    cache: Path | None = None  # folder in which embeddings are kept


class Reader(NamedTuple):
    """A pure function of texts, and what a model must know of what it gives."""

    encode: Callable[[Sequence[str]], tuple[np.ndarray, int]]  # n texts -> (n, ...) inputs, number of texts cut
    vocab: int | None = None  # token numbers are 0..vocab-1, 0 = padding; None where inputs are vectors
    limit: str = ""  # what a text is cut at, in words


def make_reader(features: Features, texts: Sequence[str]) -> Reader:
    """The reader that ``features`` names, fitted on ``texts``.

    Raises:
        InputError: an unknown name, texts without a word, files or packages that are missing, sizes that do not fit.
    """
    return READERS[choose("features", features.name, READERS)](features, texts)


def tfidf(features: Features, texts: Sequence[str]) -> Reader:
    """TF-IDF of the most frequent words (1 + log of the count, unit norm), projected by a truncated SVD.

    Inputs are (n, D) float32 with D = `DIMENSIONS`, or as many as there are words where these are no more; scaled by
    one number, so that their mean square over the fitted texts is 1. No word order, and nothing is cut.
    """
    from sklearn.decomposition import TruncatedSVD
    from threadpoolctl import threadpool_limits  # a dependency of scikit-learn

    weights = term_weights(texts, features.vocabulary or TERMS)
    projected, project = weights.transform(texts), None
    if min(projected.shape) > DIMENSIONS:
        project = TruncatedSVD(DIMENSIONS, random_state=0, n_iter=3)
        with threadpool_limits(1):  # on busy cores the threads of these small factorisations wait for each other
            projected = project.fit_transform(projected)
    scale = float(np.sqrt((projected**2).mean() if project else projected.power(2).mean()))

    def encode(texts: Sequence[str]) -> tuple[np.ndarray, int]:
        rows = weights.transform(texts)
        rows = project.transform(rows) if project else rows.toarray()
        return (rows / max(scale, 1e-12)).astype(np.float32), 0

    return Reader(encode)


def term_weights(texts: Sequence[str], terms: int | None = None, documents: int = 1):
    """A fitted scikit-learn TF-IDF of the words of ``texts``, in small letters; its rows have unit norm.

    ``terms`` = most words; ``documents`` = texts that a word must be in to count.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    weights = TfidfVectorizer(analyzer=words, max_features=terms, sublinear_tf=True, dtype=np.float32)
    weights.set_params(min_df=documents)
    try:
        return weights.fit(texts)
    except ValueError:
        if documents > 1:
            raise InputError(f"no word is in {documents} of the texts: give a lower --min-documents.") from None
        raise InputError(
            "the texts have no words: TF-IDF needs words of letters or digits, take other features."
        ) from None


def words(text: str) -> list[str]:
    """The words of a text in small letters, without punctuation."""
    return WORD.findall(text.lower())


def tokens(features: Features, texts: Sequence[str]) -> Reader:
    """Token numbers (n, context) int32, 0 = padding: words or byte pairs of the fitted texts, or a tokenizer file.

    A tokenizer of the user's own is as it is: what it knows of a target it knew before.
    """
    length = features.context or CONTEXT
    if features.tokenizer == BYTE_PAIR:
        made = byte_pair_tokenizer(texts, max_size=features.vocabulary or WORDS, lower=True)
    elif features.tokenizer:
        made = load_tokenizer(features.tokenizer)
    else:
        made = word_tokenizer(texts, max_size=features.vocabulary or WORDS, lower=True)
    apart = int(made.pad == NO_TOKEN)  # no piece is for filling: all numbers go up by one

    def encode(texts: Sequence[str]) -> tuple[np.ndarray, int]:
        ids, cut = made.encode(texts, length)
        if apart:
            ids = ids + 1
        elif made.pad != PADDING:  # the two change places
            ids = np.where(ids == made.pad, PADDING, np.where(ids == PADDING, made.pad, ids)).astype(np.int32)
        return ids, int((cut > 0).sum())

    return Reader(encode, made.size + apart, f"{length} tokens of the context")


def minilm(features: Features, texts: Sequence[str]) -> Reader:
    """Frozen sentence embeddings by all-MiniLM-L6-v2: (n, 384) float32, inner products 384 times the cosines.

    ``texts`` are not needed: the weights were trained elsewhere. Embeddings are kept in ``features.cache``, if given.
    """
    del texts
    folder, length = minilm_folder(), features.context or MINILM_CONTEXT

    def encode(texts: Sequence[str]) -> tuple[np.ndarray, int]:
        vectors, cut = embeddings(folder, texts, length, features.cache)
        return vectors * np.float32(np.sqrt(vectors.shape[1])), cut

    return Reader(encode, limit=f"{length} tokens that MiniLM is given")


def wordpiece(features: Features, texts: Sequence[str]) -> Reader:
    """MiniLM's own token numbers (n, context) int32 with the marks of start and end, 0 = padding.

    ``texts`` are not needed: the pieces were learned elsewhere.
    """
    from unlearn_jax.models.minilm_files import tokenize

    del texts
    folder, length = minilm_folder(), features.context or CONTEXT

    def encode(texts: Sequence[str]) -> tuple[np.ndarray, int]:
        ids, cut = tokenize(folder, texts, length)
        rows = np.full((len(ids), length), PADDING, np.int32)
        for row, numbers in enumerate(ids):
            rows[row, : len(numbers)] = numbers
        return rows, cut

    return Reader(encode, limit=f"{length} tokens of the context")


def minilm_folder() -> str:
    """The folder of MiniLM's files; `InputError` where the environment names none that has them."""
    folder = os.environ.get(MINILM, "")
    if not folder or not all((Path(folder) / name).is_file() for name in ("model.safetensors", "tokenizer.json")):
        named = f"{MINILM} is '{folder}'" if folder else f"{MINILM} is not set"
        raise InputError(
            f"the weights of MiniLM were not found ({named}): set {MINILM} to a folder that holds model.safetensors "
            "and tokenizer.json of all-MiniLM-L6-v2, or take --features tfidf."
        )
    return folder


def embeddings(folder: str, texts: Sequence[str], length: int, cache: Path | None) -> tuple[np.ndarray, int]:
    """Unit-norm embeddings (n, 384) of texts and how many were cut, read back where they were made before."""
    from unlearn_jax.models.minilm import embed

    size = (Path(folder) / "model.safetensors").stat().st_size
    state = hashlib.sha256(f"{size} {length}".encode())
    for text in texts:
        state.update(f"{len(text)} {text}".encode("utf-8", "surrogatepass"))
    digest = state.hexdigest()
    path = None if cache is None else cache / f"{digest[:32]}.npz"
    if digest not in _KEPT and path is not None and path.is_file():
        try:
            with np.load(path, allow_pickle=False) as held:
                _KEPT[digest] = held["vectors"], int(held["cut"])
        except Exception:  # a damaged file is made again
            path.unlink()
    if digest not in _KEPT:
        _KEPT[digest] = embed(folder, texts, length=length)
    vectors, cut = _KEPT[digest]
    if len(_KEPT) > MAX_KEPT:
        _KEPT.pop(next(iter(_KEPT)))
    if path is not None and not path.is_file() and is_first():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, {"vectors": vectors, "cut": cut}, compressed=False, mark=str(os.getpid()))
    return vectors, cut


READERS: dict[str, Callable[[Features, Sequence[str]], Reader]] = {
    "tfidf": tfidf,
    "minilm": minilm,
    "tokens": tokens,
    "wordpiece": wordpiece,
}
