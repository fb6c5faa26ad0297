"""A finished study's populations, read back from its store and looked at with their weights.

The study is run again up to the point where it would measure: every chunk of trained members that is in the store is
read, so nothing is trained but three more oracle and two more retrained populations, from which null bands come, and
relearning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unlearn_jax.audits.look import Look
from unlearn_jax.audits.relearning import Relearning
from unlearn_jax.errors import InputError
from unlearn_jax.evaluation.panels import Panels
from unlearn_jax.results.tables import check_seals
from unlearn_jax.roles import NULLS, REFERENCES
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.populations import level_of, methods, references
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.setup import SILENT, Watch, absent_references, prepare_study

FIRST = ("oracle", "retrain", "original")
ROLES = (*FIRST, *(role for role in REFERENCES if role not in FIRST), *NULLS)


def read_config(run: Path) -> tuple[StudyConfig, dict]:
    """The configuration of a finished study and its manifest.

    Raises:
        InputError: no run folder, a run that is not finished, or a manifest that no study wrote.
    """
    try:
        manifest = read_json(run / "manifest.json")
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in manifest["asked"].items()}
        config, status = StudyConfig(**fields), manifest["status"]
    except FileNotFoundError:
        raise InputError(f"'{run}' has no manifest.json: give the run folder of unlearn-jax study.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"'{run}' has a manifest.json that no study of this version wrote: run it again.") from None
    if status != "complete":
        raise InputError(f"the run in '{run}' is not complete: run its unlearn-jax study command again first.")
    check_seals(run, manifest)
    return config, manifest


def replayed(
    run: Path, relearn_lr: float = 0.0, *, store: Path | None = None, watch: Watch = SILENT, **options
) -> Panels:
    """The populations of a study's last copies level, with everything that an audit asks of their weights.

    Args:
        run: run folder of a finished study.
        relearn_lr: learning rate of relearning; 0 = ten times the recipe's, of an SGD recipe a fifth of it.
        store: where its trained members are kept; default ``populations`` beside the run folder.
        watch: progress.
        options: ``chunk``, ``axis``, ``loop`` (as the study's unless given), ``data_dir``.

    Raises:
        InputError: see `read_config`; no store, missing data.
    """
    config, manifest = read_config(run)
    if store is None and not (run.parent / "populations").is_dir():
        raise InputError(
            f"there is no folder '{run.parent / 'populations'}' with the study's trained members: give --store FOLDER."
        )
    as_before = {name: value for name, value in manifest.get("run", {}).items() if name in ("chunk", "axis", "loop")}
    study = resolve(config)
    setup = prepare_study(study, watch, **{"store": store or run.parent / "populations", **as_before, **options})
    setup = setup._replace(options=watch.on(setup.options))
    copies = max(copies for copies, _ in study.axes)
    level = level_of(setup, copies, next(gamma for m, gamma in study.axes if m == copies))
    absent = absent_references(setup.bench, level.rows)
    recipe = setup.problem.recipe
    relearn_lr = relearn_lr or recipe.lr * (10.0 if recipe.optimizer == "adamw" else 0.2)
    look = Look(setup, level, Relearning(relearn_lr, batch=min(recipe.batch, 128)))
    outcomes, _ = references(setup, level, {}, watch, absent, ROLES, look.visit)
    original = next(o for o in outcomes if o.name == "original")
    outcomes += methods(setup, level, original, watch, look.visit)
    facts = {
        "dataset": setup.dataset.name,
        "model": study.model,
        "targets": config.targets,
        "similarity": config.similarity,
        "copies": copies,
        "gamma": float(level.rows[0].gamma),
    }
    costs = {
        o.label: {
            "seconds": o.population.seconds,
            "grad_evals_forget": o.grad_evals[0],
            "grad_evals_retain": o.grad_evals[1],
        }
        for o in outcomes
    }
    return Panels(look.ground, look.panels, facts, look.about, costs)
