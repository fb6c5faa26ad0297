"""The folders of a study: whose they are, and whether there is room for what it is going to write."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from pathlib import Path

import jax
import numpy as np

from unlearn_jax.data.splits import SPLITS
from unlearn_jax.errors import InputError
from unlearn_jax.population import checkpoint
from unlearn_jax.roles import REFERENCES
from unlearn_jax.runtime import disk
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.outputs import SHOWN_COPIES, shown_targets
from unlearn_jax.studies.resolve import Study
from unlearn_jax.studies.setup import Setup
from unlearn_jax.trees import split_shared

LINE, FIGURES = 370.0, 115  # bytes of a row in all tables; rows of a population for each request


def name_of(config: StudyConfig) -> str:
    """A study's name in the notes of the store: the digest of its configuration."""
    return checkpoint.digest_of(json.dumps(dataclasses.asdict(config), sort_keys=True))[:16]


def first_look(out: Path, store: Path, config: StudyConfig) -> dict:
    """The manifest of an earlier run of this study, {} where there is none; folders are as they were.

    Raises:
        InputError: a folder of another study, that is in use, or that cannot be written.
    """
    manifest = _refuse_other(out, config)
    for folder, option in ((out, "--out"), (store, "--store")):
        checkpoint.check_writable(folder, option, keep=False)  # before anything is trained
    if out.exists():
        with checkpoint.locked(out):
            pass
    return manifest


def _refuse_other(out: Path, config: StudyConfig) -> dict:
    """The manifest of an earlier run of this configuration, {} where there is none.

    Raises:
        InputError: the folder is a file, or holds a study of another configuration or something else.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"'{out}' is a file: give another --out folder.")
    if not (out / "manifest.json").exists():
        return {}
    try:
        manifest = read_json(out / "manifest.json")
        default, now = (json.loads(json.dumps(dataclasses.asdict(one))) for one in (StudyConfig(), config))
        before = default | manifest["asked"]  # fields that came later
        differ = [key for key in now if before.get(key) != now[key]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"'{out}' has a manifest.json that no study wrote: give another --out folder.") from None
    if differ:
        raise InputError(f"'{out}' holds another study ({', '.join(differ)} differ): give another --out folder.")
    return manifest


def claim(out: Path, store: Path, held: contextlib.ExitStack) -> None:
    """Make both folders, and keep the run folder for this process until ``held`` is closed.

    Raises:
        InputError: one cannot be written, or the run folder is in use.
    """
    checkpoint.check_writable(store, "--store")
    checkpoint.check_writable(out, "--out")
    held.enter_context(checkpoint.locked(out))
    checkpoint.sweep(out)


def check_study(setup: Setup, out: Path, store: Path) -> str:
    """Whether the disk has room for a study: a warning without its full stop, or ''.

    What other studies have put into the store may serve this one, so it is refused only for what is certainly new, and
    warned for what may be.

    Raises:
        InputError: it cannot fit.
    """
    weights, scores = needed(setup)
    scores += records_of(setup) + gallery_of(setup)
    mine, others = stored(store, name_of(setup.config))
    most = max(0.0, weights - mine)
    least = max(0.0, most - others)
    notes = [disk.check_room(store, "--store", least, most), disk.check_room(out, "--out", scores, scores)]
    return next(filter(None, notes), "")


def needed(setup: Setup) -> tuple[float, float]:
    """Bytes that a study's populations take in the store, and their margins in the run folder.

    At least: what methods train besides (shards, teachers) and remedies are asked to search with is not counted.
    """
    study = setup.study
    levels, each, members = study.axes, _settings(study), study.members
    trained = 1 + len({copies for copies, _ in levels}) + (len(REFERENCES) - 2) * len(levels)  # oracle, originals, rest
    margins = (each + len(REFERENCES)) * len(levels)
    populations = trained + each * len(levels)
    return float(weight_of(setup) * members * populations), 4.0 * len(setup.shown) * members * margins


def _settings(study: Study) -> int:
    """How many populations are made from the originals at a level."""
    several = lambda name: math.prod(len(v) for v in study.settings.get(name, {}).values())
    remedied = sum(several(name) * several(remedy) for name, remedy in study.pairs)
    return sum(several(name) for name in study.methods) + remedied


def records_of(setup: Setup) -> float:
    """Bytes of the tables that a study leaves: a line for each member and figure, and for each figure of all together.

    By the lengths that rows have: 325 bytes in ``records.jsonl``, an eighth of that in the other tables.
    """
    study, requests = setup.study, setup.config.requests
    populations = (_settings(study) + len(REFERENCES)) * len(study.axes)
    single = 2 * len(SPLITS) * study.members
    pooled = FIGURES * (1 + requests * (requests > 1))
    return LINE * populations * (single + pooled)


def gallery_of(setup: Setup) -> float:
    """Bytes of the pictures, or texts, of some targets with their copies."""
    bench = setup.bench
    if bench.kind != "image":
        return 0.0
    shown = len(shown_targets(bench)) * (1 + min(SHOWN_COPIES, max(setup.study.copies)))
    return float(shown * math.prod(bench.inputs.shape[1:]) * bench.inputs.dtype.itemsize)


def weight_of(setup: Setup) -> int:
    """Bytes of one member's weights."""
    one = jax.eval_shape(setup.problem.model.init, jax.random.key(0), setup.problem.example)
    return sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(split_shared(one)[0]))


def stored(store: Path, name: str) -> tuple[float, float]:
    """Bytes of the members in a store that belong to the study ``name``, and to others."""
    mine = others = 0.0
    for path in store.glob("*.json") if store.is_dir() else ():
        try:
            note = read_json(path)
            count, study = float(note.get("bytes", 0)), note.get("study")
        except (OSError, ValueError, TypeError, AttributeError):
            continue
        mine, others = (mine + count, others) if study == name else (mine, others + count)
    return mine, others
