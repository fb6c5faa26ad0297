"""Make one stock image set (mnist, fashion_mnist, cifar10, cifar100) readable without TensorFlow.

    python experiments/prepare_data.py fashion_mnist --source FOLDER      # from the original files
    python experiments/prepare_data.py cifar10 --source cifar-10-binary.tar.gz --data-dir data
    python experiments/study.py --dataset fashion_mnist                   # and train on it

Cost: 15 s on one CPU core and 150 MB of disk for CIFAR-10 (the decoded cache of the first load adds 180 MB). It should
reach 60000 + 10000 examples (mnist, fashion_mnist) or 50000 + 10000 (cifar10, cifar100); a second run says that the
data are there.
"""

import sys

from unlearn_jax.cli.prepare_data import main

if __name__ == "__main__":
    sys.exit(main())
