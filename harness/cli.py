"""Entry point of ``bakeoff``. Each command imports its modules only when it runs, so that help texts and boards appear at once.

Exit codes: 0 success; 1 a failed entry, a failed check or a replay with other scores; 2 a command that could not be carried out;
130 interrupted.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.commands.parser import build_parser

if TYPE_CHECKING:
    import argparse

    from leaderboard import Store
    from leaderboard.tables.render import Boards

DEMO = {
    "digits": ("most-frequent", "random-forest", "svm", "cnn-torch", "cnn-keras"),
    "digit-rows": ("most-frequent", "random-forest", "svm", "lstm", "tcn-keras"),
    "sunspots": ("last-value", "seasonal-naive", "ridge", "svr", "forest-lags", "lstm"),
    "digit-spelling": ("most-frequent-sequence", "svm-speller", "forest-speller", "seq2seq"),
    "digit-images": ("noise", "pca-gaussian", "mixture", "gan", "vae-keras"),
}
"""Baselines that `bakeoff demo` runs, by task. The data of these tasks come with installed libraries: the demo needs no network."""


def main(arguments: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a board has signs that not every terminal has
    if list(sys.argv[1:] if arguments is None else arguments) == ["--version"]:
        print(f"bakeoff {__version__}")  # before the parser is built, which takes half of the time
        return 0
    parser = build_parser()
    options = parser.parse_args(arguments)
    from leaderboard.text import VisibleStream  # after the parser: help needs none of the packages

    # Names and errors of strangers are printed, and may hold a terminal's control sequences.
    with contextlib.redirect_stdout(VisibleStream(sys.stdout)), contextlib.redirect_stderr(VisibleStream(sys.stderr)):
        return run_and_explain(options)


def run_and_explain(options: argparse.Namespace) -> int:
    """Run the command of these options and return its exit code. An error that a user can mend is one line."""
    if getattr(options, "store", None):
        from harness.commands.command_line import hide_password

        hide_password(options.store)
    command = COMMANDS[options.command]
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
        if not is_user_error(error):
            print(
                f"bakeoff: this is a bug of Bakeoff's: {type(error).__name__}: {error}; --debug shows where",
                file=sys.stderr,
            )
            return 2
        print(f"bakeoff: {error}", file=sys.stderr)
        return 2


def is_user_error(error: Exception) -> bool:
    """Tell whether an error is a `BakeoffError` or `StoreError`: its message is one sentence for the user. Imports no module."""
    known = [
        getattr(sys.modules.get(module), name, ())
        for module, name in (("harness.errors", "BakeoffError"), ("leaderboard.store.store", "StoreError"))
    ]
    return any(kind and isinstance(error, kind) for kind in known)


# Commands -------------------------------------------------------------------------------------------------------------------


def run_command(options: argparse.Namespace) -> int:
    from harness.commands.options import RunOptions
    from harness.commands.run import run_with
    from harness.commands.terminal import Terminal

    site = None if options.no_site else options.site or options.home / "site"
    rows = run_with(
        options.tasks,
        options.submission,
        RunOptions.from_arguments(options),
        trials=options.trials,
        seeds=options.seeds,
        site=site,
        progress=Terminal(),
    )
    code = print_rows(rows, options)
    if site and not options.json:
        print(f"\n{site / 'index.html'} shows these boards and all that is in them; open it in a browser")
    return code


def print_rows(rows: list[dict[str, Any]], options: argparse.Namespace) -> int:
    """Print the rows of evaluated entries as JSON (``--json``), or else the whole boards of their tasks.

    Return the exit code: 0 if all rows are complete, else 1.
    """
    if options.json:
        print_json({"rows": rows})
    else:
        from leaderboard.tables import render

        tasks = list(dict.fromkeys(row["task"] for row in rows if row["result_id"]))
        if tasks:
            print(render.table(read_boards(options, tasks, [row["result_id"] for row in rows])))
    return 0 if all(row["status"] == "complete" for row in rows) else 1


def tune_command(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from harness.commands.options import RunOptions
    from harness.commands.terminal import Terminal
    from harness.commands.tune import tune_with
    from harness.errors import BakeoffError, TrialFailed

    try:
        found = tune_with(
            options.task,
            options.submission,
            RunOptions.from_arguments(options),
            trials=options.trials,
            timeout=options.timeout,
            warm_start=options.warm_start,
            seed=options.seed,
            halving=not options.no_halving,
            export=options.export,
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
    from harness.commands.submit import submit

    rows = submit(options.task, options.predictions, options.name, home=options.home, store=options.store)
    return print_rows(rows, options)


def data_command(options: argparse.Namespace) -> int:
    from harness.commands.submit import export

    for path in export(options.task, options.out):
        print(path)
    print(
        f"answer test_x in the form of sample_predictions.npy, then: bakeoff submit {options.task} FILE --name NAME",
        file=sys.stderr,
    )
    return 0


def open_store(options: argparse.Namespace) -> Store:
    """Open the existing store that ``--home`` and ``--store`` name, and return it. Raises StoreError if there is none."""
    from leaderboard import Store

    return Store(options.home, url=options.store, create=False)


def read_boards(options: argparse.Namespace, wanted: Sequence[str] = (), asked: Sequence[str] = ()) -> Boards:
    """Return the boards (rows by task) of the ``wanted`` tasks, or of all tasks with results.

    Results with ids in ``asked`` count as the newest of their submissions, so that a board shows them. Raises StoreError if a
    wanted task, or the store, has no results.
    """
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
    """Return the name of the task that a reference names.

    A path (``path.py`` or ``path.py:OBJECT``) is imported; any other reference is the name itself.
    """
    if reference.endswith(".py") or ".py:" in reference:
        from harness.plugins import registry

        return registry.find_task(reference).name
    return reference


def leaderboard_command(options: argparse.Namespace) -> int:
    from leaderboard.tables import render
    from leaderboard.text import visible

    boards = read_boards(options, [task_name(options.task)] if options.task else ())
    if options.format == "parquet":
        content = render.parquet(boards)
    elif options.format == "html":
        from leaderboard.site import html

        content = html(boards, options.home / "artefacts").encode(errors="backslashreplace")
    else:
        write = {"table": render.table, "json": render.json_text, "csv": render.csv_text, "markdown": render.markdown}[
            options.format
        ]
        content = visible(write(boards).rstrip("\n")).encode() + b"\n"
    if options.out:
        write_file(options.out, content)
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    return 0


def site_command(options: argparse.Namespace) -> int:
    from leaderboard import Store
    from leaderboard.errors import not_written
    from leaderboard.site import Site

    with contextlib.closing(Store(options.home, url=options.store, create=False)) as store:
        try:
            Site(store, options.out, sources=not options.no_sources).build()
        except OSError as error:
            raise not_written(str(options.out), error.strerror) from error
    print(f"{options.out / 'index.html'} shows all boards; open it in a browser")
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
    from leaderboard.statistics.compare import compare

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
    from leaderboard.statistics.overall import by_kind, format_overall

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
        print("\n\n".join(format_overall(kind, one) for kind, one in found.items()))
    return 0


def competition_command(options: argparse.Namespace) -> int:
    from harness.commands import competition

    act: Callable[[argparse.Namespace], int] = getattr(competition, options.action)
    return act(options)


def replay_command(options: argparse.Namespace) -> int:
    from harness.commands.replay import replay
    from harness.commands.terminal import Terminal

    again = replay(options.result, task=options.task, home=options.home, store=options.store, progress=Terminal())
    print(again)
    return 0 if again.same else 1


def list_command(options: argparse.Namespace) -> int:
    from harness.plugins import registry

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
            for name, source in sorted(registry.tasks().items())
        ]
    if options.what in (None, "submissions"):
        listed["submissions"] = [
            {"name": name, "kinds": list(source.kinds), "help": source.help, "path": str(source.path)}
            for name, source in sorted(registry.submissions().items())
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
    from harness.commands.check import check

    findings = check(options.path)
    for finding in findings:
        print(finding)
    return 0 if all(finding.passed for finding in findings) else 1


def new_command(options: argparse.Namespace) -> int:
    from harness.commands.new import create

    path = create(options.what, options.name, options.framework)
    print(f"wrote {path}; next: bakeoff check {path}")
    return 0


def doctor_command(options: argparse.Namespace) -> int:
    from harness.commands.doctor import examine

    answers = examine()
    if options.json:
        print_json({name: {"works": works, "says": says} for name, works, says in answers})
    else:
        for name, works, says in answers:
            print(f"{'✓' if works else '–'} {name:<22} {says}")
    return 0


def demo_command(options: argparse.Namespace) -> int:
    from harness.commands.run import run
    from harness.commands.terminal import Terminal
    from leaderboard.tables import render

    given: dict[str, Any] = {"home": options.home, "store": options.store, "site": options.out, "progress": Terminal()}
    print(f"{options.out / 'index.html'} follows this run; open it in a browser", file=sys.stderr)
    rows = [row for task, names in DEMO.items() for row in run(task, names, trials=options.trials, **given)]
    print("\n" + render.table(read_boards(options, tuple(DEMO))))
    print(f"\n{options.out / 'index.html'} shows these boards with all that is in them; open it in a browser")
    return 0 if all(row["status"] == "complete" for row in rows) else 1


def print_json(document: object) -> None:
    import json

    print(json.dumps(document, indent=2, allow_nan=False), file=sys.__stdout__)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": run_command,
    "tune": tune_command,
    "submit": submit_command,
    "data": data_command,
    "leaderboard": leaderboard_command,
    "site": site_command,
    "show": show_command,
    "compare": compare_command,
    "overall": overall_command,
    "competition": competition_command,
    "replay": replay_command,
    "list": list_command,
    "check": check_command,
    "new": new_command,
    "doctor": doctor_command,
    "demo": demo_command,
}


if __name__ == "__main__":
    sys.exit(main())
