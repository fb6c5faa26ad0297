"""Similar samples of a data set: nearest neighbours, the clusters that they form, and a page with them.

    python experiments/neighbours.py                                              # digits, by pixels
    python experiments/neighbours.py --dataset cifar10 --threshold .95
    python experiments/neighbours.py --dataset reuters_r8 --embedding minhash
    python experiments/neighbours.py --dataset mine.npz --embedding-file rows.npy --ids targets.txt

Cost: seconds for digits and Reuters, 20 seconds on 2 CPU cores for all of CIFAR-10. There, 94 of 10,000 test images
should have a training neighbour at .98, and 310 at .95.
"""

import sys

from unlearn_jax.cli.neighbours import main

if __name__ == "__main__":
    sys.exit(main())
