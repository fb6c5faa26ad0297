"""The script that reproduces claims: the list, a run with its record and page, and bad input."""

import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs" / "claims"
NAMES = [
    "headline", "residual_copies", "methods_miss", "random_requests", "proximity", "memorization", "ssd_partial",
    "graddiff_cancels", "klom_bias",
]  # fmt: skip
TINY = ["steps=2", "train_size=300", "test_size=30", "num_targets=3", "resamples=20"]


def test_the_list_has_every_claim_with_its_cost_and_a_page(script, tmp_path):
    for words in ((), ("list",)):
        code, output, errors = script("reproduce", *words)
        assert (code, errors) == (0, "")
        assert [line.split()[0] for line in output.splitlines()] == ["claim", *NAMES]
        assert all(float(line.split()[1]) > 0 for line in output.splitlines()[1:])
    code, table, _ = script("reproduce", "list", "--markdown")
    rows = [line.split(" | ") for line in table.splitlines()[2:]]
    assert code == 0 and [row[0] for row in rows] == [f"| `{name}`" for name in NAMES]
    assert {row[2] for row in rows} == {"not run"} and list(tmp_path.iterdir()) == []


def test_the_index_of_the_docs_has_every_claim_and_links_those_that_ran():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    rows = {name: next(line for line in index.splitlines() if line.startswith(f"| `{name}`")) for name in NAMES}
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert pages == {name for name, row in rows.items() if f"]({name}.md)" in row} and pages
    for name in pages:
        page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
        said = re.search(r"\*\*Verdict: (agrees|disagrees|not told)\.\*\*", page)
        assert said and f"| **{said.group(1)}** |" in rows[name] and f"experiments/reproduce.py {name}" in page


BAD = {
    "unknown claim": (
        "headlines",
        "unknown claim 'headlines': choose one of all, graddiff_cancels, headline, klom_bias",
    ),
    "a page of what never ran": ("klom_bias --markdown", "run the claim without --markdown first"),
    "too few members": ("klom_bias --members 16", "--members is 16: this claim needs at least 32"),
    "one member": ("headline --members 1", "--members is 1: this claim needs at least 2"),
    "a field that the claim fixes": ("klom_bias --change copies=8", "write NAME=VALUE with one of seed, members"),
    "a change that is none": ("klom_bias --change seed", "'seed' is not understood"),
    "a change of another kind": ("klom_bias --change seed=few", "--change seed is 'few': give a number"),
    "what no study allows": ("klom_bias --change seed=-1", "--seed is -1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(refused, case):
    words, said = BAD[case]
    assert refused("reproduce", *words.split(), "--quiet", said=said).endswith(".\n")


def test_one_command_from_the_claim_to_its_page(script, tmp_path, unsaved):
    words = ("klom_bias", "--members", "32", "--change", *TINY)
    code, output, errors = script("reproduce", *words, "--quiet")
    assert (code, errors) == (0, "")
    (folder,) = (tmp_path / "runs" / "claims").iterdir()
    record = json.loads((folder / "claim.json").read_text())
    lines = output.splitlines()
    assert lines[0].startswith("klom_bias: ") and lines[-2] == f"verdict: {record['verdict']}"
    assert record["command"] == "python experiments/reproduce.py " + " ".join(words)
    assert record["studies"]["references"]["steps"] == 2 and record["versions"]["jax"] and record["seed"] == 0
    first = record["figures"][0]
    assert 0 < first["low"] < first["value"] < first["high"] and first["verdict"] == "agrees"
    told = f"{first['value']:.2f} [{first['low']:.2f}, {first['high']:.2f}]"
    page = (folder / "claim.html").read_text()
    assert told in output and told in page and "<svg" in page and "http" not in page.replace("http://www.w3.org", "")

    code, markdown, _ = script("reproduce", *words, "--markdown")
    assert (
        code == 0 and f"| {first['name']} | {told} |" in markdown and f"**Verdict: {record['verdict']}.**" in markdown
    )
    assert str(tmp_path) not in markdown
    code, told, _ = script("reproduce", *words, "--json", "--quiet")  # reads the finished study, and runs none
    assert code == 0 and json.loads(told)["klom_bias"]["figures"] == record["figures"]
    listed = json.loads(script("reproduce", "list", "--members", "32", "--change", *TINY, "--json")[1])
    assert list(listed) == ["klom_bias"]
    (folder / "claim.json").write_text("{")
    assert script("reproduce", *words, "--markdown")[0] == 2
