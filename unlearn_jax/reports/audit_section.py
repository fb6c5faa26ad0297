"""What the report of a study says of its audit."""

from __future__ import annotations

from html import escape
from pathlib import Path

from unlearn_jax.errors import InputError
from unlearn_jax.reports import audit_words as words
from unlearn_jax.reports.audit_load import read_audit
from unlearn_jax.reports.sections import section


def audit_section(run: Path) -> str:
    """A link to the page of the audit and its summary; '' where the run has none."""
    if not ((run / "audit" / "audit.json").is_file() and (run / "audit.html").is_file()):
        return ""
    try:
        lines = words.summary(read_audit(run / "audit"))
    except InputError as error:
        return section("audits", "Audits", f'<p class="note">{escape(str(error))}</p>')
    told = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return section("audits", "Audits", f'{told}<p><a href="audit.html">All figures of the audit</a></p>')
