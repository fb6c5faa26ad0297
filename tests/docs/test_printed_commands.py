"""Commands and options that the README, the docs and the scripts' own docstrings print are ones that exist today.

Each `python experiments/...` line is parsed by the script that it names, and a study's words are checked as the study
checks them before it reads any data; nothing is run. Words in capitals (NAME, FOLDER) are what a reader fills in.
"""

import dataclasses
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

from unlearn_jax.cli.options import parsed
from unlearn_jax.data import DATASETS
from unlearn_jax.methods import METHODS
from unlearn_jax.models import MODELS
from unlearn_jax.remedies import REMEDIES
from unlearn_jax.studies.presets import with_presets
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.validate import check
from unlearn_jax.sweeps import are_several
from unlearn_jax.sweeps.config import remedy_of, study_of
from unlearn_jax.sweeps.sampling import parse_space
from unlearn_jax.sweeps.spaces import expanded

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "experiments"
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
OWN = ((METHODS, "doubt"), (REMEDIES, "nearby"), (MODELS, "net"), (DATASETS, "stripes"))  # made by docs/extending.md
FILLED = re.compile(r"\b[A-Z]{3,}\b|^runs/")

sys.path[:0] = [str(SCRIPTS), str(SCRIPTS / "bench"), str(ROOT / "docs")]


def inline(text: str) -> list[str]:
    """What stands between single backticks outside of blocks, a line each."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [words.replace("\n", " ") for words in re.findall(r"`([^`]*)`", prose)]


def commands(text: str) -> set[tuple[str, str]]:
    """(script, words) of every command, in blocks, on one line or several, and in inline code."""
    lines = [*re.sub(r" *\\\n\s*", " ", text).splitlines(), *inline(text)]
    called = r"(?:python experiments/((?:bench/)?\w+)\.py|^\W*unlearn-jax ([a-z][a-z-]*))([^`]*)"
    found = [match for line in lines for match in re.findall(called, line)]
    return {(script or command.replace("-", "_"), words.strip()) for script, command, words in found}


SOURCES = sorted(
    [*SCRIPTS.glob("[a-z]*.py"), *SCRIPTS.glob("bench/[a-z]*.py"), *(ROOT / "unlearn_jax" / "cli").glob("[a-z]*.py")]
)
PRINTED = {page: sorted(commands(page.read_text("utf-8"))) for page in (*DOCS, *SOURCES)}


def words_of(rest: str) -> list[str]:
    """The words up to a comment, a pipe, another command or the end of a quoted line."""
    words = shlex.split(rest if rest.count('"') % 2 == 0 else rest.rstrip('"'), comments=True)
    return words[: next((i for i, word in enumerate(words) if word in {"&&", "|", ">"}), len(words))]


def understood(name: str, words: list[str]):
    """What the script makes of the words; the parser exits where it does not take them."""
    command = (ROOT / "unlearn_jax" / "cli" / f"{name}.py").is_file()
    if name == "bench/golden":
        assert words[0] in {"record", "check"}
        return None
    script = importlib.import_module(f"unlearn_jax.cli.{name}" if command else name.removeprefix("bench/"))
    if name == "bench/peers":
        assert set(words) <= {"--loop", "--json"}
        return None
    return parsed(getattr(script, "Command", None) or script.Args, "", words)


def sound(name: str, args) -> None:
    """Raise `InputError` where the job would refuse what it is asked for."""
    if name == "sweep" and args.sweep.method and not are_several(args.sweep.method):
        study = study_of(args.sweep, args.study)
        words = expanded(args.sweep.method, args.study.hp, study.scale, args.sweep.draw == "grid")
        parse_space(args.sweep.method, words, remedy_of(study.config))
    elif name == "sweep":
        check(resolve(dataclasses.replace(args.study, methods=args.sweep.method or "core", hp=())))
    elif name in {"study", "check_presets"}:
        check(resolve(with_presets(args.study)[0]))
    elif name == "reproduce":
        assert args.claim in {*importlib.import_module("claims").CLAIMS, "all", "list"}


@pytest.fixture
def named(monkeypatch):
    for registry, name in OWN:
        monkeypatch.setitem(registry, name, next(iter(registry.values())))


@pytest.mark.parametrize("page", [p for p in PRINTED if PRINTED[p]], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_are_understood(page, named, capsys):
    for script, rest in PRINTED[page]:
        words = words_of(rest)
        try:
            args = understood(script, words)
        except SystemExit:
            pytest.fail(f"experiments/{script}.py {rest}\n{capsys.readouterr().err}")
        if not any(FILLED.search(word) for word in words):
            sound(script, args)


def test_commands_are_found_wherever_they_are_printed():
    page = "```bash\n$ python experiments/a.py --x 1 \\\n   --y 2  # why\n```\nand `python\nexperiments/b.py z` too"
    assert commands(page) == {("a", "--x 1 --y 2  # why"), ("b", "z")}
    assert words_of("--x 1 --y 2  # why") == ["--x", "1", "--y", "2"] and words_of('--out z"') == ["--out", "z"]
    assert sum(map(len, PRINTED.values())) > 150


def test_options_in_prose_are_options_of_a_script():
    rows = importlib.import_module("sources").commands(SCRIPTS)
    there = set(re.findall(r"^\| `--([a-z-]+)`", rows, re.MULTILINE)) | {"help"}
    for page in (page for page in DOCS if page.stem != "changelog"):  # which tells of options that are gone
        named = re.findall(r"(?<![\w-])--(?:no-)?([a-z][a-z-]*)", "\n".join(inline(page.read_text("utf-8"))))
        assert set(named) <= there, page
