"""The named benchmark sets: what they are, or the card of one.

    unlearn-jax benchmarks                               # all of them, a line each
    unlearn-jax benchmarks vision-natural-small          # counts, likeness, digest
    unlearn-jax benchmarks text-natural --dataset reuters_r52 --json

Builds what `unlearn-jax study --benchmark NAME` trains on and counts it; nothing is trained. Cost: seconds for the
twins, which need no download; 1 minute for Fashion-MNIST and CIFAR-10 on 2 CPU cores. The card of a twin should say "as
recorded".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from unlearn_jax.cli.common import command, print_json, watched
from unlearn_jax.data.benchmarks import BENCHMARKS, benchmark_named
from unlearn_jax.errors import InputError


@dataclass(frozen=True)
class Args:
    """Which benchmark, and what to change in it."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """benchmark whose card is wanted; none = a list of all"""
    dataset: str = ""
    """one of its sources; empty = the usual one"""
    similarity: str = ""
    """one of its levels; empty = the usual one"""
    targets: str = ""
    """who is asked to be forgotten; empty = the benchmark's"""
    seed: int = 0
    """what all randomness follows from"""
    data_dir: Path | None = None
    """prepared data; default $UNLEARN_JAX_DATA, else ~/tensorflow_datasets"""
    quiet: bool = False
    """no progress"""
    json: bool = False
    """print one JSON object instead of the lines: the card, or of the list what each benchmark is about"""


def run(args: Args) -> None:
    """Print the card, or the list."""
    options = [name for name in ("dataset", "similarity", "targets", "seed", "data_dir") if getattr(args, name)]
    if options and not args.name:
        raise InputError(f"--{options[0].replace('_', '-')} is of one benchmark: give its name first.")
    if not args.name:
        listed = {one.name: one.about for one in BENCHMARKS.values()}
        width = max(map(len, listed))
        lines = [f"{name:<{width}}  {about}" for name, about in listed.items()]
        print_json(listed) if args.json else print("\n".join(lines))
        return
    from unlearn_jax.studies.datasheet import card_of

    benchmark_named(args.name)
    changed = {name: getattr(args, name) for name in ("dataset", "similarity", "targets", "seed")}
    with watched(args.quiet) as watch:
        watch.begin("building the benchmark")
        card = card_of(args.name, data_dir=args.data_dir, **changed)
    print_json(card) if args.json else print(written(card))


def written(card: dict) -> str:
    """A card in lines."""
    state = {True: "as recorded", False: "NOT AS RECORDED", None: "none recorded for these options"}
    axis = ", ".join(map(str, card["copies"]))
    lines = [
        f"{card['name']} version {card['version']}: {card['about']}",
        f"source      {card['source']}: {card['train']:,} training and {card['test']:,} test examples, "
        f"{card['classes']} classes",
        f"targets     {card['targets']} {card['targets_are']} in {card['requests']} "
        f"request{'s' * (card['requests'] != 1)}; {card['rest']:,} other examples are rest",
        f"similar     {card['similarity']} (levels: {', '.join(card['levels'])}); copies axis {axis}; "
        f"{card['held_out_similar']} held-out draws",
    ]
    for number, measures in card["likeness"].items():
        likeness = [
            f"{name} {m['mean']:.3f} (5% {m['q05']:.3f}, 50% {m['q50']:.3f}, 95% {m['q95']:.3f})"
            for name, m in measures.items()
        ]
        lines.append(f"  number {number}: {'; '.join(likeness)}; label of the target {card['same_label'][number]:.0%}")
    lines += [f"note        {note}" for note in card["notes"]]
    lines += [f"limit       {limit}" for limit in card["limits"]]
    lines.append(f"licence     {card['licence']}")
    if card["changed"]:
        lines.append(f"changed     {', '.join(card['changed'])}")
    if card["twin"]:
        lines.append(f"small twin  {card['twin']}")
    return "\n".join([*lines, f"digest      {card['digest']}", f"            {state[card['as_recorded']]}"])


main = command(Args, __doc__, run)
