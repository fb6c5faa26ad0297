"""What tests of pages share."""

import pytest
from markupsafe import Markup


@pytest.fixture
def unsaved(monkeypatch):
    """Figures are drawn but not written out as SVG, which is most of a page's time: for tests of words and tables."""
    monkeypatch.setattr("unlearn_jax.reports.render.inline_svg", lambda *given: Markup("<svg></svg>"))
