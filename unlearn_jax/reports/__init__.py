"""Pages, figures and tables of runs: every number comes from the run folder, nothing is trained or measured here."""

from unlearn_jax.reports.drawings import kind_of_run
from unlearn_jax.reports.figures import main_figure
from unlearn_jax.reports.load import read_run
from unlearn_jax.reports.overview_load import read_sweeps
from unlearn_jax.reports.summary import read_summary
from unlearn_jax.reports.sweep_load import read_sweep
from unlearn_jax.reports.writing import (
    save_figure,
    table_text,
    write_audit_page,
    write_check_page,
    write_comparison,
    write_influence_page,
    write_neighbours_page,
    write_released_page,
    write_report,
    write_sweep_page,
    write_sweeps_page,
)

__all__ = [
    "kind_of_run",
    "main_figure",
    "read_run",
    "read_summary",
    "read_sweep",
    "read_sweeps",
    "save_figure",
    "table_text",
    "write_audit_page",
    "write_check_page",
    "write_comparison",
    "write_influence_page",
    "write_neighbours_page",
    "write_released_page",
    "write_report",
    "write_sweep_page",
    "write_sweeps_page",
]
