"""Audit populations of unlearned models: the whole battery of metrics, with intervals and null bands.

    unlearn-jax audit runs/NAME            # of a finished study: writes NAME/audit and NAME/audit.html
    unlearn-jax audit --logits original=a.npz retrain=b.npz unlearned=c.npz     # of your own models
    unlearn-jax audit --open-unlearning TOFU_EVAL.json --retain RETAIN_EVAL.json  # of logs that others released

Of a study, the populations are read back from its store with their weights, three more oracle populations are trained
for the null bands, and the battery looks at answers, weights, features, gradients, perturbed images and relearning at
the largest number of copies. Of your own models it takes logits: each .npz holds `logits` (members, examples, classes);
one of them also `labels` and `split` (forget, similar, rest, test), and if it likes `cluster`, one entry an example.
Of open-unlearning's logs it makes every aggregate again from the values by question, with intervals, and says of each
conclusion whether it stands, is within noise, or fails.

Cost: 2 minutes for the default study on 2 CPU cores. It should show retraining outside the null band of every metric
against the oracle, and a population of the oracle's kind inside most of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from unlearn_jax.cli.common import (
    command,
    command_line,
    finish,
    keep_compiled_programs,
    rows_of,
    use_every_core,
    watched,
)
from unlearn_jax.evaluation.panels import label_of
from unlearn_jax.reports import write_audit_page
from unlearn_jax.results.tables import read_csv
from unlearn_jax.runtime.archives import read_json


@dataclass(frozen=True)
class Args:
    """Audit unlearned models: every metric with an interval and a null band."""

    run: tyro.conf.Positional[Path | None] = None
    """run folder of a finished study"""
    logits: tuple[str, ...] = ()
    """your own populations, as NAME=FILE.npz; original, retrain, oracle and null are known names"""
    open_unlearning: Path | None = None
    """evaluation log of an unlearned model, as open-unlearning writes it (TOFU, MUSE; .gz too) or TOFU's repository"""
    retain: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """with --open-unlearning: log of a retrained model on the same questions; give it again for each further one"""
    full: Path | None = None
    """with --open-unlearning: log of the original model on the same questions"""
    out: Path | None = None
    """folder of the audit; default RUN/audit, or audits/NAME of your own models and of logs"""
    store: Path | None = None
    """where the study's trained members are kept; default "populations" beside the run folder"""
    data_dir: Path | None = None
    """prepared data; default $UNLEARN_JAX_DATA, else ~/tensorflow_datasets"""
    relearn_lr: float = 0.0
    """learning rate of relearning by gradient descent; 0 = ten times the recipe's (of an SGD recipe a fifth)"""
    draws: int = 200
    """draws of members behind the interval of a figure of whole populations"""
    splits: int = 200
    """random splits behind a null band"""
    resamples: int = 2000
    """draws behind the interval of a mean, or of questions"""
    seed: int = 0
    """of the draws"""
    page: bool = True
    """write audit.html"""
    quiet: bool = False
    """no progress"""
    json: bool = False
    """print one JSON object instead of the table: the run folder, the page and every row of audit.csv"""


def run(args: Args) -> None:
    """Audit, write the folder and the page, and print what was found."""
    from unlearn_jax.audits import Precision, audit_logits, audit_study
    from unlearn_jax.errors import InputError

    sources = [args.run is not None, bool(args.logits), args.open_unlearning is not None]
    if sum(sources) != 1:
        more = ", one of them" if any(sources) else ""
        raise InputError(f"give a run folder, --logits or --open-unlearning{more}: see --help.")
    if args.open_unlearning is not None:
        return run_released(args)
    if args.retain or args.full:
        raise InputError("--retain and --full are logs beside that of --open-unlearning: give that too.")
    use_every_core()
    keep_compiled_programs(Path("runs") / "compiled")
    how = Precision(args.draws, args.splits, args.resamples, args.seed)
    with watched(args.quiet) as watch:
        if args.run is not None:
            folder = audit_study(
                args.run, out=args.out, how=how, store=args.store, relearn_lr=args.relearn_lr, data_dir=args.data_dir,
                command=command_line(), watch=watch,
            )  # fmt: skip
        else:
            folder = audit_logits(args.logits, out=args.out, how=how, command=command_line(), watch=watch)

    record = lambda: {"audit": folder, "rows": rows_of(folder / "audit.csv")}
    draw = (lambda: write_audit_page(folder, args.run)) if args.page else None
    finish(args.json, lambda: headline(folder), record, draw)


def run_released(args: Args) -> None:
    """Judge a released log, write the folder and the page, and print what can be concluded."""
    from unlearn_jax.released import FILE, audit_released

    assert args.open_unlearning is not None
    folder = audit_released(
        args.open_unlearning, args.retain, args.full, out=args.out, draws=args.resamples, seed=args.seed,
        command=command_line(),
    )  # fmt: skip
    content = read_json(folder / FILE)

    def draw() -> Path:
        from unlearn_jax.reports import write_released_page

        return write_released_page(folder)

    told = lambda: {"audit": folder, **{key: content[key] for key in ("aggregates", "conclusions", "forget_quality")}}
    lines = [f"{one['verdict']:<13} {one['sentence']}" for one in content["conclusions"]]
    lost: dict[str, list[str]] = {}
    for name, one in content["aggregates"].items():
        lost.setdefault(one["missing"], []).append(name)
    lines += [f"not made again, as {why}: {', '.join(names)}" for why, names in lost.items() if why]
    finish(args.json, lambda: "\n".join([*lines, f"audit: {folder}"]), told, draw if args.page else None)


HEADLINE = (  # metric, variant, split, reference
    ("residual_distance", "", "forget", "oracle"),
    ("klom", "closed", "forget", "oracle"),
    ("u_lira_auc", "cross-fitted", "forget", "oracle"),
    ("forgetting_epsilon", "", "forget", "oracle"),
    ("klom", "closed", "forget", "retrain"),
    ("u_lira_auc", "cross-fitted", "forget", "retrain"),
    ("tow", "means", "", "retrain"),
)


def headline(folder: Path) -> str:
    """A line for each metric of the headline and population: value, interval, null band."""
    rows = read_csv(folder / "audit.csv")
    lines = [f"{'metric':<20} {'against':<8} {'population':<26} {'value':<26} null band"]
    for metric, variant, split, reference in HEADLINE:
        wanted = {"metric": metric, "variant": variant, "split": split, "reference": reference}
        for row in rows:
            if all(row[k] == v for k, v in wanted.items()):
                name = label_of(*(row[key] for key in ("method", "remedy", "setting")))
                value, low, high, null_low, null_high = (
                    float(row[k]) for k in ("value", "ci_low", "ci_high", "null_low", "null_high")
                )
                figure = f"{value:8.3f} [{low:.3f}, {high:.3f}]" if value == value else "not identifiable"
                band = f"[{null_low:.3f}, {null_high:.3f}]" if row["inside_null"] else ""
                inside = " inside" if row["inside_null"] == "true" else ""
                lines.append(f"{metric:<20} {reference:<8} {name:<26} {figure:<26} {band}{inside}")
    return "\n".join([*lines, f"audit: {folder}"])


main = command(Args, __doc__, run)
