"""The page of sweeps of several methods, on a folder made by hand: what it says, and what it must not mix."""

import csv
import dataclasses
import json
import math
import re

import pytest
from made_runs import section_of, sound

from unlearn_jax import reports
from unlearn_jax.cli import report as report_command
from unlearn_jax.errors import InputError
from unlearn_jax.reports import overview_figures as figures
from unlearn_jax.reports import overview_words as words
from unlearn_jax.reports.overview_page import render_sweeps
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.sweeps import SweepConfig
from unlearn_jax.sweeps.config import asked_of, defaults_of
from unlearn_jax.sweeps.overall import compare_defaults, compare_rules
from unlearn_jax.sweeps.several import decide

NAMES = "scrub,neggrad_plus,finetune,ssd,random_label,do_nothing"
SWEEP = SweepConfig(method=NAMES, seeds=4, draw="sobol", draws=2)
# method -> (allowed, score, gain, distance) of the defaults and of two settings, the first of them the rule's choice
METHODS = {
    "scrub": [(True, 0.9, 0.0, 0.8), (True, 0.4, 0.5, 0.5), (True, 0.6, 0.3, 0.3)],  # clearly better; regret .2
    "neggrad_plus": [(False, 0.9, 0.0, 3.0), (True, 0.8, 0.1, 0.7), (False, 0.7, 0.2, 0.1)],  # defaults not allowed
    "finetune": [(True, 0.3, 0.0, 0.6), (True, 0.5, -0.2, 0.9), (True, 0.5, -0.2, 0.9)],  # none is better
    "ssd": [(True, 0.5, 0.0, 0.7), (True, 0.48, 0.02, 0.4), (True, 0.9, -0.4, 0.9)],  # not told to be better
    "random_label": [(False, 2.0, 0.0, 1.4), (False, 1.5, 0.5, 1.2), (False, 1.9, 0.1, 0.9)],  # none is allowed
}
KEPT_PAGES = ("neggrad_plus", "finetune", "ssd", "random_label")
WIDE = 0.05  # half of every interval


def fake_sweep(folder, method, entries):
    """The folder of one sweep whose rules all choose alike."""
    study = resolve(StudyConfig(methods=method, copies="1", targets="random", members=4))
    usual = defaults_of(method, study)
    axis = next(name for name in ("lr", "alpha") if name in usual)
    best = min((e for e in entries if e[0]), key=lambda e: e[3], default=min(entries, key=lambda e: e[3]))
    settings, rows = [], []
    for number, (allowed, score, gain, distance) in enumerate(entries):
        value = usual[axis] * (1 + number)
        name = f"{axis}={value:.4g}" if number else ""
        apart = lambda x: [x, x - WIDE * bool(x), x + WIDE * bool(x)]
        own = {"setting": name, "values": {axis: value}, "default": not number, "share": 1.0, "grad_evals": 40.0}
        own |= {"allowed": allowed, "score": score, "gain": apart(gain), "distance": distance}
        settings.append(own | {"nearer": apart(entries[0][3] - distance), "regret": apart(distance - best[3])})
        told = {"heldout_accuracy_drop": ("test", 4.0 - 3 * allowed), "retained_accuracy_drop": ("rest", 0.25)}
        told |= {"request_margin_gap": ("forget", -1.5), "residual_distance": ("forget", distance)}
        told |= {"n_diverged": ("", 2.0 * (method == "random_label")), "grad_evals_retain": ("", 30.0)}
        told |= {"heldout_margin_error": ("test", score), "grad_evals_forget": ("", 10.0)}
        for metric, (split, mean) in told.items():
            ends = [mean - WIDE, mean + WIDE] if split else [math.nan, math.nan]
            rows.append([name, metric, split, "", mean, *ends])
    allowed = [one for one in settings if one["allowed"]]
    chosen = settings[0] if method == "finetune" else settings[1]
    common = {"allowed": len(allowed), "candidates": len(settings), "said": "the least", "seen": {}}
    choices = {"margins": common | {"setting": chosen["setting"]}}
    picked = settings[entries.index(best)]
    choices["margins"] |= {key: chosen[key] for key in ("distance",)} | {"regret": chosen["distance"] - best[3]}
    choices["margins"] |= {"best": picked["setting"], "best_distance": best[3]}
    choices["oracle"] = common | {"setting": picked["setting"], "distance": best[3]}
    asked = asked_of(dataclasses.replace(SWEEP, method=method), study.config)
    told = {
        "kind": "sweep", "status": "complete", "asked": asked, "config": dataclasses.asdict(study.config), "copies": 1,
        "axes": [{"name": axis, "values": [], "low": 0.1, "high": 1.0, "log": True, "count": 0}], "settings": settings,
        "rungs": [{"share": 1.0, "run": [0, 1, 2], "kept": [0, 1, 2], "cost": 480.0}], "choices": choices,
        "cost": {"grad_evals": 480.0, "without_halving": 480.0, "one_training": 80.0}, "command": "python sweep.py",
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps(told))
    with (folder / "summary.csv").open("w", newline="") as file:
        heads = ("setting", "metric", "split", "budget", "value", "ci_low", "ci_high")
        csv.writer(file).writerows([heads, *rows])
    return told


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("overview") / "sweeps"
    found = {name: fake_sweep(out / name, name, entries) for name, entries in METHODS.items()}
    decided = {name: decide(told) for name, told in found.items()}
    told = {"kind": "sweeps", "status": "complete", "command": "python sweep.py --method <all>", "names": list(METHODS)}
    told |= {"asked": asked_of(SWEEP, StudyConfig()), "left_out": ["<unsir> is for classes and was not run"]}
    told["methods"] = {
        n: {"kept_defaults": not d.values, "why": d.why, "candidates": d.candidates} for n, d in decided.items()
    }
    told["methods"]["do_nothing"] = {"kept_defaults": True, "why": "nothing to sweep"}
    told |= {"rules": compare_rules(found, decided), "leaving": compare_defaults(found, decided)}
    (out / "sweeps.json").write_text(json.dumps(told))
    return out


@pytest.fixture(scope="module")
def page(folder):
    """Its page as text, drawn where the pages of four methods are as new as their sweeps."""
    for name in KEPT_PAGES:
        (folder / name / "sweep.html").write_text("<p>as it was</p>")
    report_command.run(report_command.Args(runs=[folder]))
    return (folder / "sweeps.html").read_text()


def own_page(folder, name):
    return (folder / name / "sweep.html").read_text()


def rows_of(page, section):
    """The cells of a section's table by the name of the row."""
    rows = [[" ".join(cell.split()) for cell in row] for row in section_of(page, section).rows]
    return {row[0]: row[1:] for row in rows if len(row) > 1}


def test_the_answer_comes_first_and_says_why(page):
    lead = re.search(r'id="answer">(.*?)</p>', page)[1]
    assert lead == (
        "2 of 6 methods leave their defaults: for 1 a setting is clearly better and for 1 the defaults are not "
        "allowed, another setting is. The others keep them: for 1 no allowed setting has a smaller score, for 1 no "
        "setting is told to be better, for 1 no setting is allowed and for 1 there is nothing to sweep."
    )
    after = re.search(r'id="afterwards">(.*?)</p>', page)[1]
    assert "of the 2 that leave their defaults, 2 are told to be nearer to it and 0 to be farther, 0 neither" in after
    assert "(median residual distance 0.60, was 1.90)" in after
    assert "What the file says is 0.20 [" in after and "(regret, mean over 5 sweeps)" in after
    assert "is that very setting for 2. Residuals are not identifiable here (fewer than 8 seeds" in after


def test_the_page_is_whole_and_every_figure_leads_to_the_command(folder, page):
    found = sound(page)
    sections = re.findall(r'<section id="(\w+)">', page)
    assert sections == ["reasons", "seen", "oracle", "rules", "words", "reproduce"]
    assert "python sweep.py --method &lt;all&gt;" in page and "<all>" not in page and "&lt;unsir&gt;" in page
    assert page.count('href="#reproduce">how it was made') == 4 + 2  # tables and figures
    assert "http" not in re.sub(r"http://www.w3.org/\S*", "", page)
    pages = {link for link in found.links if not link.startswith("#")}
    assert pages == {f"{name}/sweep.html" for name in METHODS}
    for name in METHODS:
        own = own_page(folder, name)
        drawn = 'href="../sweeps.html"' in own and 'id="choices"' in own
        assert own == "<p>as it was</p>" if name in KEPT_PAGES else drawn
    assert "is at 0.30: not looking costs 0.20 [0.15, 0.25]." in own_page(folder, "scrub")


def test_what_looks_at_the_oracle_is_apart(page):
    seen = page.partition('<section id="seen">')[2].partition("</section>")[0]
    for word in ("residual", "regret", "oracle"):
        assert word not in re.sub(r"<svg.*?</svg>", "", seen, flags=re.DOTALL)
    assert 'class="afterwards"' in page


def test_the_tables_say_what_the_sweeps_found(page):
    seen, oracle = rows_of(page, "seen"), rows_of(page, "oracle")
    assert list(seen)[1:] == ["scrub", "neggrad_plus", "finetune", "ssd", "random_label"]
    assert seen["scrub"][1:] == ["3 of 3", "0.50 [0.45, 0.55]", "1.00 [0.95, 1.05]", "0.25 [0.20, 0.30]",
                                 "−1.50 [−1.55, −1.45]", "0.50", "0"]  # fmt: skip
    assert seen["finetune"][:3] == ["defaults", "3 of 3", ""] and seen["random_label"][-1] == "2"
    assert seen["neggrad_plus"][1] == "1 of 3"
    assert oracle["scrub"][:4] == ["0.80 [0.75, 0.85]", "0.50 [0.45, 0.55]", "0.30 [0.25, 0.35]", "0.30 [0.25, 0.35]"]
    assert oracle["scrub"][-1] == "0.20 [0.15, 0.25]" and oracle["neggrad_plus"][-2:] == ["what the preset says", "0"]
    assert oracle["ssd"][1:3] == ["the same", ""] and oracle["ssd"][-1] == "0.30 [0.25, 0.35]"
    assert "none is allowed" in oracle["random_label"][-2]
    reasons = page.partition('<section id="reasons">')[2].partition("</section>")[0]
    assert reasons.count('scope="row"') == 6 and "do_nothing" in reasons


def test_rules_are_compared_over_all_sweeps(page):
    rules = rows_of(page, "rules")
    assert list(rules)[1:] == ["margins (asked for)", "the preset file", "the defaults", "by lot"]
    assert rules["margins (asked for)"][1:4] == ["0.00", "0.30 random_label", "3 of 5"]
    assert rules["the defaults"][2:4] == ["2.30 neggrad_plus", "1 of 5"]
    assert rules["by lot"][3] == "2.33 of 5"  # 1/3 + 1 + 1/3 + 1/3 + 1/3


def test_figures_show_all_settings_and_go_by_name(folder, tmp_path):
    told = reports.read_sweeps(folder)
    axes = figures.distances_figure(told).axes[0]
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names == ["scrub", "neggrad_plus", "finetune", "ssd", "random_label"]
    assert "3.0" in [text.get_text() for text in axes.texts]  # the defaults of neggrad_plus, beyond the axis
    marks = [line for line in axes.lines if line.get_marker() in ("s", "o", "v", ">")]
    assert len(marks) == 5 + 2 + 5  # defaults, presets that leave them, best
    assert sum(line.get_markerfacecolor() == "#ffffff" for line in marks) == 1 + 2  # may not be chosen
    panels = figures.seen_figure(told, 3.25).axes
    assert len(panels) == 2 and panels[0].get_xlabel() == "gain on the defaults' score, nats"
    for name in ("distances", "seen"):
        report_command.run(report_command.Args(runs=[folder], figure=tmp_path / f"{name}.svg", width="single"))
    with pytest.raises(InputError, match="choose one of distances, seen"):
        reports.save_figure(folder, tmp_path / "a.svg", which="parallel")


def changed(folder, tmp_path, **told):
    """A copy of the sweeps without the folders of methods, with another sweeps.json."""
    out = tmp_path / "copy"
    out.mkdir()
    for name in METHODS:
        (out / name).symlink_to(folder / name)
    was = json.loads((folder / "sweeps.json").read_text())
    (out / "sweeps.json").write_text(json.dumps({k: v for k, v in (was | told).items() if v is not None}))
    return out


def test_an_unfinished_folder_shows_what_is_done(folder, page, tmp_path, capsys, unsaved):
    waits = [*METHODS, "salun"]
    out = changed(folder, tmp_path, status="running", methods=None, rules=None, names=waits)
    report_command.run(report_command.Args(runs=[out], out=tmp_path / "page.html"))
    assert capsys.readouterr().out.startswith("Unfinished: 5 of 6 methods are swept")
    text = (tmp_path / "page.html").read_text()
    sound(text)
    said = re.search(r'id="unfinished">(.*?)</p>', text)[1]
    assert said.startswith(
        "Unfinished: 5 of 6 methods are swept; running or killed; the same unlearn-jax sweep command"
    )
    assert said.endswith("To come: salun.") and "2 of 5 methods leave their defaults so far" in text
    assert rows_of(text, "rules") == rows_of(page, "rules") and 'href="copy/scrub/sweep.html"' in text
    for name in METHODS:
        (out / name).unlink()
    with pytest.raises(InputError, match="nothing to show yet: 0 of 6 methods are swept.*goes on where it stopped"):
        reports.write_sweeps_page(out)


def test_sweeps_without_an_oracle_have_no_such_sections(folder, unsaved):
    told = reports.read_sweeps(folder)
    blind = told._replace(rules={}, leaving={}, lines=[line._replace(best=None) for line in told.lines])
    assert words.afterwards(blind) == "" and not blind.oracle
    text = render_sweeps(blind, folder / "sweeps.html")
    assert re.findall(r'<section id="(\w+)">', text) == ["reasons", "seen", "words", "reproduce"]


def test_older_sweeps_have_differences_without_intervals(folder):
    told = reports.read_sweeps(folder)
    old = lambda entry: entry and {k: v for k, v in entry.items() if k not in ("nearer", "regret")}
    line = told.lines[0]._replace(says=old(told.lines[0].says))
    assert line.regret.value == pytest.approx(0.2) and math.isnan(line.regret.low)
    found = {one.name: one.sweep.told for one in told.swept}
    bare = {name: own | {"settings": [old(one) for one in own["settings"]]} for name, own in found.items()}
    leaving = compare_defaults(bare, {name: decide(own) for name, own in bare.items()})
    said = words.afterwards(told._replace(leaving=leaving))
    assert "where the file leaves the defaults: median residual distance 0.60, was 1.90." in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there are no sweeps at"),
        ("{", "cannot be read .*run unlearn-jax sweep again"),
        ('{"kind": "sweep"}', "of another kind of run"),
        ('{"kind": "sweeps", "status": "complete", "asked": {"sweep": {"rule": "margins"}}}', "cannot be read"),
    ],
)
def test_a_damaged_folder_is_one_sentence(tmp_path, text, said):
    if text is not None:
        (tmp_path / "sweeps.json").write_text(text)
    with pytest.raises(InputError, match=said) as error:
        reports.write_sweeps_page(tmp_path)
    assert str(error.value).endswith(".") and not (tmp_path / "sweeps.html").exists()
