"""Texts to rows of token numbers and back: words, byte pairs trained on a corpus, or a tokenizer of the user's own.

All three are the same pair of pure functions, so that what reads a `Tokenizer` need not know which one it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError

PAD, UNKNOWN, BEGIN, END = range(4)  # of the tokenizers made here; one from a file has numbers of its own
SPECIALS = ("<pad>", "<unknown>", "<begin>", "<end>")  # no clash: in a text these are three pieces each
NO_TOKEN = -1  # fills rows where a tokenizer.json has no piece for it
PAD_NAMES = ("[PAD]", "<pad>", "<|pad|>")  # where a tokenizer.json does not say which piece fills rows
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
_OPEN, _CLOSE = frozenset("([{"), frozenset(".,;:!?)]}%")


class Tokenizer(NamedTuple):
    """Two pure functions and what a model must know of them.

    ``encode(texts, length) -> (ids, cut)``: of n texts, (n, length) int32 rows, each with the beginning and end marks
    that the tokenizer sets, then filled up with ``pad``; of a text that is too long the first tokens are kept, and
    ``cut`` is the (n,) int32 number of tokens left out. ``decode(ids) -> n texts`` of (n, length) rows, without the
    marks. Both raise `InputError`: no list of texts, a length that the marks fill, numbers outside 0..size-1.
    """

    encode: Callable[[Iterable[str], int], tuple[np.ndarray, np.ndarray]]
    decode: Callable[[np.ndarray], list[str]]
    size: int  # token numbers are 0..size-1
    pad: int  # live tokens are ids != pad; -1 where no piece is for filling
    pieces: tuple[str, ...]  # (size,) what each number stands for


def split_words(text: str) -> list[str]:
    """Words (letters, digits, inner apostrophes) and single punctuation marks, in order; spacing is dropped.

    >>> split_words("It's 3.5%, no?")
    ["It's", '3', '.', '5', '%', ',', 'no', '?']
    """
    return _WORD.findall(text)


def word_tokenizer(texts: Iterable[str], *, max_size: int | None = None, lower: bool = False) -> Tokenizer:
    """A tokenizer of the words and punctuation marks of ``texts`` (`split_words`), for languages that space words.

    Numbers are 0 padding, 1 unknown, 2 begin, 3 end, then the words from the most frequent on, ties in alphabetical
    order. Decoding gives back every text of the corpus up to spacing, where no word was left out or lowered.

    Args:
        texts: the corpus, read once.
        max_size: most numbers, the four marks included; rarer words become unknown.
        lower: whether capitals are made small first.

    Raises:
        InputError: no words at all, or a max_size under 5.

    >>> tokenizer = word_tokenizer(["a cat, a dog"])
    >>> ids, cut = tokenizer.encode(["a cat", "a dog, a cow"], 5)
    >>> ids.tolist(), cut.tolist()
    ([[2, 4, 6, 3, 0], [2, 4, 7, 5, 3]], [0, 2])
    >>> tokenizer.decode(ids)
    ['a cat', 'a dog,']
    """
    if max_size is not None and max_size < len(SPECIALS) + 1:
        raise InputError(f"a word tokenizer of {max_size} numbers holds no word: give a max_size of 5 or more.")
    split = (lambda text: split_words(text.lower())) if lower else split_words
    counts = Counter(chain.from_iterable(map(split, _texts(texts))))
    if not counts:
        raise InputError("the texts for a word tokenizer hold no words: give at least one text that is not blank.")
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    pieces = SPECIALS + tuple(ranked[: None if max_size is None else max_size - len(SPECIALS)])
    number = {piece: i for i, piece in enumerate(pieces)}

    def encode(texts: Iterable[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        texts, room = _texts(texts), _room(length, 2)
        rows, cut = [], np.zeros(len(texts), np.int32)
        for i, text in enumerate(texts):
            words = split(text)
            rows.append([BEGIN, *(number.get(word, UNKNOWN) for word in words[:room]), END])
            cut[i] = max(0, len(words) - room)
        return _padded(rows, length, PAD), cut

    def decode(ids: np.ndarray) -> list[str]:
        marks = (PAD, BEGIN, END)
        return [_spaced(pieces[i] for i in row if i not in marks) for row in _rows(ids, len(pieces))]

    return Tokenizer(encode, decode, len(pieces), PAD, pieces)


def byte_pair_tokenizer(texts: Iterable[str], *, max_size: int = 8192, lower: bool = False) -> Tokenizer:
    """A byte-level byte-pair tokenizer trained on ``texts``; nothing is ever unknown to it.

    Numbers are 0 padding, 1 unknown (never used), 2 begin, 3 end, the 256 bytes, then pieces in the order in which
    they were merged. Source: R. Sennrich, B. Haddow and A. Birch, Neural Machine Translation of Rare Words with
    Subword Units, ACL 2016.

    Args:
        texts: the corpus, read once.
        max_size: most numbers; a small corpus has fewer pieces.
        lower: whether capitals are made small first.

    Raises:
        InputError: the package ``tokenizers`` is missing (extra ``text``), a max_size under 261, or blank texts.
    """
    library = _library()
    if max_size < len(SPECIALS) + 257:
        raise InputError(f"a byte-pair tokenizer of {max_size} numbers holds no pair: give a max_size of 261 or more.")
    texts = _texts(texts)
    if not any(text.strip() for text in texts):
        raise InputError("the texts for a byte-pair tokenizer are blank: give at least one text that is not.")
    made = library.Tokenizer(library.models.BPE(unk_token=SPECIALS[UNKNOWN]))
    if lower:
        made.normalizer = library.normalizers.Lowercase()
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = library.decoders.ByteLevel()
    settings = {"vocab_size": max_size, "special_tokens": list(SPECIALS), "show_progress": False}
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(texts, library.trainers.BpeTrainer(initial_alphabet=alphabet, **settings))
    marks = [(SPECIALS[BEGIN], BEGIN), (SPECIALS[END], END)]
    single = f"{SPECIALS[BEGIN]} $A {SPECIALS[END]}"
    made.post_processor = library.processors.TemplateProcessing(single=single, special_tokens=marks)
    made.encode_special_tokens = True  # a text that holds "<end>" does not end there
    return _from_library(made, PAD)


def load_tokenizer(path: str | Path, *, pad: str | None = None) -> Tokenizer:
    """The tokenizer in a ``tokenizer.json`` of the Hugging Face ``tokenizers`` package.

    Its numbers and its marks are kept; its own settings of length and padding are not, since ``encode`` takes them.

    Args:
        path: the file, or the folder that holds ``tokenizer.json``.
        pad: the piece that fills rows, one that no text holds; by default the one that the file names, else none:
            rows are then filled with -1, which is no piece.

    Raises:
        InputError: the package ``tokenizers`` is missing (extra ``text``), no such file, a file that is not a
            tokenizer, or no piece of the name given as pad.
    """
    path = Path(path).expanduser()
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"there is no file '{path}': give the path of a tokenizer.json.")
    library = _library()
    try:
        made = library.Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises no class of its own
        raise InputError(f"'{path}' cannot be read as a tokenizer ({error}): get a fresh tokenizer.json.") from error
    names = [(made.padding or {}).get("pad_token"), *PAD_NAMES] if pad is None else [pad]
    known = [number for name in names if name and (number := made.token_to_id(name)) is not None]
    if pad is not None and not known:
        raise InputError(f"'{path}' has no piece '{pad}': give one of its pieces that no text holds as pad.")
    made.no_padding()
    return _from_library(made, known[0] if known else NO_TOKEN)


def _from_library(made, pad: int) -> Tokenizer:
    """The pair of functions of a tokenizer of the ``tokenizers`` package."""
    marks, numbers = made.num_special_tokens_to_add(False), made.get_vocab()
    pieces = [""] * (max(numbers.values()) + 1)
    for piece, number in numbers.items():
        pieces[number] = piece

    def encode(texts: Iterable[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        texts = _texts(texts)
        _room(length, marks)
        made.enable_truncation(length)
        rows = made.encode_batch(texts)
        over = (sum(part.special_tokens_mask.count(0) for part in row.overflowing) for row in rows)
        return _padded([row.ids for row in rows], length, pad), np.fromiter(over, np.int32, len(rows))

    def decode(ids: np.ndarray) -> list[str]:
        rows = [[i for i in row if i != pad] for row in _rows(ids, len(pieces), min(pad, 0))]
        return [text.removeprefix(" ") for text in made.decode_batch(rows, skip_special_tokens=True)]

    return Tokenizer(encode, decode, len(pieces), pad, tuple(pieces))


def _library():
    try:
        import tokenizers  # pyright: ignore[reportMissingImports]
    except ImportError:
        problem = "byte pairs and tokenizer.json need the package tokenizers, which is not installed"
        raise InputError(f"{problem}: run `pip install tokenizers` (the extra 'text'), or use words.") from None
    return tokenizers


def _texts(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise InputError("a tokenizer takes a list of texts, not one text: put it in a list.")
    texts = list(texts)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"text {row} (from 0) is a {type(text).__name__}: give texts as strings.")
    return texts


def _room(length: int, marks: int) -> int:
    """Tokens of the text that fit in a row."""
    if length <= marks:
        raise InputError(f"rows of {length} tokens have no room for text: give a length of {marks + 1} or more.")
    return length - marks


def _padded(rows: list[list[int]], length: int, pad: int) -> np.ndarray:
    """Rows of up to ``length`` numbers -> (n, length) int32."""
    ids = np.full((len(rows), length), pad, np.int32)
    for row, numbers in zip(ids, rows):
        row[: len(numbers)] = numbers
    return ids


def _rows(ids: np.ndarray, size: int, least: int = 0) -> list[list[int]]:
    """(n, length) token numbers, ``least`` to size - 1, checked, as lists."""
    ids = np.asarray(ids)
    if ids.ndim != 2 or not (ids.size == 0 or np.issubdtype(ids.dtype, np.integer)):
        raise InputError(f"token numbers of shape {ids.shape} and dtype {ids.dtype}: give integers (n, length).")
    if ids.size and not least <= ids.min() <= ids.max() < size:
        raise InputError(f"token numbers {ids.min()}..{ids.max()}: the tokenizer's are 0..{size - 1}, use its own.")
    return ids.tolist()


def _spaced(pieces: Iterable[str]) -> str:
    """Words joined by spaces, none before closing punctuation or after opening brackets."""
    parts, last = [], ""
    for piece in pieces:
        parts.append(piece if not parts or piece in _CLOSE or last in _OPEN else f" {piece}")
        last = piece
    return "".join(parts)
