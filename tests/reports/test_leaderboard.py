"""The leaderboard: rows from run folders, the file, and the page, which is read with a parser and without a script."""

import csv
import io
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "experiments"))

import leaderboard  # noqa: E402
from made_runs import METHODS, Page, change, edit, fake_run, sound  # noqa: E402

from unlearn_jax.errors import InputError  # noqa: E402
from unlearn_jax.reports import board_page, board_rows  # noqa: E402
from unlearn_jax.reports.columns import read_named  # noqa: E402
from unlearn_jax.studies.presets import read_presets  # noqa: E402

COMMAND = (
    "python experiments/study.py --copies 4 --quiet --out /home/me/runs/x --store=/data/s --dataset /home/me/mine.npz"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run at 4 copies with two methods, of which one had a setting given."""
    methods = {name: METHODS[name] for name in ("scrub", "random_label")}
    run = fake_run(tmp_path_factory.mktemp("board") / "run", levels=(4,), methods=methods)
    change(run, command=COMMAND, _hp=["scrub.alpha=4"], _num_targets=30)
    edit(run, lambda row: row | ({"setting": "alpha=4"} if row["method"] == "scrub" else {}))
    return run


def rows_of(run, **how):
    return {row["method"]: row for row in board_rows.rows_of_run(read_named([run])[0], **how)}


def copy(run, folder, **changes):
    shutil.copytree(run, folder)
    change(folder, **changes)
    return folder


def test_rows_hold_the_summary_and_how_it_was_made(run):
    rows = rows_of(run)
    assert set(rows) == {"original", "retrain", "placebo", "dedup", "random_label", "scrub"}  # the oracle is the scale
    with (run / "summary.csv").open(newline="") as file:
        cells = {(r["method"], r["metric"], r["split"]): r for r in csv.DictReader(file)}
    for name, metric, split in (("distance", "residual_distance", "forget"), ("price_test", "price_accuracy", "test")):
        stored = cells["scrub", metric, split]
        for end, key in (("", "value"), ("_low", "ci_low"), ("_high", "ci_high")):
            assert float(rows["scrub"][name + end]) == pytest.approx(float(stored[key]), rel=1e-5)
    one = rows["scrub"]
    assert (one["setting"], one["source"], one["kind"]) == ("alpha=4", "given", "")
    assert (rows["random_label"]["source"], rows["random_label"]["diverged"]) == ("default", "3")
    assert (rows["retrain"]["kind"], rows["retrain"]["source"]) == ("reference", "default")
    assert one["command"] == "python experiments/study.py --copies 4 --dataset mine.npz"
    assert (one["members"], one["num_targets"], one["copies"], one["date"]) == ("32", "30", "4", "2025-01-01")
    assert "jax 0.10.2" in one["versions"] and one["commit"] == "0123abcd" and one["device"] == "cpu, 2 cores"
    assert all(set(row) <= set(board_rows.HEADER) for row in rows.values())


def test_settings_say_where_they_come_from(run, tmp_path):
    assert rows_of(run, source="on other targets")["scrub"]["source"] == "on other targets"
    assert rows_of(run, source="on other targets")["random_label"]["source"] == "default"
    preset = copy(run, tmp_path / "preset", presets={"name": "tuned", "settings": ["scrub.alpha=4"]})
    assert rows_of(preset, source="by hand")["scrub"]["source"] == "preset tuned"
    shipped = {"name": "mine", "settings": ["scrub.alpha=4"], "digest": read_presets("vision-copies-small").digest}
    asked = {"command": "python experiments/study.py --presets runs/mine.json --copies 4"}
    row = rows_of(copy(run, tmp_path / "shipped", presets=shipped, **asked))["scrub"]
    assert row["source"] == "preset vision-copies-small"
    assert row["command"] == "python experiments/study.py --presets vision-copies-small --copies 4"
    scaled = copy(run, tmp_path / "scaled", _scale="small")
    assert rows_of(scaled)["random_label"]["source"] == "default, scale small"


def test_a_study_is_one_question(run, tmp_path):
    study = rows_of(run)["scrub"]["study"]
    alike = copy(run, tmp_path / "alike", _methods="all", _hp=[], _copies=[0, 4], _resamples=100, git_commit="other")
    assert {row["study"] for row in rows_of(alike).values()} == {study}
    for number, other in enumerate(({"_seed": 8}, {"_members": 64}, {"_targets": "random"}, {"dataset_digest": "f"})):
        assert rows_of(copy(run, tmp_path / str(number), **other))["scrub"]["study"] != study


def test_adding_appends_renews_and_keeps_what_is_newer(run, tmp_path):
    mine = list(rows_of(run).values())
    first = board_rows.added([], mine)
    assert (len(first.rows), first.new, first.renewed, first.kept) == (6, 6, 0, 0)
    again = board_rows.added(first.rows, mine)
    assert again.rows == first.rows and (again.new, again.renewed, again.kept) == (0, 6, 0)
    later = list(rows_of(copy(run, tmp_path / "later", finished="2026-02-03T00:00:00", git_commit="new")).values())
    renewed = board_rows.added(first.rows, later)
    assert renewed.renewed == 6 and {row["commit"] for row in renewed.rows} == {"new"}
    assert board_rows.added(renewed.rows, mine).kept == 6 and board_rows.added(renewed.rows, mine).rows == renewed.rows
    other = list(rows_of(copy(run, tmp_path / "other", _seed=9)).values())
    both = board_rows.added(first.rows, other).rows
    assert len(both) == 12 and board_rows.added(board_rows.added([], other).rows, mine).rows == both  # in one order


def test_the_file_comes_back_as_it_was(run, tmp_path):
    rows = board_rows.added([], list(rows_of(run).values())).rows
    full = [{name: row.get(name, "") for name in board_rows.HEADER} for row in rows]
    (tmp_path / "rows.csv").write_text(board_rows.written(rows), encoding="utf-8")
    assert board_rows.read_rows(tmp_path / "rows.csv") == full
    assert board_rows.written(full) == board_rows.written(rows) and board_rows.read_rows(tmp_path / "none.csv") == []
    plain = board_rows.written([made(command="python x.py\n--evil", setting='a,"b"')])
    assert [row["setting"] for row in csv.DictReader(io.StringIO(plain))] == ['a,"b"']


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("study,dataset", "dataset,study"), "other columns"),
        (lambda text: text + "half,a,row\n", "damaged in line 8"),
        (lambda text: re.sub(r"(\n[^\n]*,atypical,30,1,near,)4", r"\1four", text, count=1), "copies 'four' in line 2"),
        (lambda text: text + '"', "cannot read"),
    ],
)
def test_a_damaged_file_is_an_input_error(run, tmp_path, damage, message):
    text = board_rows.written(board_rows.added([], list(rows_of(run).values())).rows)
    (tmp_path / "rows.csv").write_text(damage(text), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        board_rows.read_rows(tmp_path / "rows.csv")


def test_runs_that_cannot_be_told_of_are_refused(run, tmp_path):
    for name in ("command", "versions", "device"):
        with pytest.raises(InputError, match=f"does not say its {name}"):
            rows_of(copy(run, tmp_path / name, **{name: ""}))
    half = read_named([run])[0]
    with pytest.raises(InputError, match="is unfinished: the same study command completes it"):
        board_rows.rows_of_run(half._replace(run=half.run._replace(unfinished="Unfinished: 1 of 2 levels are done.")))
    unclear = copy(run, tmp_path / "unclear")
    edit(unclear, lambda row: row | ({"value": "0.0"} if row["metric"] == "identifiable" else {}))
    with pytest.raises(InputError, match="not identifiable"):
        rows_of(unclear)
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(InputError, match="is a sweep .*only studies can be added"):
        leaderboard.add(leaderboard.Add(runs=[run, tmp_path], data=tmp_path / "rows.csv"))
    assert not (tmp_path / "rows.csv").exists()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([
    "--out", "--store", "--data-dir", "--out=/a b", "--quiet", "--no-report", "/home/me/x.npz", "~/p.json",
    "C:\\d\\y.csv", "--dataset=/home/me/x.npz", "--dataset=~/x.npz", "--dataset", "--presets=C:\\d\\y.csv",
    "--copies", "4", "runs/x", "--hp", "scrub.alpha=.1,.5", "it's",
]), max_size=8))  # fmt: skip
def test_public_commands_say_nothing_of_where_things_lie(words):
    told = shlex.split(board_rows.public_command(shlex.join(["python", "experiments/study.py", *words])))
    assert told[:2] == ["python", "experiments/study.py"]
    assert not any("/" in word or "me" in word for word in told[2:] if word.startswith("--") and "=" in word)
    assert not any(word.startswith(("/", "~", "C:", "--out", "--store", "--data-dir", "--quiet")) for word in told)
    if not {"--out", "--store", "--data-dir"} & set(words):
        assert all(
            told.count(word) == words.count(word) for word in ("--copies", "4", "--hp", "scrub.alpha=.1,.5", "it's")
        )


def made(**changes):
    """A row with everything that the page needs."""
    row = dict.fromkeys(board_rows.HEADER, "") | {
        "study": "abc", "dataset": "digits", "model": "mlp", "targets": "random", "num_targets": "30", "requests": "1",
        "similarity": "near", "copies": "4", "gamma": "0.2", "members": "16", "method": "scrub", "source": "default",
        "residual": "0.1", "residual_low": "0", "residual_high": "0.2", "distance": "0.25", "distance_low": "0.15",
        "distance_high": "0.34", "price_test": "-1.25", "price_test_low": "-2", "price_test_high": "0.5",
        "cost": "0.12", "diverged": "0", "null_band": "0.013", "device": "cpu", "versions": "jax 0.10",
        "command": "python x.py",
    }  # fmt: skip
    return row | changes


@pytest.fixture(scope="module")
def page():
    """Two studies; one has a row that says nothing, one that leads off the scale, and a hostile name."""
    rows = [
        made(), made(method="ssd", distance="0.1", distance_low="0.05", distance_high="0.2", remedy="expand"),
        made(method="cf_k", distance="0", distance_low="0", distance_high="2"),
        made(method="retrain", kind="reference", distance="0.8", cost="1"),
        made(method="original", kind="reference", distance="1", distance_low="1", distance_high="1", cost="1"),
        made(method='<b>"x"</b>', distance="360", distance_low="12", distance_high="500", diverged="2", setting="a&b"),
        made(study="two", dataset="facts", similarity="natural", copies="2", gamma="0.333333", command="python <y>.py"),
        made(study="two", dataset="facts", similarity="natural", copies="2", gamma="0.333333", method="wga", cost=""),
    ]  # fmt: skip
    return board_page.render_board(rows)


def test_page_is_sound_and_needs_no_network(page):
    found = sound(page)
    assert {"filters", "board", "made-1", "made-2", "reproduce"} <= set(found.ids)
    assert not Page(page).tags & {"link", "iframe", "object"} and page.count("<script>") == 1
    assert not re.search(r'(src|href)="(?!#)', page) and not re.search(r"url\(|@import|https?:", page)
    assert "<b>" not in page and "python &lt;y&gt;.py" in page and "a&amp;b" in page


def test_page_without_its_script_is_a_table_by_distance(page):
    bare = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    rows = [[" ".join(cell.split()) for cell in row] for row in Page(bare).rows]
    names = [row[0].split()[0] for row in rows if len(row) == 7]
    assert names == ["Population", "ssd", "scrub", "retrain", "original", '<b>"x"</b>', "cf_k", "scrub", "wga"]
    scrub = next(row for row in rows if row[0] == "scrub")
    assert scrub[2:] == ["0.25 [0.15, 0.34]", "0.10 [0.00, 0.20]", "−1.2 [−2.0, 0.5]", "–", "0.12"]
    assert "4 near copies of each target stay" in page and "2 nearest neighbours of each target stay" in page
    assert "2 members diverged" in page and "says nothing: anything from 0 to 1" in page
    assert '<form id="filters" hidden>' in page  # without a script there is nothing to press


def test_references_are_marked_to_stay(page):
    assert len(re.findall(r'<tr class="reference always" data-name="(?:retrain|original)"', page)) == 2
    assert page.count("data-unclear") == page.count(" data-unclear>") == 1
    assert re.findall(r'<tbody id="[^"]*" data-dataset="(\w+)" data-similarity="(\w+)">', page) == [
        ("digits", "near"), ("facts", "natural")
    ]  # fmt: skip


def test_bars_lie_on_one_scale(page):
    at = lambda v: board_page.WIDE * (v - board_page.LEFT) / (board_page.RIGHT - board_page.LEFT)
    drawn = board_page.bar_of(0.25, 0.15, 0.34)
    assert drawn["at"] == round(at(0.25), 1) and drawn["interval"] == (round(at(0.15), 1), round(at(0.34), 1))
    assert drawn["ends"] == [("oracle", round(at(0), 1)), ("original", round(at(1), 1))]
    assert board_page.bar_of(9.0, 8.0, 10.0)["at"] is None  # an arrow
    assert board_page.bar_of(1.0, math.nan, math.nan)["interval"] is None
    assert page.count('class="beyond"') == 1 and page.count("<circle") > 5
    assert re.search(r'<path class="interval" d="M[0-9.]+ 7H[0-9.]+"/><circle cx="[0-9.]+" cy="7" r="3"/>', page)


def test_command_adds_and_draws(run, tmp_path):
    data = tmp_path / "board" / "rows.csv"
    told = leaderboard.add(leaderboard.Add(runs=[run], data=data))
    assert told.splitlines() == [f"{run}: 6 rows added, 0 renewed", str(data)]
    assert "6 renewed" in leaderboard.add(leaderboard.Add(runs=[run], data=data))
    written = leaderboard.page(leaderboard.Page(data=data))
    assert written == str(tmp_path / "board" / "index.html")
    sound(Path(written).read_text(encoding="utf-8"))
    with pytest.raises(InputError, match="there are no rows"):
        leaderboard.page(leaderboard.Page(data=tmp_path / "none.csv"))
    with pytest.raises(InputError, match="no run is given"):
        leaderboard.add(leaderboard.Add(runs=[], data=data))


def test_the_page_in_docs_is_of_the_rows_in_docs():
    rows = board_rows.read_rows(leaderboard.DATA)
    assert rows and board_rows.written(rows) == leaderboard.DATA.read_text(encoding="utf-8")
    assert board_rows.added(rows, []).rows == rows
    page = (leaderboard.DATA.parent / "index.html").read_text(encoding="utf-8")
    style = r"(?s)<style>.*?</style>"  # colours may change before the rows do
    bare = lambda text: re.sub(r">\s+|\s+<", lambda edge: edge[0].strip(), unescape(re.sub(style, "", text)))
    assert bare(page) == bare(board_page.render_board(rows)), "run experiments/leaderboard.py page"
    sound(page)
    for row in rows:
        assert row["command"].startswith("python experiments/study.py") and row["versions"] and row["device"]
        assert not re.search(r"(^|[\s=])[/~]", row["command"]) and not row["commit"].endswith("+")
    methods = [row for row in rows if row["kind"] != "reference"]
    studies = {(row["study"], row["copies"], row["gamma"]) for row in rows}
    for name in ("retrain", "original"):
        assert sum(row["method"] == name and row["kind"] == "reference" for row in rows) == len(studies)
    assert len(methods) > 80 and len({row["dataset"] for row in rows}) >= 4


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium here")
def test_script_filters_and_sorts(page, tmp_path):
    act = """<script>
const form = document.getElementById("filters");
form.elements.dataset.value = "digits"; form.elements.cost.value = ".2"; form.elements.method.value = "s";
form.dispatchEvent(new Event("input", {bubbles: true}));
document.querySelectorAll("#board thead button")[0].click();
const seen = [...document.querySelectorAll("#board tbody tr")].filter((r) => r.offsetParent && r.dataset.name);
document.body.innerHTML = JSON.stringify([seen.map((r) => r.dataset.name), form.elements.shown.value]);
</script></body>"""
    (tmp_path / "page.html").write_text(page.replace("</body>", act), encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/c", "--dump-dom"]
    done = subprocess.run([*command, f"file://{tmp_path}/page.html"], capture_output=True, text=True, timeout=60)
    names, shown = json.loads(re.search(r"<body>(.*?)</body>", done.stdout, re.DOTALL)[1])
    assert names == ["original", "retrain", "scrub", "ssd + expand"] and shown == "2 of 6 shown"
