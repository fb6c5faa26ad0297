"""How much a study is going to write, asked before its populations are trained."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import jax
import numpy as np

from unlearn_jax.data.splits import SPLITS
from unlearn_jax.population import checkpoint
from unlearn_jax.roles import REFERENCES
from unlearn_jax.runtime import disk
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.outputs import shown_targets
from unlearn_jax.studies.setup import Setup
from unlearn_jax.trees import split_shared

LINE, FIGURES = 370.0, 115  # bytes of a row in all tables; rows of a population for each request


def name_of(config: StudyConfig) -> str:
    """A study's name in the notes of the store: the digest of its configuration."""
    return checkpoint.digest_of(json.dumps(dataclasses.asdict(config), sort_keys=True))[:16]


def check_study(setup: Setup, out: Path, store: Path) -> str:
    """Whether the disk has room for a study: a warning without its full stop, or ''.

    What other studies have put into the store may serve this one, so it is refused only for what is sure to be new, and
    warned for what may be.

    Raises:
        InputError: it is sure not to fit.
    """
    weights, scores = needed(setup)
    scores += records_of(setup) + gallery_of(setup)
    own, others = stored(store, name_of(setup.config))
    most = max(0.0, weights - own)
    sure = max(0.0, most - others)
    notes = [disk.check_room(store, "--store", sure, most), disk.check_room(out, "--out", scores, scores)]
    return next(filter(None, notes), "")


def needed(setup: Setup) -> tuple[float, float]:
    """Bytes that a study's populations take in the store, and their margins in the run folder.

    At least: what methods train besides (shards, teachers) and remedies are asked to search with is not counted.
    """
    study = setup.study
    levels, given = study.axes, study.settings
    several = lambda name: math.prod(len(v) for v in given.get(name, {}).values())
    methods = sum(several(name) for name in study.methods)
    remedied = sum(several(name) * several(remedy) for name, remedy in study.pairs)
    each = methods + remedied
    trained = 1 + len({copies for copies, _ in levels}) + (len(REFERENCES) - 2) * len(levels)  # oracle, originals, rest
    weight = weight_of(setup)
    scored = (each + len(REFERENCES)) * len(levels)
    populations = trained + each * len(levels)
    return float(weight * setup.study.members * populations), 4.0 * len(setup.shown) * setup.study.members * scored


def records_of(setup: Setup) -> float:
    """Bytes of the tables that a study leaves: a line for each member and figure, and for each figure of all together.

    By the lengths that rows have: 325 bytes in ``records.jsonl``, an eighth of that in the other tables.
    """
    study, config = setup.study, setup.config
    levels, given = len(study.axes), study.settings
    several = lambda name: math.prod(len(v) for v in given.get(name, {}).values())
    each = sum(several(name) for name in study.methods)
    each += sum(several(name) * several(remedy) for name, remedy in study.pairs)
    populations = (each + len(REFERENCES)) * levels
    single = 2 * len(SPLITS) * setup.study.members
    pooled = FIGURES * (1 + config.requests * (config.requests > 1))
    return LINE * populations * (single + pooled)


def gallery_of(setup: Setup) -> float:
    """Bytes of the pictures, or texts, of some targets with their copies."""
    bench = setup.bench
    if bench.kind != "image":
        return 0.0
    shown = len(shown_targets(bench)) * (1 + min(8, max(setup.study.copies)))
    return float(shown * math.prod(bench.inputs.shape[1:]) * bench.inputs.dtype.itemsize)


def weight_of(setup: Setup) -> int:
    """Bytes of one member's weights."""
    one = jax.eval_shape(setup.problem.model.init, jax.random.key(0), setup.problem.example)
    return sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(split_shared(one)[0]))


def stored(store: Path, name: str) -> tuple[float, float]:
    """Bytes of the members in a store that belong to the study ``name``, and to others."""
    own = others = 0.0
    for path in store.glob("*.json") if store.is_dir() else ():
        try:
            note = read_json(path)
            count, study = float(note.get("bytes", 0)), note.get("study")
        except (OSError, ValueError, TypeError, AttributeError):
            continue
        own, others = (own + count, others) if study == name else (own, others + count)
    return own, others
