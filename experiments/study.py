"""The main job: measure what deleting a sample leaves behind when similar samples stay.

    python experiments/study.py                                    # digits, 0, 1, 4 and 8 near copies per target
    python experiments/study.py --dataset cifar10 --copies 4 --methods none --members 16

Cost of the default: about 2.5 minutes on 2 CPU cores (41 populations of 32 models, 17 of them from scratch). It should
reach residual(retrain) near .5, .8, .9 at 1, 4, 8 copies and noise around 0 at none.
"""

import sys

from unlearn_jax.cli.study import main

if __name__ == "__main__":
    sys.exit(main())
