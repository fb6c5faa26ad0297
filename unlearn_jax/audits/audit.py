"""An audit from beginning to end, as a library call: populations, battery, ranking, records."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from unlearn_jax.audits.own import read_logits
from unlearn_jax.errors import InputError
from unlearn_jax.evaluation.composites import composite_figures
from unlearn_jax.evaluation.curves import drawn
from unlearn_jax.evaluation.engine import Precision
from unlearn_jax.evaluation.figures import AuditData, own_figures, pair_figures, relative_figures, residual_figures
from unlearn_jax.evaluation.measured import cost_figures, matched_figures, study_figures, weight_metrics
from unlearn_jax.evaluation.metric import CompositeMetric, MatchedMetric, ModelMetric, PopulationMetric
from unlearn_jax.evaluation.panels import Panels, PopulationOutputs
from unlearn_jax.evaluation.ranking import Ranking, rankings
from unlearn_jax.evaluation.records import MetricResult, write_audit
from unlearn_jax.evaluation.table import rows_of
from unlearn_jax.evaluation.views import views_of
from unlearn_jax.methods import METHODS
from unlearn_jax.metrics.residual import MIN_MEMBERS
from unlearn_jax.population.checkpoint import check_writable
from unlearn_jax.results.recorder import environment
from unlearn_jax.roles import NULLS, REFERENCES
from unlearn_jax.studies.hyperparameters import MAX_DRAWS, check_seed, check_size
from unlearn_jax.studies.setup import SILENT, Watch

DEFAULT = Precision()
MIN_COUNTS = {"draws": 20, "splits": 20, "resamples": 20}


def audit_study(
    run: Path,
    *,
    out: Path | None = None,
    how: Precision = DEFAULT,
    store: Path | None = None,
    relearn_lr: float = 0.0,
    command: str = "",
    watch: Watch = SILENT,
    **options,
) -> Path:
    """Audit the populations of a finished study at its largest number of copies.

    Args:
        run: run folder.
        out: folder of the audit; None = ``audit`` within the run folder.
        how: number of draws behind intervals and bands.
        store: where the study's trained members are kept; None = ``populations`` beside the run folder. Members that
            are not there are trained again; without the folder and without this argument: an error.
        relearn_lr: learning rate of relearning; 0 = by the recipe.
        command: for the record.
        watch: progress.
        options: ``chunk``, ``axis``, ``loop`` (as the study's unless given), ``data_dir``.

    Returns:
        The folder, holding audit.csv, audit.parquet, ranking.csv, curves.npz and audit.json.

    Raises:
        InputError: no finished study, its populations or data missing, a folder that cannot be written, too few draws.
    """
    from unlearn_jax.audits.replay import replayed

    began = time.time()
    _check(how)
    if relearn_lr < 0:
        raise InputError(f"--relearn-lr is {relearn_lr:g}: give 0 (by the recipe) or more.")
    run = Path(run).resolve()
    out = Path(out) if out else run / "audit"
    if (run / "manifest.json").exists():
        check_writable(out, "--out", keep=False)
    panels = replayed(run, relearn_lr, store=store, watch=watch, **options)
    check_writable(out, "--out")
    return _audited(panels, out, how, {"run": str(run.name), "command": command}, began, watch)


def audit_logits(
    logits: Sequence[str] | dict[str, Path],
    *,
    out: Path | None = None,
    how: Precision = DEFAULT,
    command: str = "",
    watch: Watch = SILENT,
) -> Path:
    """Audit populations that were trained elsewhere, from files of their logits.

    Args:
        logits: ``NAME=FILE.npz`` each, or a dict; what the files hold is said in `own.read_logits`.
        out: folder of the audit; None = ``audits/`` and the names of the unlearned populations.
        how: number of draws.
        command: for the record.
        watch: progress.

    Raises:
        InputError: see `own.read_logits`; a folder that cannot be written, too few draws.
    """
    began = time.time()
    _check(how)
    files = logits if isinstance(logits, dict) else _files(logits)
    panels = read_logits(files)
    methods = [p.label for p in panels.populations if p.name not in (*REFERENCES, *NULLS)]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join(methods)).strip("-")[:60]
    out = Path(out) if out else Path("audits") / (name or "unlearned")
    check_writable(out, "--out")
    about = {"logits": {name: Path(path).name for name, path in files.items()}, "command": command}
    return _audited(panels, out, how, about, began, watch)


def _files(words: Sequence[str]) -> dict[str, Path]:
    """Files by population, from ``NAME=FILE.npz``."""
    files: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not (name and equals and path):
            raise InputError(f"--logits '{word}' is not understood: write NAME=FILE.npz, such as unlearned=c.npz.")
        if name in files:
            raise InputError(f"--logits gives {name} twice: name each population once.")
        files[name] = Path(path)
    return files


def _check(how: Precision) -> None:
    """`InputError` where there are too few draws to make an interval of, or no seed."""
    for name, least in MIN_COUNTS.items():
        if getattr(how, name) < least:
            raise InputError(f"--{name} is {getattr(how, name)}: give at least {least}.")
        check_size(f"--{name}", getattr(how, name), MAX_DRAWS)
    check_seed(how.seed)


def _audited(panels: Panels, out: Path, how: Precision, about: dict, began: float, watch: Watch) -> Path:
    """Measure, rank and write."""
    bench, timing = AuditData(views_of(panels), how), {}
    tell = _teller(watch, timing)
    figures = audited(bench, panels, tell)
    tell("ranking")
    methods = [label for label in bench.judged if of_practice(bench.views[label][0].panel)]
    ranked = rankings(figures, methods)
    tell("curves")
    curves = drawn(bench, panels)
    tell("")
    manifest = {
        **about,
        "facts": panels.facts,
        "precision": how._asdict(),
        "members": {label: bench.members(label) for label in bench.views},
        "examples": {split: len(x) for split, x in panels.ground[0].labels.items()},
        "methods": methods,
        "alike": {name: bench.alike(name)[1:] for name in bench.references},
        "notes": _notes(bench, panels),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "seconds_total": time.time() - began,
        "seconds": timing,
        **environment(),
    }
    return write_audit(out, figures, ranked, panels.facts, curves, manifest)


def audited(bench: AuditData, panels: Panels, told: Callable[[str], None] = lambda text: None) -> list[MetricResult]:
    """Every figure of the battery.

    Args:
        bench: the populations' views.
        panels: the populations.
        told: called with the name of each metric before it is measured.
    """
    told("residual influence")
    figures = [*residual_figures(bench), *relative_figures(bench)]
    kinds: tuple = (
        (own_figures, (*rows_of(ModelMetric), *weight_metrics(panels))),
        (pair_figures, rows_of(PopulationMetric)),
        (composite_figures, rows_of(CompositeMetric)),
        (matched_figures, rows_of(MatchedMetric)),
    )
    for make, specs in kinds:
        for spec in specs:
            told(" ".join(filter(None, (spec.metric, spec.variant, spec.split))))
            figures += make(bench, spec)
    told("the study itself")
    return figures + study_figures(bench, panels) + cost_figures(bench, panels)


def of_practice(panel: PopulationOutputs) -> bool:
    """Whether a population is ranked: no reference or null population, no method given retrained models' outputs."""
    name = panel.name
    apart = name in METHODS and METHODS[name].needs & ({"reference"} if panel.remedy else {"reference", "nothing"})
    return name not in (*REFERENCES, *NULLS) and not apart


def _teller(watch: Watch, timing: dict[str, float]):
    """Says what is measured next, and keeps how long the last one took."""
    now = {"name": "", "since": time.perf_counter()}

    def tell(name: str) -> None:
        if now["name"]:
            timing[now["name"]] = round(time.perf_counter() - now["since"], 3)
        now.update(name=name, since=time.perf_counter())
        if name:
            watch.begin(name)

    return tell


def _notes(bench: AuditData, panels: Panels) -> list[str]:
    """What a reader of the figures must know."""
    notes = []
    for reference in bench.references:
        if len(bench.alike(reference)) < 2:
            half, name = bench.members(reference) // 2, "null" if reference == bench.kind else f"{reference}_b"
            notes.append(
                f"there is no second population like {reference} ({name}=FILE.npz), so its bands are of {half} against "
                f"{half} members and too wide for distances that fall with their number"
            )
    identifiability = bench.once("identifiable", lambda: None)
    if identifiability is not None and not identifiability.identifiable:
        span, fewest = identifiability.span, min(bench.members(label) for label in ("original", "oracle"))
        why = "fewer than 8 members a request" if fewest < MIN_MEMBERS else "within the noise"
        notes.append(
            f"residual influence and distance are not identifiable: the originals are {span.value:.2f} "
            f"[{span.ci_low:.2f}, {span.ci_high:.2f}] nats above the oracle, {why}"
        )
    for label, views in bench.views.items():
        lost = sum(int(np.isnan(view.logits("forget")).any(axis=(1, 2)).sum()) for view in views)
        if lost:
            notes.append(f"{lost} members of {label} diverged and are left out")
    if "similar" not in panels.ground[0].labels:
        notes.append("there are no similar samples in the data, so nothing is said of them")
    return notes


__all__ = ["Ranking", "audit_logits", "audit_study"]
