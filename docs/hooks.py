"""What the site has beside the pages of docs/: README, CONTRIBUTING, notebooks, options of commands, method rules."""

import re
from pathlib import Path

import sources
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]


def on_files(files, config):
    """Pages that are made when the site is built, from what they are about."""
    made = {
        "overview.md": sources.readme(ROOT / "README.md"),
        "contributing.md": sources.readme(ROOT / "CONTRIBUTING.md"),
        "reference/commands.md": sources.commands(ROOT / "experiments"),
        "reference/rules.md": sources.rules(ROOT / "unlearn_jax"),
    }
    made |= {f"notebooks/{path.stem}.md": sources.notebook(path) for path in (ROOT / "docs/notebooks").glob("*.ipynb")}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links that lead to a notebook, or out of docs/, lead to the page made of it."""
    markdown = re.sub(r"\]\(([\w./-]+)\.ipynb\)", r"](\1.md)", markdown)
    up = "../" * page.file.src_uri.count("/")
    markdown = re.sub(r"!\[[^]]*\]\((?:\.\./)*images/(\w+)\.svg\)", _inline, markdown)
    markdown = markdown.replace(f"]({up}../README.md", f"]({up}overview.md")
    return markdown.replace(f"]({up}../CONTRIBUTING.md", f"]({up}contributing.md")


def _inline(link):
    """A picture of pictures.py itself, which then follows the site's switch of light and dark; other images stay."""
    text = (ROOT / "docs" / "images" / f"{link[1]}.svg").read_text("utf-8")
    if 'class="picture"' not in text:
        return link[0]
    drawn = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL).replace("\n", "")
    return f"<figure data-search-exclude>{drawn}</figure>"
