"""Influence as gradients predict it against what removal really does, one example or a whole cluster at a time.

    python experiments/influence.py                                   # digits: softmax regression, and an MLP
    python experiments/influence.py --dataset reuters_r8 --tracks network --model mlp

Cost of the default: about 2 minutes on 2 CPU cores. It should show influence functions right about single examples of
the regression, their sum wrong about clusters, and a Newton step with the cluster's own curvature right about both.
"""

import sys

from unlearn_jax.cli.influence import main

if __name__ == "__main__":
    sys.exit(main())
