"""An attribution study from beginning to end, as a library call: data, models, truths, estimators, records."""

from __future__ import annotations

import dataclasses
import json
import time
from functools import partial
from pathlib import Path

import numpy as np

from unlearn_jax.attribution.config import AttributionConfig, checked, tracks_of
from unlearn_jax.attribution.estimators import ESTIMATORS, chosen, newton_effects
from unlearn_jax.attribution.ground import Ground, prepare_ground
from unlearn_jax.attribution.law import law_rows
from unlearn_jax.attribution.memorized import memorized_rows
from unlearn_jax.attribution.tables import (
    Scores,
    agreement_rows,
    carried_rows,
    carrier_rows,
    kept_row,
    lds_rows,
    predictions,
    removal_rows,
)
from unlearn_jax.attribution.tracks import Track, exact_track, network_track, regression_inputs
from unlearn_jax.errors import InputError
from unlearn_jax.population import checkpoint
from unlearn_jax.results.recorder import environment, write_json
from unlearn_jax.results.tables import seals, write_csv
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.runtime.disk import write_whole
from unlearn_jax.studies.outputs import words_of
from unlearn_jax.studies.setup import SILENT, Watch

TRACKS = {"exact": exact_track, "network": network_track}
SHOWN, NEAREST = 6, 8  # targets and examples of each in the gallery


def run_attribution(
    config: AttributionConfig,
    out: Path,
    *,
    store: Path | None = None,
    command: str = "",
    watch: Watch = SILENT,
    **options,
) -> Path:
    """Hold every estimator of influence against what removal really does.

    Args:
        config: what is measured.
        out: run folder; a run of the same configuration may be written again.
        store: where trained networks are kept; default ``populations`` beside the run folder.
        command: for the record.
        watch: progress.
        options: ``chunk``, ``axis``, ``loop`` of `Options`; ``data_dir`` of prepared data.

    Returns:
        The folder, holding removals.parquet, carriers.parquet, memorization.parquet, law.parquet, summary.csv,
        gallery.npz and manifest.json.

    Raises:
        InputError: bad configuration, missing data, a folder that holds something else or cannot be written.
    """
    names = chosen(checked(config).estimators)
    began = time.time()
    store = store or out.parent / "populations"
    _refuse_other(out, config)
    for folder, option in ((out, "--out"), (store, "--store")):
        checkpoint.check_writable(folder, option, keep=False)
    ground = prepare_ground(config, watch, store=store, **options)
    tracks = [TRACKS[name](config, ground, watch) for name in tracks_of(config)]
    tables: dict[str, list[dict]] = {"removals": [], "carriers": [], "memorization": [], "law": []}
    summary, seconds, gallery = [], {}, {}
    for track in tracks:
        scores, seconds[track.name] = _scored(track, names, watch)
        _compare(track, ground, scores, tables, summary, config.seed, watch)
        gallery = _gallery(ground, track, scores) or gallery
    if "exact" in tracks_of(config):
        watch.say("the law of copies")
        tables["law"] = law_rows(ground, regression_inputs(ground), config.l2)
    manifest = {
        "kind": "attribution",
        "command": command,
        "config": dataclasses.asdict(config),
        "examples": {"train": len(ground.train), "queries": len(ground.queries), "clusters": len(ground.clusters)},
        "accuracy": {track.name: track.accuracy for track in tracks},
        "training_seconds": {track.name: track.seconds for track in tracks},
        "estimators": {name: ESTIMATORS[name].about for name in names},
        "solving": {track.name: track.solving for track in tracks},
        "seconds": seconds,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "seconds_total": time.time() - began,
        **environment(),
    }
    return _written(out, tables, summary, gallery, manifest)


def _refuse_other(out: Path, config: AttributionConfig) -> None:
    """`InputError` where the folder holds another run."""
    if out.exists() and not out.is_dir():
        raise InputError(f"'{out}' is a file: give another --out folder.")
    if not (out / "manifest.json").exists():
        return
    try:
        there = read_json(out / "manifest.json")["config"]
    except (OSError, ValueError, KeyError, TypeError):
        there = {}
    if there != json.loads(json.dumps(dataclasses.asdict(config))):
        raise InputError(f"'{out}' holds another run: give another --out folder.")


def _scored(track: Track, names: list[str], watch: Watch) -> tuple[Scores, dict[str, float]]:
    """Scores of every estimator and the seconds that each took, compiling included."""
    scores, seconds = {}, {}
    for name in names:
        watch.say(f"{track.name} track: {name}")
        began = time.perf_counter()
        scores[name] = np.asarray(ESTIMATORS[name].scores(track), np.float64)
        seconds[name] = time.perf_counter() - began
    return scores, seconds


def _compare(track, ground: Ground, scores: Scores, tables: dict, summary: list, seed: int, watch: Watch) -> None:
    """Fill the tables with what one track says."""
    singles = [np.asarray([place]) for place in ground.targets]
    newton = partial(newton_effects, track) if "influence" in scores else lambda groups: None
    kinds = [("target", singles, track.singles), ("cluster", ground.clusters, track.clusters)]
    for kind, groups, truth in kinds if ground.copied else kinds[:1]:
        watch.say(f"{track.name} track: removal of each {kind}")
        predicted = predictions(scores, groups, newton(groups))
        tables["removals"] += removal_rows(track, ground, kind, predicted, truth)
        summary += agreement_rows(track, ground, kind, predicted, truth, seed)
    summary += lds_rows(track, ground, scores, seed)
    carriers = carrier_rows(track, ground, scores)
    tables["carriers"] += carriers
    summary += carried_rows(track, carriers, seed) + ([kept_row(track, seed)] if ground.copied else [])
    rows, correlations = memorized_rows(track, ground, seed)
    tables["memorization"] += rows
    summary += correlations


def _gallery(ground: Ground, track: Track, scores: Scores) -> dict[str, np.ndarray]:
    """The examples that help some targets most, by the first estimator of gradients."""
    name = next(iter(scores))
    table, bench = scores[name] / len(ground.train), ground.setup.bench
    shown = list(range(min(SHOWN, len(ground.targets))))
    near = np.stack([np.argsort(-table[:, g], kind="stable")[:NEAREST] for g in shown])
    rows = ground.train[near]
    gallery = {
        "target": ground.train[ground.targets[shown]],
        "rows": rows,
        "scores": np.take_along_axis(table[:, shown].T, near, axis=1),
        "own": bench.cluster[rows] == np.asarray(shown)[:, None],
        "labels": bench.labels[rows],
        "class_names": np.asarray(ground.setup.dataset.class_names, dtype=str),
        "estimator": np.asarray(name),
        "track": np.asarray(track.name),
    }
    if bench.kind == "image":
        return gallery | {"images": bench.inputs[rows], "images_target": bench.inputs[gallery["target"]]}
    words = lambda at: np.asarray(words_of(ground.setup, at), dtype=str)
    return gallery | {"texts": words(rows.ravel()).reshape(rows.shape), "texts_target": words(gallery["target"])}


def _written(out: Path, tables: dict, summary: list[dict], gallery: dict, manifest: dict) -> Path:
    """The run folder; the manifest last, so that a folder with one is whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    checkpoint.check_writable(out, "--out")
    for name, rows in tables.items():
        if rows:
            table = pa.Table.from_pylist(rows)
            write_whole(out / f"{name}.parquet", lambda path, table=table: pq.write_table(table, path))

    def save(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **gallery)

    write_whole(out / "gallery.npz", save)
    write_csv(out / "summary.csv", list(summary[0]), summary)
    files = seals(
        out, {"summary.csv": len(summary)} | {f"{n}.parquet": len(rows) for n, rows in tables.items() if rows}
    )
    write_json(out / "manifest.json", manifest | {"files": files})
    return out
