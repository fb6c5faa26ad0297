"""Study scripts in processes of their own that can be killed: a process that imports once and forks for each run."""

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
STUDY = TESTS.parent / "experiments" / "study.py"
SERVER = """
import json, os, runpy, sys, warnings
warnings.simplefilter("ignore")
sys.path[:0] = [os.path.dirname(sys.argv[1])]
import jax, pyarrow.parquet, scipy.stats, sklearn.datasets, tyro, unlearn_jax.studies.run
from unlearn_jax.population import resume
resume.SHORTEST = 0.0  # short runs in as many segments as long ones have
from orbax.checkpoint import v1
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(asked["folder"])
        errors = os.open("errors", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0), os.dup2(errors, 1), os.dup2(errors, 2)
        sys.argv = ["study.py", *asked["words"]]
        code = 70
        try:
            exec(asked["first"])
            runpy.run_path(asked["script"], run_name="__main__")
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(code)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Runs:
    """Runs the study script with these words in a folder; one run at a time."""

    def __init__(self, words, flags):
        self.words = words
        environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(TESTS.parent), "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", SERVER, str(STUDY)]
        pipe = subprocess.PIPE
        self.server = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def start(self, folder, *more, first=""):
        """Start the script in ``folder`` and return its process; ``first`` is run before it, in the same process."""
        folder.mkdir(exist_ok=True)
        words = [*self.words, *map(str, more)]
        asked = {"folder": str(folder), "words": words, "first": first, "script": str(STUDY)}
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def wait(self):
        """The exit code of the script; minus the signal that killed it."""
        return int(self.server.stdout.readline())

    def close(self):
        """End the server."""
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()
