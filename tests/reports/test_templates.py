"""The templates: what they show is escaped, and HTML is trusted in few places only."""

import re
from pathlib import Path

import pytest

from unlearn_jax import reports
from unlearn_jax.errors import InputError
from unlearn_jax.reports import render
from unlearn_jax.reports.render import Made, Td, Tr, row, table

ROOT = Path(reports.__file__).parent
TEMPLATES = sorted((ROOT / "templates").glob("*.html"))
EVIL = '<b onclick="x">&\'evil'


def shown(source, **values):
    """A piece of a template, rendered as pages are."""
    start = '{% import "macros.html" as m %}'
    return render._environment().from_string(start + source).render(**values)


def test_whatever_is_shown_is_escaped():
    assert render._environment().autoescape is True
    cell = Td(EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, parts=[Td(EVIL, EVIL), Td(EVIL, link=EVIL)], breaks=True)
    rows = [Tr(cell, [cell, cell._replace(link="", breaks=False)], EVIL, EVIL), row(EVIL, [EVIL])]
    text = shown("{{ m.told(t) }}", t=table(EVIL, [cell, EVIL], rows, EVIL))
    text += shown("{{ m.made(made) }}{{ m.facts(facts) }}{{ m.named(evil ~ '`' ~ evil ~ '`') }}",
                  made=Made(EVIL, [(EVIL, EVIL)]), facts=render.facts({EVIL: EVIL}), evil=EVIL)  # fmt: skip
    text += shown("{{ m.items([one]) }}{{ m.items([two]) }}", one=render.Item(EVIL, EVIL, EVIL, "", True),
                  two=render.Item(EVIL, EVIL, EVIL, EVIL))  # fmt: skip
    assert "evil" in text and not re.search(r"<b[ >]", text) and 'onclick="' not in text


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_trusts_no_value_and_asks_nothing_of_the_network(path):
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r'"([^"]*)"\|safe', text)) <= {"_<wbr>", "<wbr>[", ",<wbr>"}
    assert text.count("|safe") == len(re.findall(r'"[^"]*"\|safe', text)) and "autoescape" not in text
    assert not re.search(r"https?:|@import|<link|<iframe", text)
    assert not re.search(r"=\{\{ (?!name)", text)  # values stand between quotes


def test_html_is_trusted_where_drawings_are_made_alone():
    places = {path.name for path in ROOT.glob("*.py") if "Markup(" in path.read_text(encoding="utf-8")}
    assert places == {"style.py", "audit_page.py"}
    html = re.compile(r"</?(?:p|td|th|tr|div|span|table|section|a|h[1-6]|dl|dt|dd|ul|li|pre)\b[^>]*>")
    assert not [path.name for path in ROOT.glob("*.py") if html.search(path.read_text(encoding="utf-8"))]


def test_captions_and_rows_are_one_line_each():
    text = shown("{% call m.figure(f) %}a\nb{% if 1 %} c{% endif %}{% endcall %}", f=render.Figure("", "", 4))
    assert "<figcaption>a b c <a" in text and 'href="#reproduce-4"' in text
    assert len(shown("{{ m.tr(r) }}", r=row("a", ["b\nc", 1])).strip().splitlines()) == 1


def test_a_folder_with_braces_in_its_name_is_told_of(tmp_path):
    with pytest.raises(InputError, match=r"there is no sweep at .*a\{b\}"):
        reports.write_sweep_page(tmp_path / "a{b}")
