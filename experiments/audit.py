"""Audit populations of unlearned models: the whole battery of metrics, with intervals and null bands.

    python experiments/audit.py runs/NAME            # of a finished study: writes NAME/audit and NAME/audit.html
    python experiments/audit.py --logits original=a.npz retrain=b.npz unlearned=c.npz     # of your own models

Cost: 2 minutes for the default study on 2 CPU cores. It should show retraining outside the null band of every metric
against the oracle, and a population of the oracle's kind inside most of them.
"""

import sys

from unlearn_jax.cli.audit import main

if __name__ == "__main__":
    sys.exit(main())
