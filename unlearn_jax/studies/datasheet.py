"""What a named benchmark set holds once it is built: counts, likeness, and a digest, compared with the recorded one."""

from __future__ import annotations

from typing import Any

import numpy as np

from unlearn_jax.data.benchmarks import bench_digest, benchmark_named
from unlearn_jax.data.splits import request_rows
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.outputs import likeness
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.setup import Setup, prepare_study
from unlearn_jax.studies.validate import check

BUILDS = ("similarity", "targets", "num_targets", "requests", "skip_requests", "seed", "train_size", "test_size")


def benchmark_manifest(setup: Setup) -> dict[str, Any]:
    """What a study of a benchmark built, for its manifest.

    Returns:
        name, version, digest, the recorded digest ("" where none is known), the options that were ``changed`` from the
        recipe's, and ``as_recorded``, None where options were changed or no digest is recorded.
    """
    config, benchmark = setup.config, benchmark_named(setup.config.benchmark)
    usual = resolve(StudyConfig(benchmark=benchmark.name, dataset=config.dataset)).config
    changed = [name for name in BUILDS if getattr(usual, name) != getattr(config, name)]
    digest = bench_digest(benchmark, setup.dataset, setup.bench, config.similarity, config.seed)
    recorded = "" if changed else benchmark.digests.get(config.dataset, "")
    return {
        "name": benchmark.name,
        "version": benchmark.version,
        "digest": digest,
        "recorded": recorded,
        "changed": changed,
        "as_recorded": digest == recorded if recorded else None,
    }


def warning(manifest: dict[str, Any]) -> tuple[str, ...]:
    """A sentence without full stop where a `benchmark_manifest` is not as recorded; nothing else."""
    if manifest["as_recorded"] is not False:
        return ()
    digests = f"digest {manifest['digest'][:12]}, recorded {manifest['recorded'][:12]}"
    return (f"benchmark '{manifest['name']}' is not as recorded ({digests}): the source, or a library, differs",)


def card_of(name: str, **options) -> dict[str, Any]:
    """Build a benchmark and count what it holds; nothing is trained but pilots, where targets are atypical.

    Args:
        name: of the benchmark.
        options: ``data_dir`` of prepared data, and any field of `StudyConfig`.

    Returns:
        Names to figures: recipe, counts, the likeness of similar samples to their targets by their number (mean and
        quantiles), the share of them with their target's label, and what `benchmark_manifest` says.

    Raises:
        InputError: an unknown name, options that do not fit, missing data.
    """
    data_dir = options.pop("data_dir", None)
    benchmark = benchmark_named(name)
    config = StudyConfig(**{"benchmark": name, "methods": "none", **options})
    study = resolve(config)
    check(study)
    setup = prepare_study(study, data_dir=data_dir)
    config, bench, dataset = setup.config, setup.bench, setup.dataset
    of_cluster = {int(bench.cluster[row]): row for row in np.flatnonzero((bench.origin == 0) & (bench.request >= 0))}
    similar, same = {}, {}
    for number in range(1, study.max_copies + 1):
        rows = np.flatnonzero((bench.origin == 1) & (bench.copy == number))
        source = np.asarray([of_cluster[int(cluster)] for cluster in bench.cluster[rows]])
        similar[number] = likeness(setup, rows, source)
        same[number] = float((bench.labels[rows] == bench.labels[source]).mean())
    rest = request_rows(bench, 0, copies=0).rest
    return {
        "about": benchmark.about,
        "source": config.dataset,
        "train": len(dataset.train.ids),
        "test": len(dataset.test.ids),
        "classes": len(dataset.class_names),
        "requests": bench.requests,
        "targets": len(of_cluster),
        "targets_are": config.targets,
        "similarity": config.similarity,
        "levels": list(benchmark.levels),
        "copies": list(benchmark.copies),
        "rest": len(rest),
        "held_out_similar": int((bench.origin == 3).sum()),
        "likeness": similar,
        "same_label": same,
        "notes": list(setup.notes),
        "licence": benchmark.licence,
        "limits": list(benchmark.limits),
        "twin": benchmark.twin,
        **benchmark_manifest(setup),
    }
