"""Draw the report of a run: one self-contained page, RUN/report.html.

    python experiments/report.py runs/NAME                    # writes runs/NAME/report.html
    python experiments/report.py runs/NAME --figure main.svg  # only the main figure, as SVG or PNG

Of an unfinished run the page shows the levels that are done, and says how far it is. Where the run was audited, the
page of the audit is drawn too, RUN/audit.html.

Cost: seconds, no accelerator. Nothing is trained or measured here: every number comes from the run folder.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from reporting.audit_load import read_audit
from reporting.audit_page import render_audit
from reporting.figures import main_figure
from reporting.influence_load import read_attribution
from reporting.influence_page import render_attribution
from reporting.load import Run, read_manifest, read_run, read_summary
from reporting.neighbours_load import read_search
from reporting.neighbours_page import render_search
from reporting.page import render
from reporting.style import settings
from reporting.sweep_load import read_sweep
from reporting.sweep_page import render_sweep
from reporting.unfinished import progress

from unlearn_jax.errors import InputError

__all__ = [
    "main_figure",
    "read_summary",
    "save_figure",
    "write_audit_page",
    "write_influence_page",
    "write_neighbours_page",
    "write_report",
    "write_sweep_page",
]


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the page of a run, of an unfinished one what is done, and return its path (``run/report.html`` by default).

    Raises `InputError` where the run is missing or damaged, none of its levels is done, or ``out`` cannot be written;
    an older page at ``out`` then stays as it was.
    """
    run = Path(run)
    loaded = read_run(run)
    if (run / "audit" / "audit.json").is_file():
        with contextlib.suppress(InputError):  # of a damaged audit; the page says so
            _write_audit(run / "audit")
    return _write_run(loaded, Path(out) if out else run / "report.html")


def write_audit_page(folder: Path, run: Path | None = None) -> Path:
    """Write the page of an audit beside its folder, as ``FOLDER.html``, and return its path.

    Where ``run`` is the study's run folder and has a report, that is drawn again, to link to this page.

    Raises `InputError` where the audit is missing, half-written or damaged, or the page cannot be written.
    """
    folder = Path(folder) if Path(folder).name else Path(folder).resolve()
    out = _write_audit(folder)
    if run is not None and (Path(run) / "report.html").is_file():
        _write_run(read_run(Path(run)), Path(run) / "report.html")
    return out


def write_influence_page(run: Path, out: Path | None = None) -> Path:
    """Write the page of an attribution study and return its path (``run/influence.html`` by default).

    Raises `InputError` where the run is missing, half-written or damaged, or ``out`` cannot be written.
    """
    page = render_attribution(read_attribution(Path(run)))
    return _replace(Path(out) if out else Path(run) / "influence.html", lambda file: file.write(page.encode("utf-8")))


def write_neighbours_page(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a search for similar samples and return its path (``folder/neighbours.html`` by default).

    Raises `InputError` where the search is missing, half-written or damaged, or ``out`` cannot be written.
    """
    page = render_search(read_search(Path(folder)))
    out = Path(out) if out else Path(folder) / "neighbours.html"
    return _replace(out, lambda file: file.write(page.encode("utf-8")))


def write_sweep_page(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a sweep and return its path (``folder/sweep.html`` by default).

    Raises `InputError` where the sweep is missing, unfinished or damaged, or ``out`` cannot be written.
    """
    page = render_sweep(read_sweep(Path(folder)))
    out = Path(out) if out else Path(folder) / "sweep.html"
    return _replace(out, lambda file: file.write(page.encode("utf-8")))


def _write_run(run: Run, out: Path) -> Path:
    """The page of a run alone."""
    page = render(run)
    return _replace(out, lambda file: file.write(page.encode("utf-8")))


def _write_audit(folder: Path) -> Path:
    """The page of an audit alone."""
    report = "report.html" if (folder.parent / "report.html").is_file() else ""
    page = render_audit(read_audit(folder), report)
    return _replace(folder.parent / f"{folder.name}.html", lambda file: file.write(page.encode("utf-8")))


def save_figure(run: Path, out: Path) -> Path:
    """Save the main figure alone on white, as SVG or PNG by the suffix of ``out``; raises `InputError`."""
    import matplotlib

    out = Path(out)
    kind = out.suffix.lower().lstrip(".")
    if kind not in ("svg", "png"):
        raise InputError(f"cannot save a figure as '{out.name}': end the name in .svg or .png.")
    summary = read_run(Path(run)).summary
    with matplotlib.rc_context(settings("path")):
        figure = main_figure(summary)
        metadata = {"Date": None} if kind == "svg" else None
        draw = lambda file: figure.savefig(file, format=kind, dpi=160, facecolor="white", metadata=metadata)
        return _replace(out, draw)


def _replace(out: Path, write: Callable) -> Path:
    """Write through a temporary file beside ``out``, so that nothing half-written is ever seen there."""
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}.", delete=False) as file:
            temporary = Path(file.name)
            write(file)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, out)
    except OSError as error:
        raise InputError(f"cannot write {out} ({error.strerror}): choose a writable place for it.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return out


def main(run: Path, /, out: Path | None = None, figure: Path | None = None) -> None:
    """Draw the report of a run.

    Args:
        run: folder that experiments/study.py wrote.
        out: where to write the page (RUN/report.html).
        figure: save only the main figure, in this .svg or .png file.
    """
    written = save_figure(run, figure) if figure else write_report(run, out)
    if how_far := progress(read_manifest(run)):
        print(how_far)
    print(written)


if __name__ == "__main__":
    import tyro
    from _cli import guarded

    sys.exit(guarded(lambda: tyro.cli(main, description=__doc__)))
