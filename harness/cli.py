"""The command ``bakeoff``. Each command imports what it needs when it runs, so that help and boards come at once.

Exit codes: 0 all entries complete; 1 at least one entry failed; 2 the command was wrong; 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.contract import Limits
    from leaderboard import Store
    from leaderboard.render import Boards

DEMO = {
    "digits": ("most-frequent", "random-forest", "svm", "cnn-torch", "cnn-keras"),
    "digit-rows": ("most-frequent", "random-forest", "svm", "lstm", "tcn-keras"),
    "sunspots": ("last-value", "seasonal-naive", "ridge", "svr", "forest-lags", "lstm"),
    "digit-spelling": ("most-frequent-sequence", "svm-speller", "forest-speller", "seq2seq"),
    "digit-images": ("noise", "pca-gaussian", "mixture", "gan", "vae-keras"),
}
"""Tasks whose data come with the libraries, so that no network is needed, and some baselines of every sort for each."""


def amount(text: str) -> int:
    """Bytes: 500M, 4G, or a plain number."""
    scale = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}.get(text[-1:].upper())
    try:
        return int(float(text[:-1]) * scale) if scale else int(text)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"should be bytes, such as 500M or 4G; it is {text!r}") from None


LIMITS: tuple[tuple[str, str, Callable[[str], float], str], ...] = (
    ("cpu", "SECONDS", float, "processor time over all its processes"),
    ("memory", "BYTES", amount, "memory over all its processes, such as 4G"),
    ("process", "N", int, "processes and threads"),
    ("output", "BYTES", amount, "what it may print"),
    ("disk", "BYTES", amount, "what it may write"),
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


def main(arguments: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a board has signs that not every terminal has
    parser = build_parser()
    options = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        if not getattr(options, "json", False):
            return command(options)
        # One document on standard output: what a task prints while it loads goes to standard error.
        with contextlib.redirect_stdout(sys.stderr):
            return command(options)
    except KeyboardInterrupt:
        print("\nstopped; what is done is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if options.debug:
            raise
        if not is_ours(error):
            print(
                f"bakeoff: this is a bug of Bakeoff's: {type(error).__name__}: {error}; --debug shows where",
                file=sys.stderr,
            )
            return 2
        print(f"bakeoff: {error}", file=sys.stderr)
        return 2


def is_ours(error: Exception) -> bool:
    """Whether an error is a user's mistake, said in one sentence. Looked up without importing what was never loaded."""
    known = [
        getattr(sys.modules.get(module), name, ())
        for module, name in (("harness.contract", "BakeoffError"), ("leaderboard.store", "StoreError"))
    ]
    return any(kind and isinstance(error, kind) for kind in known)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bakeoff", description="How does your model stand, honestly and fast, against solid baselines?"
    )
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], help_text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help_text, description=help_text)
        made.set_defaults(command=command)
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

    made = add("list", list_command, "what there is: tasks and submissions")
    made.add_argument("what", nargs="?", choices=("tasks", "submissions"))
    made.add_argument("--json", action="store_true", help="one JSON document on standard output")

    made = add("run", run_command, "search, fit and score submissions on tasks, and rank them")
    made.add_argument("tasks", nargs="+", metavar="TASK", help="a name from `bakeoff list`, path.py or path.py:OBJECT")
    made.add_argument(
        "-s", "--submission", action="append", default=[], metavar="NAME|PATH", help="default: every baseline that fits"
    )
    made.add_argument(
        "--trials", type=int, default=10, metavar="N", help="hyperparameter settings to try (default: 10)"
    )
    made.add_argument("--seeds", type=int, default=3, metavar="N", help="final fits to score (default: 3)")
    machine(made)

    made = add("tune", tune_command, "search only; goes on where it stopped")
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

    made = add("submit", submit_command, "grade a file of predictions")
    made.add_argument("task", metavar="TASK")
    made.add_argument(
        "predictions", type=Path, metavar="PREDICTIONS", help=".csv or .parquet with a column id, or .npy"
    )
    made.add_argument("--name", required=True, help="the entry's name on the board")
    home(made)
    made.add_argument("--json", action="store_true", help="one JSON document on standard output")

    made = add("data", data_command, "write a task's training data and test inputs as .npy files")
    made.add_argument("task", metavar="TASK")
    made.add_argument("--out", type=Path, required=True, metavar="DIR")

    made = add("leaderboard", leaderboard_command, "the boards: of one task, or of all that have results")
    made.add_argument("task", nargs="?", metavar="TASK")
    made.add_argument("--format", choices=FORMATS, default="table")
    made.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to standard output")
    home(made)

    made = add("show", show_command, "everything about one result")
    made.add_argument("result", metavar="RESULT", help="a result id, or how it begins")
    home(made)

    made = add("compare", compare_command, "whether two entries of a task differ")
    for name in ("task", "a", "b"):
        made.add_argument(name, metavar=name.upper())
    home(made)
    made.add_argument("--json", action="store_true", help="one JSON document on standard output")

    made = add(
        "overall", overall_command, "many tasks at once: mean ranks, Elo ratings and wins of what stands on all of them"
    )
    made.add_argument(
        "tasks", nargs="*", metavar="TASK", help="default: all that have results, a ranking for each kind"
    )
    home(made)
    made.add_argument("--json", action="store_true", help="one JSON document on standard output")

    made = add("replay", replay_command, "fit a recorded result again, from its kept source, and compare the scores")
    made.add_argument("result", metavar="RESULT")
    made.add_argument("--task", metavar="PATH", help="the file of a task that was given by its path")
    home(made)

    made = add("competition", competition_command, "rules, a deadline, a public board, and a private one in the end")
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

    made = add("check", check_command, "the contract suite on somebody's plug-in")
    made.add_argument("path", metavar="PATH", help="path.py, path.py:Object or a name")

    made = add("new", new_command, "a plug-in to start from")
    made.add_argument("what", choices=("task", "submission"))
    made.add_argument("name", metavar="NAME")
    made.add_argument("--framework", choices=("sklearn", "keras", "torch"), default="sklearn")

    made = add("doctor", doctor_command, "what works here and what does not")
    made.add_argument("--json", action="store_true", help="one JSON document on standard output")

    made = add("demo", demo_command, "five boards of baselines on embedded data, and a page to look at")
    made.add_argument("--trials", type=int, default=2, metavar="N")
    made.add_argument("--out", type=Path, default=Path("leaderboard.html"), metavar="FILE")
    home(made)
    return parser


# Commands -------------------------------------------------------------------------------------------------------------------


def run_command(options: argparse.Namespace) -> int:
    from harness.evaluate import run
    from harness.terminal import Terminal

    rows = run(
        options.tasks,
        options.submission,
        trials=options.trials,
        seeds=options.seeds,
        time_limit=options.time_limit,
        workers=options.workers,
        devices=options.devices,
        isolation_tier=options.isolation,
        limits=limits(options),
        cluster=options.cluster,
        home=options.home,
        store=options.store,
        progress=Terminal(),
    )
    return print_rows(rows, options)


def limits(options: argparse.Namespace) -> Limits:
    from harness.contract import Limits

    return Limits(
        options.cpu_limit, options.memory_limit, options.process_limit, options.output_limit, options.disk_limit
    )


def print_rows(rows: list[dict[str, Any]], options: argparse.Namespace) -> int:
    """The rows of a run as JSON, or for people the whole boards that they now stand on."""
    if options.json:
        print_json({"rows": rows})
    else:
        from leaderboard import render

        tasks = list(dict.fromkeys(row["task"] for row in rows if row["result_id"]))
        if tasks:
            print(render.table(read_boards(options, tasks, [row["result_id"] for row in rows])))
    return 0 if all(row["status"] == "complete" for row in rows) else 1


def tune_command(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from harness.contract import BakeoffError
    from harness.execution.trial import TrialFailed
    from harness.terminal import Terminal
    from harness.tuning import tune

    try:
        found = tune(
            options.task,
            options.submission,
            trials=options.trials,
            timeout=options.timeout,
            time_limit=options.time_limit,
            workers=options.workers,
            devices=options.devices,
            isolation_tier=options.isolation,
            limits=limits(options),
            cluster=options.cluster,
            warm_start=options.warm_start,
            seed=options.seed,
            halving=not options.no_halving,
            export=options.export,
            home=options.home,
            store=options.store,
            progress=Terminal(),
        )
    except TrialFailed as error:
        raise BakeoffError(f"no trial succeeded: {error}") from error
    if options.json:
        print_json(asdict(found))
    elif found.n_trials == 0:
        print("this submission has nothing to tune")
    else:
        print(
            f"best validation score {found.valid:.6g} in {found.n_trials} trials ({found.n_pruned} pruned, {found.n_failed} failed)"
        )
        for name, value in found.params.items():
            share = f"importance {found.importance[name]:.0%}" if name in found.importance else ""
            print(f"  {f'{name} = {value}':<44} {share}".rstrip())
        steps = sorted({1, 5, 10, 20, 50, 100, 200, 500, 1000, found.n_trials})
        known = [(k, found.history[k - 1]) for k in steps if k <= found.n_trials and found.history[k - 1] is not None]
        print("  best after " + ", ".join(f"{k} trials {best:.6g}" for k, best in known))
    return 0


def submit_command(options: argparse.Namespace) -> int:
    from harness.predictions import submit

    rows = submit(options.task, options.predictions, options.name, home=options.home, store=options.store)
    return print_rows(rows, options)


def data_command(options: argparse.Namespace) -> int:
    from harness.predictions import export

    for path in export(options.task, options.out):
        print(path)
    print(
        f"answer test_x in the form of sample_predictions.npy, then: bakeoff submit {options.task} FILE --name NAME",
        file=sys.stderr,
    )
    return 0


def open_store(options: argparse.Namespace) -> Store:
    """The store that a command reads. Raises StoreError where there is none."""
    from leaderboard import Store

    return Store(options.home, url=options.store, create=False)


def read_boards(options: argparse.Namespace, wanted: Sequence[str] = (), asked: Sequence[str] = ()) -> Boards:
    """The boards of these tasks, or of all that have results; the results ``asked`` for stand on them."""
    from leaderboard import StoreError, rank

    store = open_store(options)
    try:
        boards = {name: rank(store.standing(name, asked), asked) for name in wanted or store.tasks()}
        missing = [task for task, rows in boards.items() if not rows]
        if missing:
            known = f"; it has {', '.join(tasks)}" if (tasks := store.tasks()) else ""
            raise StoreError(f"there are no results for {missing[0]} in {store.name}{known}")
        if not boards:
            raise StoreError(f"there are no results in {store.name} yet; `bakeoff run TASK` makes some")
        return boards
    finally:
        store.close()


def task_name(reference: str) -> str:
    """A task's name, also where the task is given by its path."""
    if reference.endswith(".py") or ".py:" in reference:
        from harness import plugins

        return plugins.find_task(reference).name
    return reference


def leaderboard_command(options: argparse.Namespace) -> int:
    from leaderboard import render

    boards = read_boards(options, [task_name(options.task)] if options.task else ())
    if options.format == "parquet":
        content = render.parquet(boards)
    elif options.format == "html":
        content = render.html(boards, options.home / "artefacts").encode()
    else:
        write = {"table": render.table, "json": render.json_text, "csv": render.csv_text, "markdown": render.markdown}[
            options.format
        ]
        content = write(boards).rstrip("\n").encode() + b"\n"
    if options.out:
        write_file(options.out, content)
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    return 0


def write_file(path: Path, content: bytes) -> None:
    from leaderboard import StoreError

    try:
        path.write_bytes(content)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error


def show_command(options: argparse.Namespace) -> int:
    store = open_store(options)
    try:
        row = store.find(options.result).row()
    finally:
        store.close()
    for name, value in row.items():
        if name != "summary":
            print(f"{name:>18}  {value}")
    if row["summary"]:
        print(f"\n{row['summary']}")
    print(f"\nkept in {options.home / 'artefacts' / row['result_id']}")
    return 0


def compare_command(options: argparse.Namespace) -> int:
    from leaderboard.compare import compare

    store = open_store(options)
    try:
        task = task_name(options.task)
        found = compare(store.standing(task), task, options.a, options.b)
    finally:
        store.close()
    if options.json:
        print_json(found.record())
    else:
        print(found.text)
    return 0


def overall_command(options: argparse.Namespace) -> int:
    from leaderboard import StoreError
    from leaderboard.overall import by_kind, text

    store = open_store(options)
    try:
        boards = {task: store.standing(task) for task in map(task_name, options.tasks or store.tasks())}
    finally:
        store.close()
    missing = [task for task, results in boards.items() if not results]
    found = by_kind(boards)
    if missing or not found:
        raise StoreError(
            f"there are no results for {missing[0]} in {store.name}"
            if missing
            else "an overall ranking is of entries that stand on at least two tasks of a kind; name tasks that have some in common"
        )
    if options.json:
        print_json({kind: one.record() for kind, one in found.items()})
    else:
        print("\n\n".join(text(kind, one) for kind, one in found.items()))
    return 0


def competition_command(options: argparse.Namespace) -> int:
    from harness import competing

    act: Callable[[argparse.Namespace], int] = getattr(competing, options.action)
    return act(options)


def replay_command(options: argparse.Namespace) -> int:
    from harness.replay import replay
    from harness.terminal import Terminal

    again = replay(options.result, task=options.task, home=options.home, store=options.store, progress=Terminal())
    print(again)
    return 0 if again.same else 1


def list_command(options: argparse.Namespace) -> int:
    from harness import plugins

    listed: dict[str, list[dict[str, Any]]] = {}
    if options.what in (None, "tasks"):
        listed["tasks"] = [
            {
                "name": name,
                "kind": source.task.kind.name,
                "metric": source.task.metric,
                "help": source.task.description,
                "path": str(source.path),
            }
            for name, source in sorted(plugins.tasks().items())
        ]
    if options.what in (None, "submissions"):
        listed["submissions"] = [
            {"name": name, "kinds": list(source.kinds), "help": source.help, "path": str(source.path)}
            for name, source in sorted(plugins.submissions().items())
        ]
    if options.json:
        print_json(listed if options.what is None else listed[options.what])
        return 0
    for what, plugs in listed.items():
        print(f"{what}:")
        width = max((len(plug["name"]) for plug in plugs), default=0)
        for plug in plugs:
            kinds = plug.get("kind") or ", ".join(plug["kinds"])
            print(f"  {plug['name']:<{width}}  {kinds:<24}  {plug['help']}".rstrip())
    return 0


def check_command(options: argparse.Namespace) -> int:
    from harness.check import check

    findings = check(options.path)
    for finding in findings:
        print(finding)
    return 0 if all(finding.passed for finding in findings) else 1


def new_command(options: argparse.Namespace) -> int:
    from harness.scaffold import create

    path = create(options.what, options.name, options.framework)
    print(f"wrote {path}; next: bakeoff check {path}")
    return 0


def doctor_command(options: argparse.Namespace) -> int:
    from harness.doctor import examine

    answers = examine()
    if options.json:
        print_json({name: {"works": works, "says": says} for name, works, says in answers})
    else:
        for name, works, says in answers:
            print(f"{'✓' if works else '–'} {name:<22} {says}")
    return 0


def demo_command(options: argparse.Namespace) -> int:
    from harness.evaluate import run
    from harness.terminal import Terminal
    from leaderboard import render

    given: dict[str, Any] = {"home": options.home, "store": options.store, "progress": Terminal()}
    rows = [row for task, names in DEMO.items() for row in run(task, names, trials=options.trials, **given)]
    boards = read_boards(options, tuple(DEMO))
    print("\n" + render.table(boards))
    write_file(options.out, render.html(boards, options.home / "artefacts").encode())
    print(f"\n{options.out} shows these boards with their intervals and pictures; open it in a browser")
    return 0 if all(row["status"] == "complete" for row in rows) else 1


def print_json(document: object) -> None:
    import json

    print(json.dumps(document, indent=2, allow_nan=False), file=sys.__stdout__)


if __name__ == "__main__":
    sys.exit(main())
