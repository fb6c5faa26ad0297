"""A griffe extension that reads docstrings as this library writes them."""

import re

from griffe import Extension


class HouseStyle(Extension):
    """Fields are a table, described by the comment on their line; a section "Example" is one of "Examples"."""

    def on_instance(self, *, obj, **_):
        """Let the parser know the section of examples."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)

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
