"""Command lines: a description that fits the terminal, words of options as one paragraph, plain names of values."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import os
import re
import shutil
import sys
import textwrap
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

T = TypeVar("T")
WIDEST = 110  # columns of prose, however wide the terminal is
VALUES = {str: "TEXT", Path: "PATH", int: "INT", float: "FLOAT"}


def parsed(kind: type[T], doc: str | None, argv: Sequence[str] | None = None) -> T:
    """The options that a script was called with, a dataclass with words under its fields; prints help where asked.

    Args:
        kind: the dataclass.
        doc: the script's docstring, which the help begins with.
        argv: words after the script's name; None = those of this process.

    Raises:
        SystemExit: after the help with 0, of a wrong option with 2.
    """
    argv = sys.argv[1:] if argv is None else argv
    doc = as_called(doc or "")
    rules = ConstructorRegistry()
    rules.struct_rule(_rule)
    try:
        if {"-h", "--help"} & set(argv):
            print(described(doc, min(shutil.get_terminal_size().columns, WIDEST)), end="\n\n")
        with rules, _colour():
            return tyro.cli(kind, args=argv, prog=called(), description="")
    except BrokenPipeError:
        unread()
        raise SystemExit(0) from None


def called() -> str:
    """How this process was called: `unlearn-jax COMMAND`, or as a script of a clone."""
    path = Path(sys.argv[0])
    folder = "experiments/bench" if path.parent.name == "bench" else "experiments"
    return path.name if path.name.startswith("unlearn-jax ") else f"python {folder}/{path.name}"


def as_called(doc: str) -> str:
    """A docstring whose commands are scripts of a clone where this process is one."""
    if called().startswith("unlearn-jax"):
        return doc
    script = lambda match: f"python experiments/{match[1].replace('-', '_')}.py"
    return re.sub(r"unlearn-jax ([a-z][a-z-]*)", script, doc)


@contextlib.contextmanager
def _colour() -> Iterator[None]:
    """Keep tyro from colours where an output is no terminal (it looks at stdout alone), or NO_COLOR is set."""
    before, terminal = os.environ.get("TERM"), sys.stdout.isatty() and sys.stderr.isatty()
    if not terminal or os.environ.get("NO_COLOR"):
        os.environ["TERM"] = "dumb"
    try:
        yield
    finally:
        os.environ.pop("TERM", None)
        os.environ |= {} if before is None else {"TERM": before}


def unread() -> None:
    """Let what is still to be written go nowhere: who read it, such as ``head``, has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def described(doc: str, width: int) -> str:
    """A docstring within ``width`` columns: prose and lists wrapped, comments above commands that have no room."""
    blocks = [block for block in inspect.cleandoc(doc).split("\n\n") if block.strip()]
    return "\n\n".join(_block(block, width) for block in blocks)


def _block(text: str, width: int) -> str:
    """One paragraph, list or block of commands."""
    lines = text.splitlines()
    if lines[0].startswith("    "):
        return "\n".join(lines if max(map(len, lines)) <= width else (x for one in lines for x in _command(one, width)))
    items = [""]
    for line in lines:
        if line.startswith("- "):
            items.append(line)
        else:
            items[-1] += " " + line.strip()
    fill = lambda item: textwrap.fill(
        item.strip(), width, subsequent_indent="  " * item.startswith("- "), break_on_hyphens=False
    )
    return "\n".join(fill(item) for item in items if item)


def _command(line: str, width: int) -> list[str]:
    """A command below its comment, its options on further lines where it is too long."""
    start, _, comment = line.partition(" #")
    lines = [f"    # {comment.strip()}"] if comment else []
    now, *options = start.rstrip().split(" --")
    for option in options:
        if len(f"{now} --{option}") > width - 2:
            lines.append(f"{now} \\")
            now = f"        --{option}"
        else:
            now += f" --{option}"
    return [*lines, now]


def _rule(info: StructTypeInfo) -> StructConstructorSpec | None:
    """How tyro makes a dataclass: as it would by itself, but for the words and the names of values."""
    if not dataclasses.is_dataclass(info.type) or info.type.__module__.startswith("tyro"):
        return None
    kinds, words = typing.get_type_hints(info.type, include_extras=True), words_of(info.type)
    default, fields = info.default if isinstance(info.default, info.type) else None, []
    for field in dataclasses.fields(info.type):
        usual = getattr(default, field.name, tyro.MISSING if field.default is dataclasses.MISSING else field.default)
        kind = _shown(kinds[field.name], field.name, usual)
        fields.append(StructFieldSpec(field.name, kind, usual, helptext=words.get(field.name)))
    return StructConstructorSpec(instantiate=info.type, fields=tuple(fields))


def _shown(kind: Any, name: str, usual: Any) -> Any:
    """A field's type with what the help shows of its value and of its default."""
    plain, *marks = typing.get_args(kind) if typing.get_origin(kind) is Annotated else (kind,)
    if dataclasses.is_dataclass(plain):
        return kind
    if plain is bool:
        if not usual:
            return Annotated[kind, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")]
        return Annotated[kind, tyro.conf.arg(help_behavior_hint="(default: yes)")]
    several = typing.get_origin(plain) in (list, tuple)
    inner = next(one for one in typing.get_args(plain) or (plain,) if one is not type(None))
    if not several and (inner is not plain or inner is Path):
        kind = Annotated[kind, _optional(inner)]
    value = VALUES[inner]
    if tyro.conf.Positional in marks:
        value = name.removesuffix("s").upper() if several else name.upper()
    value += " ..." * several
    if tyro.conf.Positional in marks and usual is not tyro.MISSING:
        value = f"[{value}]"
    usual = os.path.relpath(usual) if isinstance(usual, Path) else usual
    hint = "" if several or usual in ("", None) else f"(default: {usual})"
    return Annotated[kind, tyro.conf.arg(metavar=value, help_behavior_hint=hint)]


def _optional(kind: type) -> PrimitiveConstructorSpec:
    """How tyro reads ``kind | None``: what is given is of that kind, and None cannot be asked for."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=VALUES[kind],
        instance_from_str=lambda words: _one(kind, words[0]),
        is_instance=lambda value: value is None or isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


def _one(kind: type[T], word: str) -> T:
    """A word as a value; an empty one names no file, where `Path` would take it for the folder that one is in."""
    if kind is Path and (not word.strip() or "\0" in word):
        raise ValueError("a path is empty: give a name, or leave the option out")
    return kind(word)  # pyright: ignore[reportCallIssue]


@functools.cache
def words_of(kind: type) -> dict[str, str]:
    """The strings under the fields of a dataclass and of those that it is made from, each as one paragraph."""
    words = {}
    for one in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(one):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(definition, ast.ClassDef)
        lines = definition.body
        for field, after in zip(lines, lines[1:]):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, str):
                words[field.target.id] = " ".join(text.split())
    return words
