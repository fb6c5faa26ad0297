"""Sweep a method's hyperparameters, as one population, and choose a setting without looking at the oracle.

    python experiments/sweep.py --method scrub --hp lr=log:1e-4:1e-1:16 alpha=.1,.5 --seeds 8
    python experiments/sweep.py --method scrub --hp lr=log:1e-4:1e-1 alpha=lin:.05:2 --draw sobol --draws 32 --halving 3
    python experiments/study.py --methods scrub --presets runs/sweep-scrub-digits-.../preset.json
    python experiments/sweep.py --method all --hp auto --draw sobol --draws 8       # one preset file for every method

Numeric hyperparameters are a leading axis of the population; those that fix shapes or code are a program each. Settings
are judged by retained and held-out accuracy, the margins of held-out examples and the request, and a population attack;
the oracle is looked at afterwards, to say what that choice costs. The options of data and targets are those of
experiments/study.py; the sweep runs at the largest number of copies.

Cost of the first command with `--copies 4 --skip-requests 1`: about a minute on 2 CPU cores (33 settings of 8 members,
as much as 32 networks trained from scratch). It should choose a rate near 1e-3, at a residual distance near .7 and a
regret near .5. A sweep of every method takes 10 to 20 minutes on digits, most of it to compile.
"""

import sys

from unlearn_jax.cli.sweep import main

if __name__ == "__main__":
    sys.exit(main())
