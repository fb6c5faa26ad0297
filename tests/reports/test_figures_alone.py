"""Single figures: true to size, readable letters, fonts inside, the same bytes again."""

import base64
import io
import re
from xml.etree import ElementTree

import pytest
from fontTools.ttLib import TTFont
from made_runs import METHODS, fake_run
from PIL import Image

from unlearn_jax import reports
from unlearn_jax.errors import InputError
from unlearn_jax.reports import paper
from unlearn_jax.reports.drawings import drawings
from unlearn_jax.reports.figures import CURVES
from unlearn_jax.reports.style import COLOURS, DASHES, MARKERS, colour

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


@pytest.fixture(scope="module")
def drawn(run, tmp_path_factory):
    """The bytes of figures one column wide, by the name of their file."""
    folder = tmp_path_factory.mktemp("drawn")
    names = ("main.svg", "forest.svg", "main.pdf")
    return {name: reports.save_figure(run, folder / name, width="single").read_bytes() for name in names}


def check_size(svg, width):
    """Assert that a figure has its width, and letters of 7 to 9 points."""
    assert float(ElementTree.fromstring(svg).get("width").removesuffix("pt")) == pytest.approx(72 * width)
    sizes = {float(size) for size in re.findall(r"font(?:-size)?: ?([\d.]+)px", svg)}
    assert sizes and min(sizes) >= 7 and max(sizes) <= 9


def test_svg_is_true_to_size_and_carries_its_letters_or_is_of_shapes(run, drawn, tmp_path):
    svg = drawn["main.svg"].decode()
    check_size(svg, 3.25)
    told = {"".join(word.itertext()) for word in words_of(svg)}
    assert {"retrain", "placebo", "residual influence of the targets"} <= told
    assert "@font-face{font-family:'DejaVu Sans';src:url(data:font/ttf;base64," in svg
    assert not re.search(r'(?:href|src)="?(?!#|url\(data:)http', svg.split("</metadata>")[1])
    check_size(reports.save_figure(run, tmp_path / "main.svg", width="double").read_text(), 6.75)
    shapes = reports.save_figure(run, tmp_path / "outlines.svg", outlines=True, which="main").read_text()
    assert not words_of(shapes) and "font-face" not in shapes


def test_embedded_font_has_every_letter(drawn):
    svg = drawn["forest.svg"].decode()
    data = re.search(r"base64,([^)]*)\)", svg)[1]
    letters = {ord(c) for word in words_of(svg) for c in "".join(word.itertext())}
    assert letters and letters <= set(TTFont(io.BytesIO(base64.b64decode(data))).getBestCmap())


def test_pdf_is_true_to_size_with_truetype_fonts(drawn):
    pdf = drawn["main.pdf"]
    box = [float(v) for v in re.search(rb"/MediaBox\s*\[([^\]]*)\]", pdf)[1].split()]
    assert box[2] - box[0] == pytest.approx(72 * 3.25)
    assert b"/FontFile2" in pdf and b"/Subtype /CIDFontType2" in pdf and b"/Type3" not in pdf
    assert b"/Subtype /Image" not in pdf and b"/CreationDate" not in pdf
    assert set(re.findall(rb"/([A-Z]{6})\+", pdf)) <= {b"AAAAAA", b"AAAAAB"}


def test_png_is_true_to_size(run, tmp_path):
    with Image.open(reports.save_figure(run, tmp_path / "main.png", width="5in")) as picture:
        assert picture.size[0] == 1500 and picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_figures_are_the_same_bytes_again(run, drawn, tmp_path):
    for name in ("main.svg", "main.pdf"):
        assert reports.save_figure(run, tmp_path / name, width="single").read_bytes() == drawn[name]


def test_dark_figures_are_drawn_in_the_dark_colours_alone(run, tmp_path):
    svg = reports.save_figure(run, tmp_path / "main.svg", theme="dark").read_text().lower()
    drawn = set(re.findall(r"#[0-9a-f]{6}", svg.split("</defs>", 1)[1]))
    shades = {tone.light for tone in COLOURS.values()} - {tone.dark for tone in COLOURS.values()}
    assert COLOURS["retrain"].dark in drawn and COLOURS["paper"].dark in drawn and not drawn & shades
    assert colour("retrain") == COLOURS["retrain"].light  # what is drawn afterwards is as before


def test_figures_go_by_their_file_or_by_name(run, drawn, tmp_path):
    assert list(drawings(run)) == ["main", "methods", "forest", "margins"]
    save = lambda name, **how: reports.save_figure(run, tmp_path / f"{name}.svg", width="single", **how).read_bytes()
    assert save("any", which="forest") == drawn["forest.svg"] != save("forest", level=0)
    assert save("any") == drawn["main.svg"]
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
