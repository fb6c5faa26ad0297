"""What the documentation site is made of: pages, pictures, tables from source text, and one version everywhere."""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest

import unlearn_jax
from unlearn_jax import METHODS
from unlearn_jax.remedies import REMEDIES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MADE = {
    "overview.md",
    "contributing.md",
    "reference/commands.md",
    "reference/rules.md",
    "notebooks/tour.md",
    "notebooks/new_method.md",
}
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])


def module(name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    found = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def anchors(page):
    """The anchors of a page's headings, as forges and the site make them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.replace("`", "").lower()).strip().replace(" ", "-") for head in heads}


def test_the_navigation_is_of_pages_and_every_page_is_in_it_or_linked():
    listed = set(re.findall(r"([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    there = MADE | {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    linked = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8"))
    }
    assert listed <= there and listed >= MADE
    assert not [name for name in there - listed if DOCS / name not in linked]


def test_an_index_page_opens_its_own_section():
    lines = (ROOT / "mkdocs.yml").read_text("utf-8").splitlines()  # the theme makes it the page of the section it is in
    opens = [lines[i - 1].endswith(":") for i, line in enumerate(lines) if line.endswith(("index.md", "README.md"))]
    assert len(opens) > 5 and all(opens)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere_in_the_repository(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text):
        to = page.parent / link if link else page
        made = to.resolve().is_relative_to(DOCS) and to.resolve().relative_to(DOCS).as_posix() in MADE
        assert made or to.is_file(), link
        assert not anchor or made or anchor in anchors(to), f"{link}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_rows_of_tables_have_as_many_cells_as_their_heads(page):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        counts = [len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()]
        assert set(counts) == {counts[0]}, table.splitlines()[0]


def test_pictures_are_those_of_the_script():
    made = module("pictures").PICTURES
    for name, draw in made.items():
        assert (DOCS / "images" / f"{name}.svg").read_text("utf-8") == draw(), "run: python docs/pictures.py"
        assert f"(images/{name}.svg)" in (DOCS / "concepts.md").read_text("utf-8")


def test_commands_have_the_options_of_the_scripts_and_of_what_they_nest():
    page = module("sources").commands(ROOT / "experiments")
    assert set(re.findall(r"^## (\w+)$", page, re.MULTILINE)) == {
        p.stem for p in (ROOT / "experiments").rglob("[a-z]*.py") if p.parent.name in ("experiments", "bench")
    }
    study = page.split("## study\n")[1].split("\n## ")[0]
    assert page.index("## study\n") < page.index("## audit\n")
    assert "| `--num-targets` | `30` | targets in each request; whole_class takes what the class has |" in study
    assert "| `--report` | on | draw report.html at the end |" in study and "`--coordinator`" in study
    assert "| `NAME` | to be given | mnist, fashion_mnist, cifar10 or cifar100 |" in page
    assert "`add`: Add the rows of studies" in page and "| `RUNS` | to be given |" in page


def test_rules_have_every_method_and_remedy():
    page = module("sources").rules(ROOT / "unlearn_jax")
    assert re.findall(r"^### (\w+)$", page, re.MULTILINE) == [*sorted(METHODS), *sorted(REMEDIES)]


def test_the_home_page_and_the_readme_count_the_methods():
    assert f"the {len(METHODS)} methods, the {len(REMEDIES)} remedies" in (ROOT / "README.md").read_text("utf-8")
    counted = f"**{len(METHODS)} methods and {len(REMEDIES)} remedies**"
    assert counted in (DOCS / "index.md").read_text("utf-8")


def test_readme_and_notebooks_become_pages():
    sources = module("sources")
    readme = sources.readme(ROOT / "README.md")
    assert "](results.md)" in readme and "](contributing.md)" in readme
    for page in (readme, sources.readme(ROOT / "CONTRIBUTING.md")):
        assert not [link for link in ("docs/", "LICENSE", "CITATION", "README") if f"]({link}" in page]
    for path in (DOCS / "notebooks").glob("*.ipynb"):
        page = sources.notebook(path)
        assert page.startswith("# ") and page.count("```python\n") * 2 == page.count("```")


def test_one_version_and_one_licence_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    cited = dict(re.findall(r"^([\w-]+): (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE))
    released = re.search(r"^## (\d\S*)$", (DOCS / "changelog.md").read_text("utf-8"), re.MULTILINE)[1]
    assert project["version"] == cited["version"] == released == unlearn_jax.__version__
    assert f"  - name: {project['authors'][0]['name']}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert project["license"] == cited["license"] == "Apache-2.0"
    assert "Apache License\n" in (ROOT / "LICENSE").read_text("utf-8") and project["license-files"] == ["LICENSE"]
