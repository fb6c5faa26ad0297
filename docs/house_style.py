"""A griffe extension that reads docstrings as this library writes them."""

import ast
import re
from pathlib import Path

from griffe import Extension

ROOT = Path(__file__).resolve().parents[1] / "unlearn_jax"


class HouseStyle(Extension):
    """Fields are a table, described by the comment on their line; "Example" is a section; `names` are links."""

    def on_instance(self, *, obj, **_):
        """Let the parser know the section of examples; lead from a public name to where it is described."""
        if obj.docstring is None:
            return
        text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
        package = ".".join(obj.path.split(".")[1:2])
        public = {name: where for name, where in _public(package).items() if name != obj.name}
        obj.docstring.value = re.sub(r"(?<!`)`(\w+)`(?!`)", lambda found: _link(found, public), text)

    def on_class_members(self, *, cls, **_):
        """Gather the fields of a named tuple or a dataclass into its docstring."""
        fields = [one for one in cls.members.values() if one.is_attribute and one.annotation and one.name[0] != "_"]
        if cls.docstring is None or not fields:
            return
        rows = [f"    {one.name} ({one.annotation}): {_said(one)}" for one in fields]
        cls.docstring.value = "\n".join([cls.docstring.value, "", "Attributes:", *rows])
        for one in fields:
            del cls.members[one.name]


def _said(field) -> str:
    """A field's docstring, else the comment on its line, and its default."""
    comment = (field.lines or [""])[-1].partition("  # ")[2]
    said = " ".join((field.docstring.value if field.docstring else comment).split())
    default = "" if field.value is None or str(field.value) in ("''", '""', "()") else f"default `{field.value}`"
    return "; ".join(part for part in (said, default) if part)


def _public(package: str) -> dict[str, str]:
    """The names that a package offers, and the paths under which the pages have them."""
    start = ROOT / package / "__init__.py"
    if not package or not start.is_file():
        return {}
    for node in ast.parse(start.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            own = {name: (start.parent / f"{name}.py").is_file() for name in ast.literal_eval(node.value)}
            return {name: f"unlearn_jax.{package}.{name}" + f".{name}" * like for name, like in own.items()}
    return {}


def _link(found, public: dict[str, str]) -> str:
    """A public name as a link, anything else as it is."""
    if found[1] not in public:
        return found[0]
    return f'<autoref identifier="{public[found[1]]}" optional><code>{found[1]}</code></autoref>'
