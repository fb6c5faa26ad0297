"""Pages of the site that are made of the README, the notebooks and the source text; nothing is imported or run."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRST = (
    "study",
    "report",
    "audit",
    "sweep",
    "choose",
    "check_presets",
    "influence",
    "neighbours",
    "benchmarks",
    "prepare_data",
    "speed",
)


def readme(path: Path) -> str:
    """The README or CONTRIBUTING, its links as they are from within docs/."""
    text = path.read_text("utf-8")
    for top, page in (("docs/", ""), ("README.md", "overview.md"), ("CONTRIBUTING.md", "contributing.md")):
        text = text.replace(f"]({top}", f"]({page}")
    return re.sub(r"\[([^]]*)\]\((?:LICENSE|CITATION\.cff)\)", r"\1", text)


def notebook(path: Path) -> str:
    """The cells of a notebook as a page, without outputs."""
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    parts.insert(1, f"*The notebook itself: `docs/notebooks/{path.name}`.*")
    return "\n\n".join(parts) + "\n"


def commands(folder: Path) -> str:
    """Every script with its docstring and its options, those that most readers want first."""
    parts = [
        "# Command line",
        "Made from the commands' own words when this site is built; `--help` says the same in the terminal. In a clone "
        "`unlearn-jax NAME` is also `python experiments/NAME.py`. "
        "What is `on` is switched off by `--no-NAME`. Bad input is one sentence and exit code 2: see "
        "[exit codes](exit_codes.md).",
    ]
    scripts = [*folder.glob("[a-z]*.py"), *folder.glob("bench/[a-z]*.py")]
    for path in sorted(scripts, key=lambda p: (FIRST.index(p.stem) if p.stem in FIRST else 99, p)):
        path = _command(path)
        tree = ast.parse(path.read_text("utf-8"))
        head, _, rest = (ast.get_docstring(tree) or "").partition("\n\n")
        parts += [f"## {path.stem}", _prose(head), _prose(rest)]
        for title, rows in _script_options(tree, path):
            parts += (
                [title, "| option | default | what it is |\n| --- | --- | --- |\n" + "\n".join(rows)] if rows else []
            )
    return "\n\n".join(part for part in parts if part) + "\n"


def _command(script: Path) -> Path:
    """The file in which a script's options are: the command of the package that it runs, or its own."""
    found = re.search(r"^from unlearn_jax\.cli\.(\w+) import main$", script.read_text("utf-8"), re.MULTILINE)
    return ROOT / "unlearn_jax" / "cli" / f"{found[1]}.py" if found else script


def rules(package: Path) -> str:
    """What the docstrings of all methods and remedies say of their rule."""
    parts = ["# Rules of the methods", "The docstring of every method's and every remedy's file, as it stands there."]
    for folder, constant in (("methods", "ENTRY"), ("remedies", "REMEDY")):
        parts.append(f"## {folder.capitalize()}")
        for path in sorted((package / folder).glob("[a-z]*.py")):
            text = path.read_text("utf-8")
            if re.search(rf"^{constant}\b", text, re.MULTILINE):
                parts += [f"### {path.stem}", _prose(ast.get_docstring(ast.parse(text)) or "")]
    return "\n\n".join(parts) + "\n"


def _prose(text: str) -> str:
    """A docstring as Markdown: `names` are code already; indented blocks are commands."""
    return "\n\n".join(_fenced(part) if part.startswith("    ") else part for part in text.strip("\n").split("\n\n"))


def _fenced(part: str) -> str:
    """An indented block, fenced."""
    return "```bash\n" + "\n".join(line[4:] for line in part.splitlines()) + "\n```"


def _dataclasses(tree: ast.Module) -> dict[str, ast.ClassDef]:
    """The dataclasses of a file by name."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return {one.name: one for one in classes if any("dataclass" in ast.unparse(d) for d in one.decorator_list)}


def _imported(name: str, tree: ast.Module, path: Path) -> tuple[ast.ClassDef, ast.Module, Path]:
    """The dataclass ``name``, here or where this file, beside it or in the package, imports it from."""
    while name not in _dataclasses(tree):
        module = next(
            node.module for node in tree.body
            if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names)
        )  # fmt: skip
        beside, within = path.parent / f"{module}.py", ROOT / f"{module.replace('.', '/')}.py"
        path = beside if beside.is_file() else within
        tree = ast.parse(path.read_text("utf-8"))
    return _dataclasses(tree)[name], tree, path


def _script_options(tree: ast.Module, path: Path) -> list[tuple[str, list[str]]]:
    """Titles and rows for what a script takes: the fields of Args, else of every command."""
    classes = _dataclasses(tree)
    if "Args" in classes:
        return _options(classes["Args"], tree, path)
    found = [(cls.name.lower(), *group) for cls in classes.values() for group in _options(cls, tree, path)]
    return [(f"`{name}`: {title}", rows) for name, title, rows in found]


def _options(cls: ast.ClassDef, tree: ast.Module, path: Path) -> list[tuple[str, list[str]]]:
    """A title and rows for a configuration's own fields, and for each one that it inherits or nests."""
    groups, own = [], []
    for base in reversed([one.id for one in cls.bases if isinstance(one, ast.Name)]):
        groups += _options(*_imported(base, tree, path))
    for node, after in zip(cls.body, [*cls.body[1:], None]):
        if not isinstance(node, ast.AnnAssign):
            continue
        kind = ast.unparse(node.annotation)
        if nested := re.search(r"OmitArgPrefixes\[(\w+)\]", kind):
            groups += _options(*_imported(nested[1], tree, path))
            continue
        said = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
        own.append(_row(node.target.id, "Positional" in kind, node.value, said))
    return [*groups, (ast.get_docstring(cls) or "", own)] if own else groups


def _row(name: str, positional: bool, default: ast.expr | None, said: str) -> str:
    """A row of a script's table."""
    shown = name.upper() if positional else f"--{name.replace('_', '-')}"
    return f"| `{shown}` | {_default(default)} | {' '.join(said.split()).replace('|', chr(92) + '|')} |"


def _default(value: ast.expr | None) -> str:
    """A default as it is shown: nothing for what is empty or made by code."""
    if value is None:
        return "to be given"
    try:
        told = ast.literal_eval(value)
    except ValueError:
        return ""
    if isinstance(told, bool):
        return "on" if told else "off"
    return "" if told in (None, "", ()) else f"`{told}`"
