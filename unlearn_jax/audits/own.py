"""Populations that were trained elsewhere, from files of their logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.evaluation.panels import SPLITS, EvalSplits, Panels, PopulationOutputs
from unlearn_jax.roles import NULLS
from unlearn_jax.runtime.archives import read_arrays

REFERENCES = ("retrain", "oracle")
ASK = "give --logits original=a.npz retrain=b.npz unlearned=c.npz"
ALIASES = {"retain": "rest", "train": "rest", "heldout": "test", "held_out": "test"}


def read_logits(files: dict[str, Path]) -> Panels:
    """Populations of the user's own.

    Args:
        files: name -> ``.npz`` with ``logits`` (members, examples, classes), or (examples, classes) of one model. At
            least one file also holds, of the same examples, ``labels`` (examples,) and ``split`` (examples,): words
            among forget, similar, rest (or retain), test, test_similar; if it likes, ``cluster`` (examples,) numbers.
            The names ``original``, ``retrain``, ``oracle``, ``placebo``, ``dedup``, and for null bands ``null``
            (a second population like the oracle, or without one like retrain) and ``retrain_b`` (like retrain) mean
            what they mean in a study, all others are unlearned models.

    Raises:
        InputError: a file that is missing or not such an archive, populations of other examples, no reference or
            nothing to audit.
    """
    if not set(files) & set(REFERENCES):
        raise InputError(f"--logits names no reference: {ASK}, with retrain or oracle among the names.")
    fixed_names = {"original", "placebo", "dedup", *NULLS, *REFERENCES}
    if not set(files) - fixed_names:
        raise InputError(f"--logits names nothing that was unlearned: {ASK}.")
    read = {name: _arrays(name, Path(path)) for name, path in files.items()}
    logits = {name: _checked_logits(name, arrays["logits"]) for name, arrays in read.items()}
    shapes = {name: x.shape[1:] for name, x in logits.items()}
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{name} {shape[0]} x {shape[1]}" for name, shape in shapes.items())
        raise InputError(
            f"the files hold other examples or classes ({sizes}): evaluate all models on the same examples."
        )
    n, classes = next(iter(shapes.values()))
    labels, split = (_agreed(read, key, n) for key in ("labels", "split"))
    assert labels is not None and split is not None  # they are needed
    cluster = _agreed(read, "cluster", n, needed=False)
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"labels must be whole numbers from 0 to {classes - 1}: store the class numbers.")
    at = _columns(split)
    clusters = np.arange(n) if cluster is None else cluster
    ground = EvalSplits({s: labels[i] for s, i in at.items()}, {s: clusters[i] for s, i in at.items()}, {})
    ordered = sorted(logits, key=lambda name: name not in fixed_names)
    populations = [
        PopulationOutputs(name, "", name, [{s: logits[name][:, i] for s, i in at.items()}]) for name in ordered
    ]
    return Panels([ground], populations, {"dataset": "own logits"}, {})


def _arrays(name: str, path: Path) -> dict[str, np.ndarray]:
    try:
        arrays = read_arrays(path)
    except FileNotFoundError:
        raise InputError(f"there is no file '{path}' for {name}: {ASK}.") from None
    except OSError as error:
        raise InputError(f"cannot read '{path}' for {name} ({error.strerror}): {ASK}.") from None
    except ValueError as error:
        raise InputError(f"'{path}' is no .npz archive of plain arrays ({error}): write it with numpy.savez.") from None
    if "logits" not in arrays:
        raise InputError(f"'{path}' has no array 'logits': store (members, examples, classes) under that name.")
    return arrays


def _checked_logits(name: str, logits: np.ndarray) -> np.ndarray:
    """Logits as (members, examples, classes) float32."""
    logits = logits[None] if logits.ndim == 2 else logits
    if logits.ndim != 3 or 0 in logits.shape or logits.shape[2] < 2 or logits.dtype.kind not in "fiu":
        raise InputError(
            f"logits of {name} are {logits.dtype} {logits.shape}: give real numbers (members, examples, classes)."
        )
    if np.isnan(logits).any(axis=(1, 2)).all():
        raise InputError(f"every member of {name} has a logit that is no number: leave this population out.")
    return logits.astype(np.float32)


def _agreed(read: dict[str, dict], key: str, n: int, *, needed: bool = True) -> np.ndarray | None:
    """An array of the examples that the files which hold it agree on."""
    arrays_of = {name: arrays[key] for name, arrays in read.items() if key in arrays}
    if not arrays_of:
        if needed:
            raise InputError(f"no file holds '{key}': store an array of {n} beside the logits of one population.")
        return None
    first = next(iter(arrays_of.values()))
    for name, other in arrays_of.items():
        if other.shape != (n,):
            raise InputError(f"'{key}' of {name} is {other.shape}: give one entry for each of the {n} examples.")
        if not np.array_equal(other, first):
            raise InputError(
                f"'{key}' of {name} is not that of {next(iter(arrays_of))}: evaluate on the same examples."
            )
    return first


def _columns(split: np.ndarray) -> dict[str, np.ndarray]:
    words = np.asarray([ALIASES.get(str(word), str(word)) for word in split])
    strange = sorted({str(word) for word in words} - set(SPLITS))
    if strange:
        raise InputError(f"split holds {', '.join(map(repr, strange[:3]))}: use {', '.join(SPLITS)}.")
    for needed in ("forget", "test"):
        if needed not in words:
            raise InputError(f"split names no '{needed}' example: audits compare the forgotten with the held out.")
    return {name: np.flatnonzero(words == name) for name in SPLITS if name in words}
