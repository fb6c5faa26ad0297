"""Single figures: true to size, readable letters, fonts inside, the same bytes again."""

import re
from xml.etree import ElementTree

import pytest
from made_runs import METHODS, fake_run

from unlearn_jax import reports
from unlearn_jax.errors import InputError
from unlearn_jax.reports import paper
from unlearn_jax.reports.drawings import drawings
from unlearn_jax.reports.style import COLOURS, colour

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    two = {name: METHODS[name] for name in ("scrub", "random_label")}
    return fake_run(tmp_path_factory.mktemp("alone") / "run", levels=(0, 4), methods=two)


def words_of(svg):
    return [element for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("word", "inches"), [("single", 3.25), ("text", 5.5), ("double", 6.75), ("3.5in", 3.5), ("8.2cm", 8.2 / 2.54)]
)
def test_widths_in_words_and_units(word, inches):
    assert paper.inches(word) == pytest.approx(inches)
    assert paper.inches("82mm") == pytest.approx(paper.inches("8.2cm"))
    assert paper.inches("252 pt") == pytest.approx(252 / 72.27)


@pytest.mark.parametrize("word", ["wide", "3.25", "0in", "1in", "99cm", "-3in", "nan"])
def test_bad_widths_are_input_errors(word):
    with pytest.raises(InputError, match="--width"):
        paper.inches(word)


@pytest.mark.parametrize("width", ["single", "double"])
def test_svg_is_true_to_size_with_letters_of_7_to_9_points(run, tmp_path, width):
    svg = reports.save_figure(run, tmp_path / "main.svg", width=width).read_text()
    root = ElementTree.fromstring(svg)
    assert float(root.get("width").removesuffix("pt")) == pytest.approx(72 * paper.WIDTHS[width])
    sizes = {float(size) for size in re.findall(r"font(?:-size)?: ?([\d.]+)px", svg)}
    assert sizes and min(sizes) >= 7 and max(sizes) <= 9
    told = {"".join(word.itertext()) for word in words_of(svg)}
    assert {"retrain", "placebo", "residual influence of the targets"} <= told


def test_svg_carries_its_letters_or_is_of_shapes(run, tmp_path):
    svg = reports.save_figure(run, tmp_path / "main.svg").read_text()
    assert "@font-face{font-family:'DejaVu Sans';src:url(data:font/ttf;base64," in svg
    assert not re.search(r'(?:href|src)="?(?!#|url\(data:)http', svg.split("</metadata>")[1])
    shapes = reports.save_figure(run, tmp_path / "outlines.svg", outlines=True, which="main").read_text()
    assert not words_of(shapes) and "font-face" not in shapes


def test_embedded_font_has_every_letter(run, tmp_path):
    import base64
    import io

    from fontTools.ttLib import TTFont

    svg = reports.save_figure(run, tmp_path / "forest.svg").read_text()
    data = re.search(r"base64,([^)]*)\)", svg)[1]
    letters = {ord(c) for word in words_of(svg) for c in "".join(word.itertext())}
    assert letters and letters <= set(TTFont(io.BytesIO(base64.b64decode(data))).getBestCmap())


def test_pdf_is_true_to_size_with_truetype_fonts(run, tmp_path):
    pdf = reports.save_figure(run, tmp_path / "main.pdf", width="single").read_bytes()
    box = [float(v) for v in re.search(rb"/MediaBox\s*\[([^\]]*)\]", pdf)[1].split()]
    assert box[2] - box[0] == pytest.approx(72 * 3.25)
    assert b"/FontFile2" in pdf and b"/Subtype /CIDFontType2" in pdf and b"/Type3" not in pdf
    assert b"/Subtype /Image" not in pdf and b"/CreationDate" not in pdf
    assert set(re.findall(rb"/([A-Z]{6})\+", pdf)) <= {b"AAAAAA", b"AAAAAB"}


def test_png_is_true_to_size(run, tmp_path):
    from PIL import Image

    with Image.open(reports.save_figure(run, tmp_path / "main.png", width="5in")) as picture:
        assert picture.size[0] == 1500 and picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_figures_are_the_same_bytes_again(run, tmp_path):
    for name in ("main.svg", "main.pdf"):
        first = reports.save_figure(run, tmp_path / name).read_bytes()
        assert reports.save_figure(run, tmp_path / name).read_bytes() == first


def test_dark_figures_are_drawn_in_the_dark_colours_alone(run, tmp_path):
    svg = reports.save_figure(run, tmp_path / "main.svg", theme="dark").read_text().lower()
    drawn = set(re.findall(r"#[0-9a-f]{6}", svg.split("</defs>", 1)[1]))
    shades = {tone.light for tone in COLOURS.values()} - {tone.dark for tone in COLOURS.values()}
    assert COLOURS["retrain"].dark in drawn and COLOURS["paper"].dark in drawn and not drawn & shades
    assert colour("retrain") == COLOURS["retrain"].light  # what is drawn afterwards is as before


def test_figures_go_by_their_file_or_by_name(run, tmp_path):
    assert list(drawings(run)) == ["main", "methods", "forest", "margins"]
    forest = reports.save_figure(run, tmp_path / "forest.svg").read_text()
    assert reports.save_figure(run, tmp_path / "any.svg", which="forest").read_text() == forest
    assert reports.save_figure(run, tmp_path / "any.svg").read_text() != forest  # the main one
    early = reports.save_figure(run, tmp_path / "forest.svg", level=0).read_text()
    assert early != forest
    with pytest.raises(InputError, match="unknown figure of this run 'frontier': choose one of forest, main"):
        reports.save_figure(run, tmp_path / "any.svg", which="frontier")
    with pytest.raises(InputError, match="no level of 3 copies: choose among 0, 4"):
        reports.save_figure(run, tmp_path / "any.svg", level=3)


@pytest.mark.parametrize("asked", [{"theme": "sepia"}, {"letters": 6}, {"letters": 12}, {"width": "2ft"}])
def test_bad_looks_leave_no_file(run, tmp_path, asked):
    with pytest.raises(InputError):
        reports.save_figure(run, tmp_path / "main.svg", **asked)
    assert not list(tmp_path.iterdir())


def test_references_differ_without_colours():
    from unlearn_jax.reports.figures import CURVES
    from unlearn_jax.reports.style import DASHES, MARKERS

    strokes = [(MARKERS[name], DASHES.get(name)) for name in CURVES]
    assert len(set(strokes)) == len(strokes) == len({dash for _, dash in strokes})


def _light(tone):
    """Relative luminance of a colour, by WCAG."""
    parts = [int(tone[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_lines_stand_out_from_the_paper(theme):
    paper_light = _light(getattr(COLOURS["paper"], theme))
    for name in ("original", "retrain", "oracle", "placebo", "method", "ink", "muted"):
        own = _light(getattr(COLOURS[name], theme))
        assert (max(own, paper_light) + 0.05) / (min(own, paper_light) + 0.05) >= 3, name
