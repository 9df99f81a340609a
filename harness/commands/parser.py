"""Commands of ``bakeoff``, their arguments and help texts."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import __version__


def parse_bytes(text: str) -> int:
    """Return the number of bytes in a text such as "500M", "4G" or "1000". Raises ArgumentTypeError for any other text."""
    scale = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}.get(text[-1:].upper())
    try:
        return int(float(text[:-1]) * scale) if scale else int(text)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"should be bytes, such as 500M or 4G; it is {text!r}") from None


LIMITS: tuple[tuple[str, str, Callable[[str], float], str], ...] = (
    ("cpu", "SECONDS", float, "processor time over all its processes"),
    ("memory", "BYTES", parse_bytes, "memory over all its processes, such as 4G"),
    ("process", "N", int, "processes and threads"),
    ("output", "BYTES", parse_bytes, "what it may print"),
    ("disk", "BYTES", parse_bytes, "what it may write"),
)
COMPETITION = {
    "start": ("make the rules known, and draw the public and the private samples", ""),
    "enter": ("a team's file of predictions", "predictions team"),
    "pick": ("the entries of a team that count in the end", "entries team"),
    "withdraw": ("take an entry back", "entry team reason"),
    "rescore": ("score an entry again, because labels or the metric were wrong", "entry predictions reason"),
    "amend": ("go on under changed rules", "reason"),
    "board": ("what everybody may see: the public board, or the final one once it is revealed", ""),
    "history": ("everything that has happened", ""),
    "reveal": ("after the close: open what is sealed, and print the final board", ""),
}
COMPETITION_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "predictions": ("predictions", {"type": Path, "help": ".csv or .parquet with a column id, or .npy"}),
    "team": ("--team", {"required": True, "metavar": "NAME"}),
    "entries": ("entries", {"type": int, "nargs": "+", "metavar": "ENTRY"}),
    "entry": ("entry", {"type": int, "metavar": "ENTRY"}),
    "reason": ("--reason", {"required": True, "metavar": "TEXT", "help": "for all to see"}),
}
FORMATS = ("table", "json", "csv", "markdown", "html", "parquet")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bakeoff", description="How does your model stand, honestly and fast, against solid baselines?"
    )
    parser.add_argument("--version", action="version", version=f"bakeoff {__version__}")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")

    def add(name: str, help_text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help_text, description=help_text)
        made.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        return made

    def home(made: argparse.ArgumentParser) -> None:
        made.add_argument(
            "--home",
            type=Path,
            default=Path(os.environ.get("BAKEOFF_HOME") or ".bakeoff"),
            metavar="DIR",
            help="where results are kept (default: $BAKEOFF_HOME or .bakeoff)",
        )
        made.add_argument(
            "--store",
            default=os.environ.get("BAKEOFF_STORE") or None,
            metavar="URL",
            help="keep scores on a PostgreSQL server: postgresql://USER@HOST/DATABASE (default: $BAKEOFF_STORE or in --home)",
        )

    def machine(made: argparse.ArgumentParser) -> None:
        made.add_argument(
            "--time-limit", type=float, metavar="SECONDS", help="for one fit with its predictions (default: the task's)"
        )
        made.add_argument("--workers", type=int, metavar="N", help="trials at once (default: one a core, or one a GPU)")
        made.add_argument(
            "--devices", default="auto", metavar="LIST", help="auto, cpu, or cuda:0,cuda:1,... (default: auto)"
        )
        made.add_argument(
            "--cluster",
            metavar="ADDRESS",
            help="run the trials on a Ray cluster: HOST:PORT, or auto on one of its machines",
        )
        made.add_argument(
            "--isolation",
            default="auto",
            choices=("auto", "sandbox", "sandbox-a", "sandbox-b", "process"),
            help="how submissions are shut in (default: auto, the best that `bakeoff doctor` finds)",
        )
        for name, metavar, kind, text in LIMITS:
            made.add_argument(
                f"--{name}-limit", type=kind, metavar=metavar, help=f"{text}, for one fit (default: the task's)"
            )
        home(made)
        made.add_argument("--json", action="store_true", help="one JSON document on standard output")

    made = add("list", "what there is: tasks and submissions")
    made.add_argument("what", nargs="?", choices=("tasks", "submissions"))
    made.add_argument("--json", action="store_true", help="one JSON document on standard output")

    made = add("run", "search, fit and score submissions on tasks, and rank them")
    made.add_argument("tasks", nargs="+", metavar="TASK", help="a name from `bakeoff list`, path.py or path.py:OBJECT")
    made.add_argument(
        "-s", "--submission", action="append", default=[], metavar="NAME|PATH", help="default: every baseline that fits"
    )
    made.add_argument(
        "--trials", type=int, default=10, metavar="N", help="hyperparameter settings to try (default: 10)"
    )
    made.add_argument("--seeds", type=int, default=3, metavar="N", help="final fits to score (default: 3)")
    made.add_argument(
        "--site", type=Path, metavar="DIR", help="the folder of pages that follow the run (default: site in --home)"
    )
    made.add_argument("--no-site", action="store_true", help="write no pages")
    machine(made)

    made = add("tune", "search only; goes on where it stopped")
    made.add_argument("task", metavar="TASK")
    made.add_argument("submission", metavar="SUBMISSION")
    made.add_argument("--trials", type=int, default=50, metavar="N", help="settings to try in all (default: 50)")
    made.add_argument("--timeout", type=float, metavar="SECONDS", help="start no trial after this long")
    made.add_argument(
        "--warm-start", metavar="TASK", help="try first what did best in this submission's search on another task"
    )
    made.add_argument("--seed", type=int, default=0, metavar="N", help="the sampler's; another one is another search")
    made.add_argument("--no-halving", action="store_true", help="end no trial early")
    made.add_argument(
        "--export", metavar="FILE|URL", help="write the trials to an Optuna storage as well, for optuna-dashboard"
    )
    machine(made)

    made = add("submit", "grade a file of predictions")
    made.add_argument("task", metavar="TASK")
    made.add_argument(
        "predictions", type=Path, metavar="PREDICTIONS", help=".csv or .parquet with a column id, or .npy"
    )
    made.add_argument("--name", required=True, help="the entry's name on the board")
    home(made)
    made.add_argument("--json", action="store_true", help="one JSON document on standard output")

    made = add("data", "write a task's training data and test inputs as .npy files")
    made.add_argument("task", metavar="TASK")
    made.add_argument("--out", type=Path, required=True, metavar="DIR")

    made = add("leaderboard", "the boards: of one task, or of all that have results")
    made.add_argument("task", nargs="?", metavar="TASK")
    made.add_argument("--format", choices=FORMATS, default="table")
    made.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to standard output")
    home(made)

    made = add("site", "the boards as a folder of pages, for a browser or any web server")
    made.add_argument("--out", type=Path, required=True, metavar="DIR")
    made.add_argument("--no-sources", action="store_true", help="show nobody's code, nor what it printed")
    home(made)

    made = add("show", "everything about one result")
    made.add_argument("result", metavar="RESULT", help="a result id, or how it begins")
    home(made)

    made = add("compare", "whether two entries of a task differ")
    for name in ("task", "a", "b"):
        made.add_argument(name, metavar=name.upper())
    home(made)
    made.add_argument("--json", action="store_true", help="one JSON document on standard output")

    made = add("overall", "many tasks at once: mean ranks, Elo ratings and wins of what stands on all of them")
    made.add_argument(
        "tasks", nargs="*", metavar="TASK", help="default: all that have results, a ranking for each kind"
    )
    home(made)
    made.add_argument("--json", action="store_true", help="one JSON document on standard output")

    made = add("replay", "fit a recorded result again, from its kept source, and compare the scores")
    made.add_argument("result", metavar="RESULT")
    made.add_argument("--task", metavar="PATH", help="the file of a task that was given by its path")
    home(made)

    made = add("competition", "rules, a deadline, a public board, and a private one in the end")
    acts = made.add_subparsers(title="what to do", required=True, metavar="ACTION", dest="action")
    for name, (text, more) in COMPETITION.items():
        act = acts.add_parser(name, help=text, description=text)
        act.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        act.add_argument("rules", type=Path, metavar="RULES", help="the competition's TOML file")
        for option in more.split():
            name, given = COMPETITION_OPTIONS[option]
            act.add_argument(name, **given)
        home(act)
        act.add_argument("--json", action="store_true", help="one JSON document on standard output")

    made = add("check", "the contract suite on somebody's plug-in")
    made.add_argument("path", metavar="PATH", help="path.py, path.py:Object or a name")

    made = add("new", "a plug-in to start from")
    made.add_argument("what", choices=("task", "submission"))
    made.add_argument("name", metavar="NAME")
    made.add_argument("--framework", choices=("sklearn", "keras", "torch"), default="sklearn")

    made = add("doctor", "what works here and what does not")
    made.add_argument("--json", action="store_true", help="one JSON document on standard output")

    made = add("demo", "five boards of baselines on embedded data, and a page to look at")
    made.add_argument("--trials", type=int, default=2, metavar="N")
    made.add_argument("--out", type=Path, default=Path("site"), metavar="DIR")
    home(made)
    return parser
