"""Reproduce a claim of the field: one command, with what it should show written before the run.

    python experiments/reproduce.py list                     # all claims, with their cost
    python experiments/reproduce.py residual_copies          # runs/claims/residual_copies: claim.json and claim.html
    python experiments/reproduce.py headline                 # the one table
    python experiments/reproduce.py all --quick              # a look at each in a minute or two, no result

Each claim names its source, the studies that it needs, the figures that decide, and what they would be without it. It
agrees where their whole 95% intervals lie on its side, disagrees where one lies on the other, and else is not told.
Studies are ordinary run folders: they resume, share the store of trained members, and run once. docs/claims has what
was found.

Cost: minutes each on 2 CPU cores, `headline` a quarter of an hour; no download.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parent))

import tyro
from claims import CLAIMS, words
from claims.claim import Claim, changed, run_claim, sized

from unlearn_jax.audits.replay import read_config
from unlearn_jax.cli.common import command, keep_compiled_programs, print_json, use_every_core, watched
from unlearn_jax.errors import InputError, choose
from unlearn_jax.results.recorder import write_json
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import resolve


@dataclass(frozen=True)
class Args:
    """Which claim, and how large its studies are."""

    claim: Annotated[str, tyro.conf.Positional] = "list"
    """name of a claim; all = one after another; list = what there is"""
    members: int | None = None
    """models in each population; by default the claim's own"""
    quick: bool = False
    """8 members and one request: a look, no result"""
    change: tuple[str, ...] = ()
    """fields of every study as NAME=VALUE, such as seed=1 (members, num_targets, steps, batch, lr, model, ...)"""
    out: Path = Path("runs") / "claims"
    """folder of the claims' run folders"""
    store: Path | None = None
    """folder of trained members, reused between runs; default "populations" beside the folder of the claims"""
    data_dir: Path | None = None
    """prepared data; default $UNLEARN_JAX_DATA, else ~/tensorflow_datasets"""
    markdown: bool = False
    """print the page of a claim that ran, or of list the table of all, as Markdown; nothing is run"""
    json: bool = False
    """print one JSON object instead of tables: by claim, what claim.json says, and the page"""
    quiet: bool = False
    """no progress"""


def run(args: Args) -> None:
    """List, print or run."""
    choose("claim", args.claim, [*CLAIMS, "all", "list"])
    changes, names = changed(args.change), list(CLAIMS) if args.claim in ("all", "list") else [args.claim]
    if args.claim == "list":
        records = {name: record for name in names if (record := read(args, name))}
        show(args, records, words.index(CLAIMS, records) if args.markdown else words.listed(CLAIMS, records))
        return
    if args.markdown:
        for name in names:
            print(words.markdown(needed(args, name)))
        return
    use_every_core()
    keep_compiled_programs(Path("runs") / "compiled")
    records = {}
    for name in names:
        records[name] = reproduced(args, CLAIMS[name], changes)
        if not args.json:
            print(f"{words.plain(records[name])}\npage: {records[name]['page']}", flush=True)
    if args.json or args.claim == "all":
        show(args, records, words.listed(CLAIMS, records))


def show(args: Args, told: dict[str, dict], text: str) -> None:
    """Print records as one JSON object, or the text."""
    if args.json:
        print_json(told)
    else:
        print(text)


def folder_of(args: Args, name: str) -> Path:
    """Where a claim runs, by name and size."""
    size = ["quick"] * args.quick + ([f"{args.members}"] if args.members is not None else []) + list(args.change)
    return args.out / "-".join([name, *size])


def read(args: Args, name: str) -> dict | None:
    """The record of a claim that ran; None where it did not."""
    path = folder_of(args, name) / "claim.json"
    if not path.is_file():
        return None
    try:
        return read_json(path)
    except (OSError, ValueError):
        raise InputError(f"'{path}' cannot be read: run the claim again.") from None


def needed(args: Args, name: str) -> dict:
    """The record of a claim that ran; `InputError` where it did not."""
    record = read(args, name)
    if record is None:
        raise InputError(f"there is no {folder_of(args, name)}/claim.json: run the claim without --markdown first.")
    return record


def reproduced(args: Args, claim: Claim, changes: dict) -> dict:
    """Run a claim, write its record and its page, and return the record with the path of the page."""
    from claims.page import write_claim_page

    from unlearn_jax.studies.run import run_study

    folder, command = folder_of(args, claim.name), command_of(args, claim.name)
    store = args.store or args.out.parent / "populations"
    with watched(args.quiet) as watch:

        def study(config: StudyConfig, out: Path) -> None:
            if not finished(config, out):
                run_study(config, out, store=store, watch=watch, data_dir=args.data_dir, command=command)

        how = lambda config: sized(config, args.members, args.quick, changes, claim.least)
        record = run_claim(claim, folder, how, study)
    more = {"command": command, "seed": changes.get("seed", 0), "quick": args.quick}
    record |= more | made([folder / name for name in record["studies"]])
    write_json(folder / "claim.json", record)
    return record | {"page": write_claim_page(folder)}


def finished(config: StudyConfig, run: Path) -> bool:
    """Whether a run folder holds this very study, complete."""
    try:
        return read_config(run)[0] == resolve(config).config
    except InputError:
        return False


def made(runs: list[Path]) -> dict:
    """On what the studies ran, and how long they took in all."""
    manifests = [read_config(run)[1] for run in runs]
    first = {name: manifests[0][name] for name in ("device", "versions")}
    commits = dict.fromkeys(manifest["git_commit"] for manifest in manifests)
    return first | {"git_commit": ", ".join(commits), "seconds": sum(m["seconds_total"] for m in manifests)}


def command_of(args: Args, name: str) -> str:
    """The command that gives this record, wherever it is kept."""
    parts = ["python", "experiments/reproduce.py", name] + ["--quick"] * args.quick
    parts += ["--members", str(args.members)] if args.members is not None else []
    return shlex.join([*parts, *(["--change", *args.change] if args.change else [])])


if __name__ == "__main__":
    sys.exit(command(Args, __doc__, run)())
