"""Put a preset file to the test: methods with its settings beside their defaults, on targets that it was not made on.

    python experiments/check_presets.py --presets vision-natural-small --benchmark vision-natural-small --copies 2
    python experiments/check_presets.py --presets runs/sweep-scrub-digits-.../preset.json --copies 4

Cost: both settings of a method are one program, as dear as a study of these methods with twice the members; most of it
compiles. With the defaults' own settings in the file every difference should be exactly 0.
"""

import sys

from unlearn_jax.cli.check_presets import main

if __name__ == "__main__":
    sys.exit(main())
