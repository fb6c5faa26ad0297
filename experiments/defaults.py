"""What every method does at its defaults to the model that it starts from, at several sizes of the request.

    python experiments/defaults.py                                 # digits: 30 targets, 150, a whole class
    python experiments/defaults.py --dataset facts --sizes 30      # a language model
    python experiments/defaults.py --methods grad_diff,npo,undial  # and how alike what they do to the targets is

Random targets, so that no reported figure is looked at (`--targets atypical --skip-requests 4` confirms on others).
For each method: accuracy on what remains (and of the worst member), on the targets, their mean margin, the residual.
Below 95% on what remains a method is marked. Of methods whose length counts passes over the request it prints, besides,
how what they do to the margins of single targets correlates.

    python experiments/defaults.py --choose --methods scrub                     # which default the rule takes
    python experiments/defaults.py --choose --methods scrub --hp scrub.lr=0.002,0.004

`--choose` tries settings, a tenth to three times the present default unless `--hp` names them, and takes the one that
keeps 98% of what is retained at every size and, of those, leaves margins as held-out examples suggest.

Cost: about 6 minutes a size on 2 CPU cores for all methods. It should mark no method.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from unlearn_jax.cli.common import command, keep_compiled_programs, print_json, use_every_core
from unlearn_jax.errors import InputError

COPIES = {30: "4", 150: "2"}  # as many as leave the placebo something to drop; of a whole class none


@dataclass(frozen=True)
class Args:
    """What every method does at its defaults, at several sizes of the request."""

    dataset: str = "digits"
    """registered data set"""
    sizes: tuple[str, ...] = ("30", "150", "class")
    """numbers of targets, and class for a whole class"""
    methods: str = "all"
    """as of study.py"""
    targets: str = "random"
    """as of study.py; of a whole class it is not looked at"""
    skip_requests: int = 0
    """requests whose targets are passed over first"""
    model: str = ""
    """registered model; empty = the data set's own"""
    members: int = 8
    """models in each population"""
    seed: int = 7
    """what all randomness follows from; the reported studies have 0"""
    choose: bool = False
    """try settings and say which the rule of defaults takes"""
    hp: tuple[str, ...] = ()
    """with --choose: METHOD.NAME=VALUES, in place of a grid about the present default"""
    store: Path = Path("runs/populations")
    """folder of trained members"""
    json: bool = False
    """print one JSON object, {"effects": [...]}, in place of lines"""


def study(args: Args, size: str):
    """The configuration at one size of the request, checked."""
    from unlearn_jax.studies.config import StudyConfig
    from unlearn_jax.studies.resolve import resolve
    from unlearn_jax.studies.validate import check

    shared = {name: getattr(args, name) for name in ("dataset", "methods", "model", "members", "seed")}
    if size == "class":
        config = StudyConfig(targets="whole_class", copies="0", **shared)
    elif not size.isdigit() or not int(size):
        raise InputError(f"--sizes has '{size}': give numbers of targets, or class.")
    else:
        copies = COPIES.get(int(size), "1") if args.dataset == "digits" else "4"
        request = {"targets": args.targets, "num_targets": int(size), "skip_requests": args.skip_requests}
        config = StudyConfig(copies=copies, **request, **shared)
    check(resolve(config))
    return config


def line(size: str, one) -> str:
    """One method as a line."""
    if one.refused:
        return f"{size:>6} {one.method:<20} {one.refused}"
    mark = "" if one.sound else "  <- below 95%"
    return (
        f"{size:>6} {one.method:<20} rest {one.rest:5.1f} (worst {one.worst:5.1f})  targets {one.forget:5.1f}  "
        f"margin {one.margin:8.2f}  residual {one.residual:6.2f}{mark}"
    )


def grids(args: Args) -> dict[str, list[dict]]:
    """Settings to try, by method."""
    from unlearn_jax.methods import METHODS
    from unlearn_jax.studies.resolve import resolve
    from unlearn_jax.sweeps import draw_settings, parse_space, points_of

    by_method = {}
    for name in resolve(study(args, args.sizes[0])).methods:
        if "reference" in METHODS[name].needs:
            continue  # what a method that is given retrained models does is no practitioner's to choose
        words = tuple(w.removeprefix(f"{name}.") for w in args.hp if w.startswith(f"{name}."))
        points = draw_settings(parse_space(name, words)) if words else points_of(name, study(args, args.sizes[0]))
        by_method |= {name: points} if points else {}
    if lost := [word for word in args.hp if word.partition(".")[0] not in by_method]:
        raise InputError(f"--hp {lost[0]} is of no method of --methods: write METHOD.NAME=VALUES.")
    return by_method


def chosen(args: Args, say) -> list[dict]:
    """Every setting at every size, and which the rule takes."""
    from unlearn_jax.sweeps import best, seen_at

    by_method, refused, tried = {}, {}, grids(args)
    for size in args.sizes:
        for name, seen in seen_at(study(args, size), tried, store=args.store):
            if isinstance(seen, str):
                refused[name] = seen
                say(f"{size:>6} {name:<20} {seen}", flush=True)
                continue
            by_method.setdefault(name, []).append(seen)
            for one in seen:
                figures = f"kept {one.kept:5.1f}  held-out moved {one.moved:6.2f}  request off by {one.gap:6.2f}"
                say(f"{size:>6} {name:<20} {one.setting:<32} {figures}", flush=True)
    rows = []
    for name, sizes in by_method.items():
        place = None if name in refused else best(sizes)
        setting = "" if place is None else sizes[0][place].setting
        say(f"chosen {name:<20} {setting or refused.get(name) or 'none keeps what is retained at every size'}")
        tried_at = [[one._asdict() | {"score": one.score} for one in seen] for seen in sizes]
        rows.append({"method": name, "chosen": setting, "sizes": dict(zip(args.sizes, tried_at))})
    return rows


def run(args: Args) -> None:
    """Run and print."""
    from unlearn_jax.methods import METHODS
    from unlearn_jax.sweeps.defaults import alike, effects

    use_every_core()
    keep_compiled_programs(Path("runs") / "compiled")
    every = []
    say = (lambda *_, **__: None) if args.json else print
    if args.hp and not args.choose:
        raise InputError("--hp is for --choose; without it methods run at their defaults.")
    if args.choose:
        outcomes = chosen(args, say)
        return print_json({"choices": outcomes}) if args.json else None
    for size in args.sizes:
        outcomes = []
        for one in effects(study(args, size), store=args.store):
            say(line(size, one), flush=True)
            every.append({"size": size} | {k: v for k, v in one._asdict().items() if k != "shift"})
            outcomes += [one] if not one.refused and METHODS[one.method].static.get("pieces", 0) > 1 else []
        if len(outcomes) > 1:
            say(f"{size:>6} correlation over targets of what these do to margins")
            for one, row in zip(outcomes, alike(outcomes)):
                say(f"{size:>6} {one.method:<20} " + " ".join(f"{value:5.2f}" for value in row))
    if args.json:
        print_json({"effects": every})


if __name__ == "__main__":
    sys.exit(command(Args, __doc__, run)())
