"""Run the blocks of a page in order, as a reader would, and say how many seconds each took.

    python docs/walk.py docs/first_hour.md [--folder FOLDER]

`bash` blocks run in one shell in FOLDER (the present one by default); a `python` block is written to the file that its
first line names.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def blocks(page: str) -> list[tuple[str, str, str]]:
    """(heading, language, content) of every bash and python block."""
    found, heading = [], ""
    for match in re.finditer(r"^#+ ([^\n]*)$|^```(bash|python)\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        if match[1] is not None:
            heading = match[1]
        else:
            found.append((heading, match[2], match[3]))
    return found


def script(page: str, times: Path) -> str:
    """All bash blocks as one script, which stops at the first error and writes `heading<TAB>seconds` to ``times``."""
    lines = ["set -e"]
    for heading, language, content in blocks(page):
        if language == "bash":
            lines += [
                "began=$(date +%s.%N)",
                content,
                f'printf "%s\\t%s\\t%s\\n" "{heading}" "$began" "$(date +%s.%N)" >> "{times}"',
            ]
    return "\n".join(lines)


def main() -> int:
    """Write the files, run the blocks, print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("."))
    args = parser.parse_args()
    page = args.page.read_text(encoding="utf-8")
    for _, language, content in blocks(page):
        if language == "python":
            name = re.match(r"# (\S+\.py)\n", content)
            if name is None:
                print(
                    "error: a python block of the page has no file name in its first line: begin it with '# NAME.py'.",
                    file=sys.stderr,
                )
                return 2
            (args.folder / name[1]).write_text(content, encoding="utf-8")
    with tempfile.TemporaryDirectory() as aside:
        times = Path(aside) / "times"
        ended = subprocess.run(["bash", "-c", script(page, times)], cwd=args.folder, check=False)
        for line in times.read_text(encoding="utf-8").splitlines() if times.exists() else []:
            heading, began, until = line.split("\t")
            print(f"{heading:<32}{float(until) - float(began):>8.1f} s")
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
