"""What has to be settled before jaxlib is loaded, which reads it once; the package imports this before all else."""

from __future__ import annotations

import os
import sys

if any(word.partition("=")[0] == "--coordinator" for word in sys.argv):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else C++ prints before the sentence on a lost process
