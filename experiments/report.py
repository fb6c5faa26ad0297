"""Draw the report of a run, one self-contained page; compare runs; tables and figures for papers.

    python experiments/report.py runs/NAME                                       # its page, runs/NAME/report.html
    python experiments/report.py runs/A runs/B --out compare.html                # side by side: what differs, one table
    python experiments/report.py runs/NAME --table latex --columns distance,cost # its table; or markdown, csv
    python experiments/report.py runs/NAME --figure frontier.pdf --width single  # a figure of 3.25 inches

Cost: seconds, no accelerator. Nothing is trained or measured here: every number comes from the run folder.
"""

import sys

from unlearn_jax.cli.report import main

if __name__ == "__main__":
    sys.exit(main())
