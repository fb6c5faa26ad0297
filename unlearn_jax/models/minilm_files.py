"""The published files of all-MiniLM-L6-v2: its weights as parameters, and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.types import PyTree


def load_minilm(folder: str | Path) -> PyTree:
    """The trained parameters in ``folder/model.safetensors`` (all but the head), NumPy float32.

    Raises:
        InputError: no such file, a file of another model, or the package ``safetensors`` is not installed.
    """
    try:
        from safetensors.numpy import load_file  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError("reading MiniLM needs the package safetensors: pip install 'unlearn_jax[text]'.") from None
    path = _file(folder, "model.safetensors")
    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors has errors of its own
        raise InputError(f"'{path}' is damaged ({_short(error)}): get the files of all-MiniLM-L6-v2 afresh.") from None
    return params_of(tensors)


def params_of(tensors: Mapping[str, np.ndarray]) -> PyTree:
    """Parameters of `minilm` without the head, from tensors by their names in the published file."""

    def get(name: str) -> np.ndarray:
        if name not in tensors:
            raise InputError(f"the weights have no tensor {name}: give the folder of all-MiniLM-L6-v2.")
        return np.asarray(tensors[name], np.float32)

    dense = lambda name: {"kernel": get(f"{name}.weight").T, "bias": get(f"{name}.bias")}
    norm = lambda name: {"scale": get(f"{name}.weight"), "bias": get(f"{name}.bias")}
    names = {"words": "word", "positions": "position", "kind": "token_type"}
    tables = {name: get(f"embeddings.{theirs}_embeddings.weight") for name, theirs in names.items()}
    params = {"embed": tables | {"kind": tables["kind"][0], "norm": norm("embeddings.LayerNorm")}}
    depth = len({name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")})
    for i in range(depth):
        at = f"encoder.layer.{i}"
        attention = {name: dense(f"{at}.attention.self.{name}") for name in ("query", "key", "value")}
        params[f"block{i}"] = {
            "attention": attention | {"out": dense(f"{at}.attention.output.dense")},
            "attention_norm": norm(f"{at}.attention.output.LayerNorm"),
            "up": dense(f"{at}.intermediate.dense"),
            "down": dense(f"{at}.output.dense"),
            "norm": norm(f"{at}.output.LayerNorm"),
        }
    return params


def tokenize(folder: str | Path, texts: Sequence[str], length: int = 256) -> tuple[list[list[int]], int]:
    """Token ids of each text with the marks of its start and end, at most ``length``, and how many texts were cut.

    Raises:
        InputError: a single string, a length below 3, no ``tokenizer.json``, or the package ``tokenizers`` is missing.
    """
    if isinstance(texts, str):
        raise InputError("texts is a single string: give a list of strings.")
    if length < 3:
        raise InputError(f"length is {length}: give at least 3 tokens, a word and the marks of start and end.")
    try:
        from tokenizers import Tokenizer  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError("reading MiniLM needs the package tokenizers: pip install 'unlearn_jax[text]'.") from None
    path = _file(folder, "tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise InputError(f"'{path}' is damaged ({_short(error)}): get the files of all-MiniLM-L6-v2 afresh.") from None
    tokenizer.no_padding()  # the file says: all to 128
    tokenizer.no_truncation()
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    return [i if len(i) <= length else [*i[: length - 1], i[-1]] for i in ids], sum(len(i) > length for i in ids)


def _short(error: Exception) -> str:
    """What an error says, in one short line."""
    return " ".join(str(error).split())[:120] or type(error).__name__


def _file(folder: str | Path, name: str) -> Path:
    path = Path(folder).expanduser() / name
    if not path.is_file():
        raise InputError(f"there is no {name} in {folder}: give a folder with the files of all-MiniLM-L6-v2.")
    return path
