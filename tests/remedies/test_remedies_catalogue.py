"""The table of remedies is the registry's."""

from pathlib import Path

from unlearn_jax.remedies import REMEDIES
from unlearn_jax.remedies.catalogue import data_of, methods_of, remedies_table, settings_of

PAGE = Path(__file__).parents[2] / "docs" / "remedies.md"


def test_the_page_holds_the_table():
    text = PAGE.read_text(encoding="utf-8")
    assert remedies_table() in text, "run: python -m unlearn_jax.remedies.catalogue, into docs/remedies.md"


def test_every_remedy_has_a_row_that_says_what_it_wraps():
    rows = [row for row in remedies_table().splitlines()[2:] if row.startswith("|")]
    assert [row.split("`")[1] for row in rows] == list(REMEDIES) and {row.count(" | ") for row in rows} == {5}
    assert methods_of(REMEDIES["cluster_sharding"]) == "`sisa`"
    assert methods_of(REMEDIES["weight"]).startswith("59 of 65; not where it changes nothing; ")
    assert data_of(REMEDIES["paraphrase"]).endswith("(no vectors)")
    assert settings_of(REMEDIES["weight"]) == "the search's, width 1"
