"""A failing, hanging or lying entry costs one row with a clear status, and never the run."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from conftest import Command, hostile
from hypothesis import given
from hypothesis import strategies as st

import harness
from harness.dispatch import raise_if_crowded, run_parallel
from harness.errors import PluginError, TrialFailed
from harness.execution.parent import energy, isolation
from harness.execution.parent.energy import EnergyMeter
from harness.execution.parent.fit_data import SharedInputs
from harness.execution.parent.slots import GPU_CONTEXT_BYTES, Slots
from harness.execution.parent.workers import Worker, WorkerConfig
from harness.plugins import registry
from harness.plugins.bundle import bundle
from harness.plugins.registry import read_tasks

CASES = {
    # name: (fit, predict, status, words of the error)
    "raises": ("raise ValueError('no such luck')", "", "failed", "could not fit: ValueError: no such luck"),
    "exits": ("sys.exit(0)", "", "failed", "SystemExit"),
    "vanishes": ("os._exit(0)", "", "failed", "ended before it answered"),
    "segfault": ("ctypes.string_at(0)", "", "failed", "SIGSEGV"),
    "hang": ("time.sleep(1000)", "", "timeout", "took more than 2 s"),
    "deaf": ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass", "", "timeout", "took more than 2 s"),
    "slow-answer": ("pass", "time.sleep(1000)", "timeout", "took more than 2 s"),
    "memory": ("raise MemoryError", "", "out-of-memory", "MemoryError"),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "", "out-of-memory", "memory"),
    "kills-its-server": ("os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(1000)", "", "failed", "process is gone"),
    "shape": ("pass", "return np.zeros((len(x), 7))", "invalid", "predict should return probabilities float32"),
    "short": ("pass", "return np.zeros(3, dtype=np.int64)", "invalid", "labels int64"),
    "dtype": ("pass", "return np.array(['cat'] * len(x))", "invalid", "predict should return"),
    "objects": ("pass", "return np.array([object()] * len(x))", "invalid", "predict should return"),
    "nothing": ("pass", "return None", "invalid", "predict should return"),
    "nan": ("pass", "return np.full((len(x), 3), np.nan, dtype=np.float32)", "invalid", "not finite"),
    "infinite": ("pass", "return np.full((len(x), 3), np.inf, dtype=np.float32)", "invalid", "not finite"),
    "class": ("pass", "return np.full(len(x), 3)", "invalid", "should lie in 0..2"),
    "logits": ("pass", "return np.full((len(x), 3), 5.0, dtype=np.float32)", "invalid", "sum to 1"),
}


LONG = ("slow-answer", "deaf")
"""Cases that wait for a limit; the quick tests have "hang" for these."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.long if name in LONG else ()) for name in CASES])
def test_a_bad_entry_is_one_row(name: str, tiny: Path) -> None:
    fit, predict, status, words = CASES[name]
    bad = hostile(tiny, "bad", fit, predict or "return np.zeros(len(x), dtype=np.int64)")
    rows = harness.run(
        str(tiny / "tiny.py"),
        [str(bad), str(tiny / "nearest.py")],
        trials=2,
        seeds=2,
        time_limit=2,
        home=tiny / "home",
        workers=2,
    )
    by_name = {row["submission"]: row for row in rows}
    assert by_name["bad"]["status"] == status
    assert words in by_name["bad"]["error"] and "\n" not in by_name["bad"]["error"]
    assert by_name["nearest"]["status"] == "complete" and by_name["nearest"]["score"] > 0.7
    assert [row["rank"] for row in rows] == [1, None]


def test_nothing_outlives_a_time_limit(tiny: Path) -> None:
    """A time limit ends the whole tree: children, and processes that left their process group and their parent."""
    orphan = """
subprocess.Popen(['sleep', '987'])
if os.fork() == 0:
    os.setsid()
    os.execvp('sleep', ['sleep', '987'])
time.sleep(1000)
"""
    bad = hostile(tiny, "bad", orphan)
    (row,) = harness.run(str(tiny / "tiny.py"), [str(bad)], seeds=1, time_limit=1, home=tiny / "home")
    assert row["status"] == "timeout"
    assert not [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", "987"]]


def test_a_flood_of_output_is_cut_and_harms_no_other_entry(tiny: Path) -> None:
    loud = hostile(tiny, "loud", "for _ in range(2000): print('x' * 10_000)")
    (row,) = harness.run(str(tiny / "tiny.py"), [str(loud)], seeds=1, home=tiny / "home")
    log = tiny / "home" / "artefacts" / row["result_id"] / "log.txt"
    assert row["status"] == "complete"
    assert 0 < log.stat().st_size <= 64 * 1024


def test_the_child_is_never_given_test_labels(tiny: Path) -> None:
    """While it fits, a fork holds only train and valid of the parent, and not the parent's environment."""
    os.environ["BAKEOFF_TEST_SECRET"] = "hidden"
    nosy = hostile(
        tiny,
        "nosy",
        "import gc\n"
        "sizes = {len(a) for a in gc.get_objects() if isinstance(a, np.ndarray)}\n"
        "assert 120 not in sizes and len(train) == 90 and len(valid) == 90, sizes\n"
        "assert 'BAKEOFF_TEST_SECRET' not in os.environ",
    )
    (row,) = harness.run(str(tiny / "tiny.py"), [str(nosy)], seeds=1, home=tiny / "home")
    assert row["error"] is None


def test_order_of_rows_tells_nothing(tiny: Path) -> None:
    """Labels in the order of the file score like chance, because test rows come in a new order each time."""
    (tiny / "sorted_tiny.py").write_text(
        (tiny / "tiny.py")
        .read_text()
        .replace("return stratified", "data = stratified")
        .replace(
            "\nTASK",
            "\n    import dataclasses\n    order = np.argsort(data.test.y)\n"
            "    return dataclasses.replace(data, test=type(data.test)(data.test.x[order], data.test.y[order]))\n\nTASK",
        )
    )
    cheat = hostile(tiny, "cheat", predict="return np.sort(np.arange(len(x)) % 3)")
    (row,) = harness.run(str(tiny / "sorted_tiny.py"), [str(cheat)], home=tiny / "home")
    assert row["score"] < 0.5


def test_a_trial_finds_nothing_of_the_one_before(tiny: Path) -> None:
    bad = hostile(
        tiny,
        "bad",
        "assert not os.path.exists('left')\nopen('left', 'w').close()\nassert not hasattr(np, 'left')\nnp.left = 1",
    )
    (row,) = harness.run(str(tiny / "tiny.py"), [str(bad)], seeds=3, home=tiny / "home")
    assert row["error"] is None


def test_arrays_are_private_to_a_trial(tiny: Path) -> None:
    """Writes to train change a private copy; the shared array cannot be written or resized."""
    source = registry.find_submission(
        str(hostile(tiny, "scribbler", "assert train.x.max() > 0\ntrain.x[:] = 0\nvalid.y[:] = 0"))
    )
    task = read_tasks(tiny / "tiny.py")[0].task
    loaded = task.load()
    data = SharedInputs.of(loaded.train, loaded.valid, task.kind)
    with Worker(bundle(source), WorkerConfig(isolation.choose("auto"))) as worker:
        worker.ready()
        for _ in range(2):
            with worker.trial({}, data, seed=0, device="cpu", time_limit=20) as trial:
                trial.fit()
    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(data.arrays["train.x"].fd, 10)
    with pytest.raises(OSError, match="not permitted"):
        os.pwrite(data.arrays["train.x"].fd, b"x", 0)
    data.close()


def test_predictions_are_those_of_the_same_model(tiny: Path) -> None:
    source = registry.find_submission(str(tiny / "nearest.py"))
    task = read_tasks(tiny / "tiny.py")[0].task
    loaded = task.load()
    data = SharedInputs.of(loaded.train, loaded.valid, task.kind)
    with Worker(bundle(source), WorkerConfig(isolation.choose("auto"))) as worker:
        description = worker.ready()
        assert description.kinds == ("image-classification",) and description.defaults == {"shrink": 0.0}
        with worker.trial({"shrink": 0.0}, data, seed=0, device="cpu", time_limit=20) as trial:
            trial.fit()
            first, _ = trial.predict(loaded.test.x, task.kind)
            again, _ = trial.predict(loaded.test.x[:5], task.kind)
        assert trial.usage.peak_memory > 1e6 and trial.usage.cpu_seconds > 0
    assert np.array_equal(first[:5], again)
    data.close()


@pytest.mark.parametrize(
    ("top", "words"),
    [
        ("raise RuntimeError('broken at the top')", "broken at the top"),
        ("import there_is_no_such_module", "there_is_no_such_module"),
        ("os._exit(3)", "exit code 3"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    ],
)
def test_a_file_that_cannot_be_imported_says_why(top: str, words: str, tiny: Path) -> None:
    source = registry.find_submission(str(hostile(tiny, "bad", top=top)))
    with (
        Worker(bundle(source), WorkerConfig(isolation.choose("auto"))) as worker,
        pytest.raises(PluginError, match=words),
    ):
        worker.ready()


def test_closing_a_worker_ends_its_trials(tiny: Path) -> None:
    source = registry.find_submission(str(hostile(tiny, "bad", "time.sleep(1000)")))
    task = read_tasks(tiny / "tiny.py")[0].task
    loaded = task.load()
    data = SharedInputs.of(loaded.train, loaded.valid, task.kind)
    worker = Worker(bundle(source), WorkerConfig(isolation.choose("auto")))
    worker.ready()
    trial = worker.trial({}, data, seed=0, device="cpu", time_limit=100)
    failures: list[TrialFailed] = []

    def fit() -> None:
        try:
            trial.fit()
        except TrialFailed as error:
            failures.append(error)

    fitting = threading.Thread(target=fit)
    fitting.start()
    while not trial.process:
        time.sleep(0.01)
    worker.close()
    fitting.join(20)
    trial.close()
    assert failures and not trial.process.is_running() and not psutil.pid_exists(worker.process.pid)
    data.close()


def frame(body: str) -> bytes:
    """Frame a message as the channel does."""
    return len(body.encode()).to_bytes(4, "big") + body.encode()


GARBAGE = [
    b"\x00\x00\x00\x02{}",
    b"\x00\x00\x00\x02[]",
    b"\x00\x00\x00\x04null",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x05hello",
    b"\x00\x00\x00\x02",
    b"\x00\x00\xc0\x00" + b"[" * 0xC000,
    frame('{"event": "report", "loss": ' + "9" * 400 + "}"),
    frame('{"event": "report", "loss": NaN}'),
    frame('{"event": "report", "loss": "low"}'),
    frame('{"event": "predicted", "form": "labels"}'),
    frame('{"event": "failed", "status": "complete", "error": "a\\nb\\ud800\\u001b[2J"}'),
    frame('{"event": "failed", "status": [1], "error": {"a": 1}}'),
    frame('{"event": "fitted"}')
    + frame('{"event": "described", "n_parameters": ' + "9" * 400 + ', "summary": 5, "snapshots": -1}'),
    frame('{"event": "fitted"}') + frame('{"event": "described", "snapshots": "many", "summary": "\\ud800"}'),
]


@pytest.mark.parametrize("place", range(len(GARBAGE)))
def test_garbage_on_the_channel_is_one_row(place: int, tiny: Path, bakeoff: Command) -> None:
    """A submission writes garbage into all its sockets and exits."""
    sockets = f"""
import stat
for fd in range(3, 64):
    try:
        if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, {GARBAGE[place]!r})
    except OSError: pass
time.sleep(0.2)
os._exit(0)
"""
    bad = hostile(tiny, "bad", sockets)
    (row,) = harness.run(str(tiny / "tiny.py"), [str(bad)], trials=1, seeds=1, time_limit=5, home=tiny / "home")
    assert row["status"] in ("failed", "invalid") and row["error"] and row["error"].isprintable()
    assert row["error"] in bakeoff("leaderboard", "--home", tiny / "home").stdout


def test_a_default_outside_its_space_is_said_before_anything_runs(tiny: Path) -> None:
    text = (tiny / "nearest.py").read_text()
    (tiny / "nearest.py").write_text(text.replace('defaults = {"shrink": 0.0}', 'defaults = {"shrink": "none"}'))
    (row,) = harness.run(str(tiny / "tiny.py"), [str(tiny / "nearest.py")], home=tiny / "home")
    assert (
        row["status"] == "failed" and "has the default shrink='none', which is not in FloatDistribution" in row["error"]
    )


SOCKETS = """
import stat
def sockets():
    for fd in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode): yield fd
        except OSError: pass
"""


def test_a_message_that_never_ends_is_a_timeout(tiny: Path) -> None:
    """Single bytes now and then do not extend the time limit."""
    drip = "fd = max(sockets())\nos.write(fd, bytes([0, 15, 0, 0]))\nwhile True:\n    os.write(fd, b' ')\n    time.sleep(0.5)"
    bad = hostile(tiny, "bad", drip, top=SOCKETS)
    started = time.monotonic()
    (row,) = harness.run(str(tiny / "tiny.py"), [str(bad)], seeds=1, time_limit=2, workers=1, home=tiny / "home")
    assert row["status"] in ("timeout", "failed") and time.monotonic() - started < 60


@pytest.mark.long
def test_descriptors_that_a_child_sends_up_are_not_kept(tiny: Path) -> None:
    send = """
import socket
for fd in sockets():
    try: socket.send_fds(socket.socket(fileno=os.dup(fd)), [b'x'], [0, 0, 0, 0])
    except OSError: pass
"""
    bad = hostile(tiny, "bad", send, top=SOCKETS, space="{'a': Float(0, 1)}")
    before = len(list(Path("/proc/self/fd").iterdir()))
    harness.run(str(tiny / "tiny.py"), [str(bad)], trials=3, seeds=1, time_limit=3, workers=1, home=tiny / "home")
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


def test_shared_memory_cannot_be_resized_by_a_child(tmp_path: Path) -> None:
    """Snapshots cannot be resized either: the parent maps them later, at the size that it set."""
    cut = """
for fd in range(3, 64):
    try: os.ftruncate(fd, 1)
    except OSError: pass
"""
    bad = hostile(tmp_path, "bad", cut, predict="return np.zeros((len(x), 8, 8, 1), dtype=np.uint8)")
    bad.write_text(bad.read_text().replace("image-classification", "image-generation"))
    (row,) = harness.run("digit-images", [str(bad)], seeds=1, home=tmp_path / "home")
    assert row["status"] == "complete"


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ("{'a': Float(0.1, float('inf'))}", "cannot be read"),
        ("{'a': (0, 1)}", "a is a tuple"),
        ("[1]", "space should be a dict"),
    ],
)
def test_an_invalid_space_is_one_row(space: str, words: str, tiny: Path) -> None:
    bad = hostile(tiny, "bad", space=space)
    (row,) = harness.run(str(tiny / "tiny.py"), [str(bad)], home=tiny / "home")
    assert row["status"] == "failed" and words in row["error"]


# Slots ----------------------------------------------------------------------------------------------------------------------

GIB = 1 << 30


@given(st.lists(st.sampled_from(["measured", "crowded"]), max_size=12), st.integers(1, 30), st.data())
def test_a_shared_gpu_is_never_promised_twice(events: list[str], size: int, data: st.DataObject) -> None:
    """All trials on a GPU fit into it at the largest size seen so far; an out-of-memory failure halves their number."""
    slots = Slots(["cuda:0"], 1, {"cuda:0": 40 * GIB}, max_per_device=4)
    for event in events:
        before = slots.allowed["cuda:0"]
        if event == "measured":
            slots.record_memory("cuda:0", data.draw(st.integers(1, size)) * GIB)
        else:
            assert slots.shrink("cuda:0") == (before > 1) and slots.allowed["cuda:0"] == max(before // 2, 1)
        for _ in range(slots.existing["cuda:0"]):  # all slots come back, and surplus ones are withdrawn
            if not slots.free.empty():
                slots.release(slots.acquire())
        held = slots.allowed["cuda:0"]
        assert 1 <= held <= 4 and slots.free.qsize() == slots.existing["cuda:0"] == held
        assert held == 1 or held * (slots.largest["cuda:0"] + GPU_CONTEXT_BYTES) <= 0.9 * 40 * GIB


@pytest.mark.parametrize("needs", [1, 2, 0])
def test_a_trial_out_of_gpu_memory_beside_others_runs_again(needs: int) -> None:
    """The trial runs again beside fewer others; once it is alone on the device, its failure is final."""
    slots = Slots(["cuda:0"], 1, {"cuda:0": 40 * GIB}, max_per_device=4)
    slots.record_memory("cuda:0", 2 * GIB)
    beside, failed = [], []

    def run(job: int, device: str) -> None:
        beside.append(slots.allowed[device])
        if slots.allowed[device] > needs:
            error = TrialFailed("out-of-memory", "no room")
            raise_if_crowded(error, device, slots)
            failed.append(error)

    bench = SimpleNamespace(slots=slots, progress=SimpleNamespace(note=lambda said: None))
    run_parallel([0], run, bench)  # type: ignore[arg-type]
    assert beside == ([4, 2] if needs == 2 else [4, 2, 1]) and bool(failed) == (needs == 0)


# The meter -------------------------------------------------------------------------------------------------------------------


def powercap(folder: Path, *packages: int, end: int = 999_999_999) -> Path:
    """Imitate the kernel's energy counters: processors with these microjoules, each with a core below it."""
    for place, used in enumerate(packages):
        for name in (f"intel-rapl:{place}", f"intel-rapl:{place}:0"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / "energy_uj").write_text(f"{used}\n")
            (folder / name / "max_energy_range_uj").write_text(f"{end}\n")
    return folder


def test_energy_is_counted_over_processors_and_their_counters_new_starts(tmp_path: Path) -> None:
    counter = EnergyMeter(powercap=powercap(tmp_path, 5_000_000, 999_000_000))
    assert counter.joules() == 0
    powercap(tmp_path, 7_500_000, 999_500_000)
    assert counter.joules() == 3
    powercap(tmp_path, 7_500_000, 500_000)
    assert counter.joules() == pytest.approx(4), "one has started anew, and its part below was not counted twice"


def test_energy_is_unknown_if_a_counter_may_have_wrapped_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = EnergyMeter(powercap=powercap(tmp_path, 5_000_000))
    monkeypatch.setattr(energy, "MAX_GAP_SECONDS", -1.0)
    assert counter.joules() is None


def test_without_a_meter_energy_is_unknown(tmp_path: Path) -> None:
    assert EnergyMeter(powercap=tmp_path).joules() is None
    (tmp_path / "intel-rapl:0").mkdir()
    assert EnergyMeter(powercap=tmp_path).joules() is None, "there, and not for everybody's eyes"


def test_a_row_reports_the_energy_of_a_fit(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows report energy on a machine with a meter; this one counts a joule at each reading."""
    folder = powercap(tiny / "powercap", 0)
    read = energy.read_number

    def counting(path: Path) -> int | None:
        found = read(path)
        if path.name == "energy_uj" and found is not None:
            path.write_text(str(found + 1_000_000))
        return found

    monkeypatch.setattr(energy, "read_number", counting)
    monkeypatch.setattr(energy, "POWERCAP", folder)
    given = {"trials": 0, "seeds": 2, "home": tiny / "home"}
    (row,) = harness.run(str(tiny / "tiny.py"), [str(tiny / "nearest.py")], **given)
    assert row["energy_joules"] == 0.5, "one joule for two seeds"
