"""The command `unlearn-jax`: one word says what to do, the others are that command's options."""

from __future__ import annotations

import importlib
import sys

from unlearn_jax.errors import InputError, choose

COMMANDS = {
    "study": "measure what deleting a sample leaves behind when similar samples stay",
    "report": "draw the page of a run, compare runs, take out a table or a figure",
    "audit": "every metric of a finished study, or of your own models, with null bands",
    "sweep": "choose a method's hyperparameters without looking at the oracle",
    "choose": "choose among settings that studies have run",
    "check-presets": "put a preset file to the test on other targets",
    "influence": "influence as gradients predict it against what removal does",
    "neighbours": "find the similar samples of a data set",
    "benchmarks": "what the benchmark sets hold",
    "prepare-data": "make a stock image set readable without TensorFlow",
}


def main() -> int:
    """Run the command that the first word names; exit code 2 where there is none of that name."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print("usage: unlearn-jax COMMAND [options]; unlearn-jax COMMAND --help has the options\n")
        print("\n".join(f"  {command:<{width}}  {about}" for command, about in COMMANDS.items()))
        return 0
    try:
        choose("command", name, COMMANDS)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sys.argv = [f"unlearn-jax {name}", *words]
    return importlib.import_module(f"unlearn_jax.cli.{name.replace('-', '_')}").main()


if __name__ == "__main__":
    sys.exit(main())
