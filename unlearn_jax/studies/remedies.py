"""Methods with remedies around them: what a remedy is given of a study, and every setting that is asked for."""

from __future__ import annotations

import functools

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS
from unlearn_jax.methods.runner import RunSpec, context_of, follow, kept_rows, run_method
from unlearn_jax.population.members import grid
from unlearn_jax.remedies import REMEDIES, RemedyContext, remedy_settings
from unlearn_jax.remedies.search import misfit
from unlearn_jax.studies.resolve import Study
from unlearn_jax.studies.setup import Setup
from unlearn_jax.types import Variables


def remedied(setup: Setup, job: RunSpec, name: str, remedy: str, given: dict, asked: dict, original: Variables):
    """Run a method with a remedy at every combination of both's settings.

    Args:
        setup: the study.
        job: what is common to the methods of a level.
        name: of the method.
        remedy: of the remedy.
        given: the method's hyperparameters, each a list of values.
        asked: the remedy's settings, each a list of values.
        original: variables of N members.

    Yields:
        (settings that differ from the defaults, `Remedied`).
    """
    for point in grid(given):
        for setting in grid(asked):
            evidence = evidence_of(setup, job, name, remedy, {k: [v] for k, v in point.items()}, original)
            done = REMEDIES[remedy].apply(evidence, remedy_settings(remedy, setting))
            yield point | {f"{remedy}.{k}": v for k, v in setting.items()}, done


def evidence_of(setup: Setup, job: RunSpec, name: str, remedy: str, given: dict, original: Variables) -> RemedyContext:
    """What a remedy may know: nothing of clusters, of how copies were made, or of references but the originals."""
    bench, clock = setup.bench, []
    kept = lambda rows: np.sort(np.concatenate([rows.similar, rows.rest]))
    blind = job._replace(rows=[rows._replace(rest=kept(rows), similar=rows.similar[:0]) for rows in job.rows])
    return RemedyContext(
        name=f"{name}+{remedy}",
        entry=METHODS[name],
        problem=job.problem,
        seed=job.seed,
        kind=bench.kind,
        stored=job.stored,
        labels=bench.labels,
        texts=bench.texts,
        kept=kept_rows(job),
        requested=[rows.requested for rows in job.rows],
        heldout=[rows.validation for rows in job.rows],
        original=original,
        run=lambda treat: run_method(name, blind, original, given, treat),
        follow=functools.partial(follow, blind),
        context=lambda treat: context_of(blind, treat, clock),
        train_cost=job.training[1].grad_evals_retain,
        clock=clock,
    )


def left_out_remedies(study: Study) -> list[tuple[str, str]]:
    """(method, sentence) for each remedy, of method '', or pair that is asked for and not run; without full stops."""
    notes = []
    for name in study.remedies:
        if study.kind not in REMEDIES[name].kinds:
            notes.append(("", f"{name} is not defined for {study.kind} data and was not run"))
        elif study.inputs not in REMEDIES[name].inputs:
            notes.append(("", f"{name} is not defined for models of {study.inputs} and was not run"))
        else:
            reasons = {method: REMEDIES[name].methods(METHODS[method]) for method in study.wrapped}
            notes += [(method, f"{method}+{name} was not run: {why}") for method, why in reasons.items() if why]
    return notes


def check_remedies(study: Study) -> None:
    """Raise `InputError` where no pair of a remedy that is named can be run, or a setting exceeds a request."""
    config = study.config
    for name in (n.strip() for n in config.remedies.split(",") if n.strip() not in ("", "all", "none")):
        if not any(r == name for _, r in study.pairs):
            why = "; ".join(note for _, note in left_out_remedies(study) if name in note) or "no method is run"
            raise InputError(f"remedy '{name}' has nothing to do: {why}.")
    for name, settings in study.settings.items():
        for value in settings.get("similarity", ()) if name in REMEDIES else ():
            if why := misfit(value, study.kind, study.inputs):
                raise InputError(f"--hp {name}.similarity: {why}")
    for name in study.remedies if config.targets != "whole_class" else ():
        if setting := REMEDIES[name].within_request:
            most = max(study.settings.get(name, {}).get(setting, [REMEDIES[name].static[setting]]))
            if most > config.num_targets:
                raise InputError(
                    f"{name}.{setting} is {most} and a request has {config.num_targets}: give at most that."
                )


def role_of(name: str, remedy: str) -> str:
    """Whose member draws a pair shares: the originals', unless its members are trained anew."""
    fresh = REMEDIES[remedy].fresh or METHODS[name].needs & {"fresh_init", "protocol"}
    return f"{name}+{remedy}" if fresh else "original"
