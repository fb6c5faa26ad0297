"""The named benchmark sets: what they are, or the card of one.

    python experiments/benchmarks.py                               # all of them, a line each
    python experiments/benchmarks.py vision-natural-small          # counts, likeness, digest
    python experiments/benchmarks.py text-natural --dataset reuters_r52 --json

Builds what `experiments/study.py --benchmark NAME` trains on and counts it; nothing is trained. Cost: seconds for the
twins, which need no download; 1 minute for Fashion-MNIST and CIFAR-10 on 2 CPU cores. The card of a twin should say "as
recorded".
"""

import sys

from unlearn_jax.cli.benchmarks import main

if __name__ == "__main__":
    sys.exit(main())
