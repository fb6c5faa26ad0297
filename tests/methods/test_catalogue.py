"""The page of methods is the registry's."""

from pathlib import Path

from unlearn_jax.methods import METHODS
from unlearn_jax.methods.catalogue import methods_table, page, presets_table, settings

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m unlearn_jax.methods.catalogue > docs/methods.md"


def test_every_method_has_a_row_in_both_tables():
    for table in (methods_table(), presets_table()):
        rows = table.splitlines()[2:]
        assert [row.split("`")[1] for row in rows] == list(METHODS)
        assert len({row.count(" | ") for row in table.splitlines() if "||" not in row}) == 1


def test_settings_are_written_as_they_are_given():
    text = settings(METHODS["scrub"])
    assert text.startswith("lr 0.004, alpha 0.5, gamma 1,") and "decay 5+8+9, optimizer adam" in text


def test_a_scale_says_what_it_changes_or_that_there_is_none():
    rows = {row.split("`")[1]: [cell.strip() for cell in row.split("|")] for row in presets_table().splitlines()[2:]}
    assert rows["retrain"][3:8] == ["the same"] * 5 and rows["rurk"][7] == "none"
    assert rows["salun"][3] == "lr 0.01" and rows["cf_k"][3] == "the same"  # without a preset for such networks
    assert "optimizer sgd" in rows["scrub"][6] and "batch 128" not in rows["scrub"][6]  # as at small scale
    assert all(row[8].startswith("small: ") for row in rows.values())
    assert "bounded by `retrain`" in METHODS["datamodel_matching"].notes
