"""The outputs and figures that pages print, from runs that are stored beside them.

    python docs/printed.py run [look final ...]   # run a page's commands, store what they printed and found
    python docs/printed.py write                  # write what is stored into the pages
    python docs/printed.py check                  # say where a page and what is stored differ

A page's commands are those of its blocks that begin with ``$``; `EXTRA` has more, whose figures stand in sentences
and tables. A run is called by its script and its ``--out`` folder, or the folder that it reads.
``docs/figures/NAME.json`` holds it: command, versions, device, seconds, the lines printed, the rows of its table. A
block shows lines of it, ``...`` where some are left out. Figures in sentences and tables are listed in
``docs/figures/said.json``: a page, and the words with a key of a row in braces (`Figures.of`).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
STORED = ROOT / "docs" / "figures"
PAGES = ("docs/tutorial.md", "docs/sweeps.md")  # whose blocks are run; in this order
EXTRA = (  # other runs, whose figures pages have
    "python experiments/study.py --out runs/default",
    "unlearn-jax study --requests 4 --members 64 --out runs/main",
    "python experiments/study.py --methods all --members 16 --out runs/axis",
    "python experiments/study.py --methods all --requests 4 --members 32 --copies 4 --out runs/catalogue",
    "python experiments/study.py --copies 4 --similarity near --requests 4 --members 32"
    " --methods do_nothing,brief_retrain,retrain --remedies expand --hp expand.similarity=auto,aligned --out runs/near",
    "python experiments/study.py --copies 4 --similarity far --requests 4 --members 32"
    " --methods do_nothing,brief_retrain,retrain --remedies expand --hp expand.similarity=auto,aligned --out runs/far",
    "python experiments/study.py --dataset facts --copies 4 --methods none --out runs/facts",
    "python experiments/study.py --benchmark facts-paraphrase-small --copies 4"
    " --methods do_nothing,retrain,brief_retrain --remedies expand --out runs/paraphrase",
)
KEYS = ("copies", "method", "remedy", "setting", "reference", "split", "metric")
KEPT = ("value", "ci_low", "ci_high")
METRICS = (  # what pages speak of
    *("residual_influence", "residual_distance", "residual_difference", "distance_difference", "distance_rank"),
    *("null_band", "influence_span", "price_accuracy", "accuracy", "cost_share"),
    *("grad_evals_forget", "grad_evals_retain", "found_precision", "found_recall"),
)
TABLES = {"study": "summary.csv", "audit": "audit/audit.csv"}
WALKED = "walk-first_hour"
PICTURE, PICTURED = "docs/images/tutorial_figure.svg", "study-final"  # the tutorial's figure, and the run it is of
NUMBER = r"-?(?:\d[\d,]*\.?\d*|\.\d+)"
FIGURE = re.compile(rf"{NUMBER}%?(?: \[{NUMBER}, {NUMBER}\])?")
BLOCK = re.compile(r"^```\n(\$ .*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> dict[str, list[str]]:
    """Each command that a page's blocks show, and the lines printed below it."""
    found = {}
    for match in BLOCK.finditer(page):
        lines = re.sub(r" *\\\n\s*", " ", match[1]).splitlines()
        found[lines[0].removeprefix("$ ")] = lines[1:]
    return found


def name_of(command: str) -> str:
    """What a command's run is called: its script and the folder that it writes or reads, ``study-look``."""
    words = shlex.split(command)
    script = words[1] if words[0] in ("python", "unlearn-jax") else words[0]
    place = words.index("--out") + 1 if "--out" in words else 2
    return f"{Path(script).stem}-{Path(words[place]).stem}"


def commands() -> dict[str, str]:
    """Every command that is run, by its name, in order."""
    texts = [(ROOT / page).read_text(encoding="utf-8") for page in PAGES]
    return {name_of(command): command for command in (*(one for text in texts for one in blocks(text)), *EXTRA)}


def chains() -> list[list[str]]:
    """Runs that read one another's folder, together and in order."""
    found: dict[str, list[str]] = {}
    for name in commands():
        found.setdefault(name.partition("-")[2], []).append(name)
    return list(found.values())


def run(command: str, folder: Path) -> dict:
    """Run a command in a folder; what it printed, and the rows of its table if it writes one."""
    name, words, env = name_of(command), shlex.split(command), os.environ | {"PYTHONPATH": str(ROOT)}
    if name == WALKED:  # as a newcomer does: in a fresh clone, with nothing installed
        folder = folder / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        env.pop("PYTHONPATH")
        words[0] = sys.executable
    elif words[0] == "python":
        words = [sys.executable, str(ROOT / words[1]), *words[2:]]
    else:
        words = [sys.executable, "-m", "unlearn_jax.cli", *words[1:]]
    began = time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=env, text=True, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"'{command}' ended with {done.returncode}: {done.stderr[-2000:]}")
    seconds = time.perf_counter() - began
    printed = [line.rstrip().replace(f"{folder.resolve()}/", "") for line in done.stdout.splitlines()]
    script, _, run_folder = name.partition("-")
    if name == WALKED:
        steps = [re.fullmatch(r"(\d)\. .*?([\d.]+) s", line) for line in printed]
        rows = [[f"step {step[1]}", float(step[2]), None, None] for step in steps if step]
        rows += rows_of(folder / "runs" / "doubt" / TABLES["study"])
    else:
        table = folder / "runs" / run_folder / TABLES.get(script, "none")
        rows = rows_of(table, every=script == "audit") if table.is_file() else []
    return {"command": command, **made(), "seconds": round(seconds), "printed": printed, "rows": rows}


def made() -> dict:
    """With what a run was made."""
    from importlib.metadata import version

    import jax

    versions = {name: version(name) for name in ("jax", "flax", "numpy")}
    return {
        "versions": {"python": sys.version.split()[0], **versions},
        "device": f"{jax.devices()[0].platform}, {os.cpu_count()} cores",
    }


def rows_of(table: Path, every: bool = False) -> list[list]:
    """Rows over all requests, of `METRICS` or every one, as [key, value, low, high]; a key is the words of `KEYS`."""
    found = []
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            kept = row["metric"] in METRICS and (row["metric"] != "price_accuracy" or row["reference"] == "oracle")
            if (kept or every) and row.get("request", "all") == "all" and not row.get("variant"):
                key = " ".join(row[name] for name in KEYS if row.get(name))
                values = [float(row.get(name) or "nan") for name in KEPT]
                found.append([key, *(round(value, 6) if math.isfinite(value) else None for value in values)])
    return found


def stored(name: str) -> dict:
    """A run as it is stored."""
    return json.loads((STORED / f"{name}.json").read_text(encoding="utf-8"))


def said() -> list[dict]:
    """Sentences with figures: their page and words."""
    return json.loads((STORED / "said.json").read_text(encoding="utf-8"))


PLACES = {"ratio": 2, "ratio3": 3, "nats": 1, "percent": 0, "percent1": 1, "rank": 0}
PLACES |= {"points": 1, "points2": 2, "points100": 1}
PLACES |= {"table": 2, "table1": 1, "table3": 3}  # with a nought before the point


class Figures:
    """Figures of stored runs, each read once."""

    def __init__(self):
        self.runs: dict[str, dict] = {}

    def of(self, asked: str) -> str:
        """A figure with its interval, in the form of the pages.

        Args:
            asked: ``RUN FORM KEY``: a run's name, a form and a row's key (`rows_of`). Forms: ``ratio`` .82 [.73, .90];
                ``percent`` 82% [73, 90]; ``points`` 1.1 [.7, 1.5], ``points100`` the same of a share; ``nats``;
                ``rank``; ``table`` 0.82 [0.73, 0.90]; ``ratio3``, ``points2``, ``table1`` and so on with so many
                places. A ``-value`` behind it leaves the interval out, ``-range`` the value. ``RUN printed KEY`` is
                the figure of the printed line that begins with these words; ``RUN seconds`` how long the run took.
        """
        name, form, *words = asked.split(" ")
        key, (form, _, part) = " ".join(words), form.partition("-")
        if form == "seconds":
            return str(stored(name)["seconds"])
        if name not in self.runs:
            run = stored(name)
            self.runs[name] = {row[0]: row[1:] for row in run["rows"]} | {
                known_by(line): line for line in run["printed"]
            }
        if (found := self.runs[name].get(key)) is None:
            raise SystemExit(f"the run '{name}' has no row '{key}'; docs/figures/{name}.json lists them.")
        if form == "printed":
            value, low, high = re.findall(rf" ({NUMBER}) \[({NUMBER}), ({NUMBER})\]", found)[0]
            value, low, high = (re.sub(r"^(-?)0\.", r"\1.", number) for number in (value, low, high))
        else:
            value, low, high = (number if number is None else shown(number, form) for number in found)
        ends = "" if low is None or part == "value" else f"[{low}, {high}]"
        unit = "%" if form.startswith("percent") else ""
        return ends if part == "range" else f"{value}{unit} {ends}".rstrip()


def shown(number: float, form: str) -> str:
    """A number as pages print it; but in tables without a nought before the point."""
    text = f"{number * 100 if form.startswith('percent') or form == 'points100' else number:,.{PLACES[form]}f}"
    text = re.sub(r"^-(0\.?0*)$", r"\1", text)
    return text if form.startswith("table") else re.sub(r"^(-?)0\.", r"\1.", text)


def parts(words: str) -> list[str]:
    """Words and, at odd places, what stands in braces."""
    return re.split(r"\{([^}]*)\}", words)


def pattern(words: str) -> re.Pattern:
    """Finds a sentence with whatever figures, however its lines are broken."""
    text = [re.escape(part).replace(r"\ ", r"\s+") if i % 2 == 0 else FIGURE.pattern.replace(" ", r"\s+")
            for i, part in enumerate(parts(words))]  # fmt: skip
    return re.compile("".join(f"({one})" for one in text))


def search(one: dict, text: str) -> re.Match | None:
    """Finds what `said` lists, behind its words ``after`` if it has them."""
    return pattern(one["words"]).search(text, max(text.find(one.get("after", "")), 0))


def sentence(words: str, match: re.Match, figures: Figures) -> str:
    """The sentence that was found, with the figures as they are stored; line breaks stay where they were."""
    made = []
    for i, part in enumerate(parts(words)):
        old, new = match[i + 1], figures.of(part) if i % 2 else match[i + 1]
        made.append(old if i % 2 and " ".join(old.split()) == new else new)
    return "".join(made)


def wrong_lines(lines: list[str], printed: list[str]) -> list[str]:
    """Lines of a block that a run did not print, in this order."""
    at, wrong = 0, []
    for line in lines:
        if line.strip() in ("...", ""):
            continue
        if line.rstrip() in printed[at:]:
            at = printed.index(line.rstrip(), at) + 1
        else:
            wrong.append(line)
    return wrong


def known_by(line: str) -> str:
    """What tells a printed line from its neighbours: all before its first figure with interval, or its first word."""
    found = re.search(rf" {NUMBER} \[", line)
    return " ".join(line[: found.start()].split()) if found else (line.split() or [""])[0]


def renewed(lines: list[str], printed: list[str]) -> list[str]:
    """The lines of a block with what a run printed for the same populations, in this order."""
    at, new = 0, []
    for line in lines:
        same = [i for i in range(at, len(printed)) if known_by(printed[i]) == known_by(line) != ""]
        new.append(printed[same[0]] if same else line)
        at = same[0] + 1 if same else at
    return new


def picture(page: str) -> tuple[str, str]:
    """The code of the tutorial's figure, and a mark of the code and the rows that it draws."""
    code = next(code for code in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "plt" in code)
    rows = json.dumps(stored(PICTURED)["rows"])
    return code, f"<!-- {hashlib.sha256((code + rows).encode()).hexdigest()[:16]} -->\n"


def draw() -> None:
    """Run the tutorial's code on the stored rows, if its figure is of others."""
    code, mark = picture((ROOT / PAGES[0]).read_text(encoding="utf-8"))
    if (ROOT / PICTURE).is_file() and (ROOT / PICTURE).read_text(encoding="utf-8").endswith(mark):
        return
    with tempfile.TemporaryDirectory() as name:
        table = Path(name) / "runs" / PICTURED.partition("-")[2] / TABLES["study"]
        table.parent.mkdir(parents=True)
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("request", "copies", "method", "reference", "metric", *KEPT))
            for key, *values in stored(PICTURED)["rows"]:
                copies, method, *rest = key.split(" ")
                if rest[-3:-1] == ["oracle", "forget"]:
                    writer.writerow(("all", copies, method, "oracle", rest[-1], *values))
        begin = "import matplotlib\nmatplotlib.use('svg')\nmatplotlib.rcParams['svg.hashsalt'] = 'docs'\n"
        subprocess.run([sys.executable, "-c", begin + code.replace("figure.pdf", "figure.svg")], cwd=name, check=True)
        drawn = (Path(name) / "figure.svg").read_text(encoding="utf-8")
    drawn = re.sub(r" *<dc:date>.*?</dc:date>\n", "", drawn)
    (ROOT / PICTURE).write_text("\n".join(line.rstrip() for line in drawn.splitlines()) + "\n" + mark, encoding="utf-8")


def differences() -> list[str]:
    """Where pages and what is stored differ; empty = nowhere."""
    found = []
    for name, command in commands().items():
        if not (STORED / f"{name}.json").is_file():
            found.append(f"'{command}' has not been run: printed.py run {name}")
        elif stored(name)["command"] != command:
            found.append(f"{name} was made by another command: '{stored(name)['command']}'")
    if found:
        return found
    texts = {page: (ROOT / page).read_text(encoding="utf-8") for page in {*PAGES, *(one["page"] for one in said())}}
    for page in PAGES:
        for command, lines in blocks(texts[page]).items():
            wrong = wrong_lines(lines, stored(name_of(command))["printed"])
            found += [f"{page}: {name_of(command)} did not print '{line}'" for line in wrong]
    figures = Figures()
    for one in said():
        match = search(one, texts[one["page"]])
        if match is None:
            found.append(f"{one['page']}: the words are not there: {one['words']}")
        elif " ".join(match[0].split()) != (new := " ".join(sentence(one["words"], match, figures).split())):
            found.append(f"{one['page']}: '{' '.join(match[0].split())}' is '{new}'")
    if not (ROOT / PICTURE).read_text(encoding="utf-8").endswith(picture(texts[PAGES[0]])[1]):
        found.append(f"{PICTURE} is of other rows or other code: printed.py write")
    return found


def write() -> None:
    """Write what is stored into the pages, and draw the figure."""
    figures = Figures()
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for command, lines in blocks(text).items():
            if lines and (STORED / f"{name_of(command)}.json").is_file():
                new = renewed(lines, stored(name_of(command))["printed"])
                text = text.replace("\n".join(lines), "\n".join(new), 1)
        (ROOT / page).write_text(text, encoding="utf-8")
    for one in said():
        text = (ROOT / one["page"]).read_text(encoding="utf-8")
        if match := search(one, text):
            text = text[: match.start()] + sentence(one["words"], match, figures) + text[match.end() :]
            (ROOT / one["page"]).write_text(text, encoding="utf-8")
    draw()


def main() -> int:
    """Run, write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("run", "write", "check"))
    parser.add_argument("names", nargs="*", help="runs, as study-look; none = all")
    parser.add_argument("--folder", type=Path, default=Path("."), help="where runs/ is made")
    args = parser.parse_args()
    if args.do == "run":
        known = commands()
        for name in args.names or known:
            if name not in known:
                print(f"error: no page has a run '{name}': {', '.join(known)}.", file=sys.stderr)
                return 2
            print(name, flush=True)
            record = run(known[name], args.folder)
            rows = record.pop("rows")
            text = json.dumps(record, indent=1)[:-2] + ',\n "rows": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]}\n"
            STORED.mkdir(exist_ok=True)
            (STORED / f"{name}.json").write_text(text, encoding="utf-8")
    elif args.do == "write":
        write()
    for line in (found := differences() if args.do != "run" else []):
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
