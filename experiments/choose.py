"""Choose every method's settings on tuning targets without looking at the oracle.

    python experiments/study.py --copies 4 --requests 4 --skip-requests 4 --methods scrub --hp scrub.alpha=.1,2 --out A
    python experiments/choose.py A                    # writes A/chosen.json, prints the study to run

Cost: none; it reads summary.csv and manifest.json of the runs.
"""

import sys

from unlearn_jax.cli.choose import main

if __name__ == "__main__":
    sys.exit(main())
