"""Files of predictions: all formats get the same score; a wrong or hostile file is refused in one line, without other effects."""

import io
import json
import os
import pickle
import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import ImageClassification, InvalidPrediction, Split, UsageError
from harness.commands.submit import export, read, submit
from harness.errors import TrialFailed
from harness.plugins.registry import find_task
from harness.scoring import Scorer
from leaderboard import Store

TASK = find_task("digits").task
assert isinstance(TASK.kind, ImageClassification)
DATA = TASK.load()
N, CLASSES = len(DATA.test), TASK.kind.classes
FORMS = TASK.kind.output_specs(DATA.test.x)
IDS = np.arange(N)

rng = np.random.default_rng(0)
PROBABILITIES = rng.dirichlet(np.ones(CLASSES), N)
PROBABILITIES[IDS, np.where(rng.random(N) < 0.8, DATA.test.labels, 0)] += 2
PROBABILITIES = (PROBABILITIES / PROBABILITIES.sum(axis=1, keepdims=True)).astype(np.float32)
LABELS = PROBABILITIES.argmax(axis=1)

LABEL_FRAME = pd.DataFrame({"id": IDS, "label": LABELS})
PROBABILITY_FRAME = pd.DataFrame(PROBABILITIES, columns=[f"p{label}" for label in range(CLASSES)]).assign(id=IDS)


def saved(path, content):
    """Write bytes, text, an array or a frame in the format of the path's suffix."""
    if isinstance(content, pd.DataFrame):
        content.to_csv(path, index=False) if path.suffix == ".csv" else content.to_parquet(path, index=False)
    elif isinstance(content, np.ndarray):
        np.save(path, content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def graded(answer):
    """Verify an answer and return its accuracy."""
    TASK.kind.verify(answer, DATA.test.x)
    return TASK.kind.measure(answer, DATA.test, DATA.train)["accuracy"].of(IDS)


def recorded(home):
    store = Store(home)
    try:
        return store.results()
    finally:
        store.close()


# Good files ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("frame", [LABEL_FRAME, PROBABILITY_FRAME], ids=["labels", "probabilities"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_are_matched_by_id_in_any_row_order(tmp_path, ending, frame, shuffled):
    rows = frame.sample(frac=1, random_state=1) if shuffled else frame
    answer = read(saved(tmp_path / f"answer.{ending}", rows), FORMS)
    np.testing.assert_allclose(answer, LABELS if frame is LABEL_FRAME else PROBABILITIES, rtol=1e-6)
    assert graded(answer) == (DATA.test.labels == LABELS).mean()


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "float32", "float64"])
def test_arrays_are_taken_in_every_width_of_their_dtype(tmp_path, dtype):
    array = (PROBABILITIES if dtype.startswith("float") else LABELS).astype(dtype)
    answer = read(saved(tmp_path / "answer.npy", array), FORMS)
    np.testing.assert_array_equal(answer, array)
    assert answer.dtype in ("float32", "int64")


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_rows_and_columns_is_the_same_answer(tmp_path, random):
    rows, columns = list(IDS), list(LABEL_FRAME.columns)
    random.shuffle(rows)
    random.shuffle(columns)
    answer = read(saved(tmp_path / "answer.csv", LABEL_FRAME.iloc[rows][columns]), FORMS)
    np.testing.assert_array_equal(answer, LABELS)


def test_all_formats_get_the_same_row_on_the_board(tmp_path):
    contents = {
        "labels.csv": LABEL_FRAME,
        "shuffled.csv": LABEL_FRAME.sample(frac=1, random_state=2),
        "probabilities.csv": PROBABILITY_FRAME,
        "probabilities.parquet": PROBABILITY_FRAME,
        "labels.npy": LABELS,
        "probabilities.npy": PROBABILITIES,
    }
    for file, content in contents.items():
        submit("digits", saved(tmp_path / file, content), file.replace(".", "-"), home=tmp_path / "home")
    results = [result for result, _ in recorded(tmp_path / "home")]
    assert len(results) == len(contents)
    compared = {(one.score, one.public_score, one.private_score, one.ci_low, one.ci_high) for one in results}
    assert len(compared) == 1
    assert results[0].score == (DATA.test.labels == LABELS).mean()
    assert results[0].ci_low < results[0].score < results[0].ci_high
    again = submit("digits", tmp_path / "labels.npy", "labels-npy", home=tmp_path / "home")
    assert [row["submission"] for row in again] == ["labels-npy"]
    assert len(recorded(tmp_path / "home")) == len(contents)


def test_the_command_grades_what_the_exported_sample_asks_for(bakeoff, tmp_path):
    """The export writes only data that a competitor may see; the sample has the expected format."""
    bakeoff("data", "digits", "--out", "given")
    given_files = {path.stem: np.load(path) for path in (tmp_path / "given").iterdir()}
    assert set(given_files) == {"train_x", "train_y", "valid_x", "valid_y", "test_x", "sample_predictions"}
    np.testing.assert_array_equal(given_files["test_x"], DATA.test.x)
    assert not given_files["sample_predictions"].any()
    saved(tmp_path / "mine.npy", LABELS.astype(given_files["sample_predictions"].dtype))
    done = bakeoff("submit", "digits", "mine.npy", "--name", "by-hand", "--json")
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["submission"], row["status"], row["rank"]) == ("by-hand", "complete", 1)
    assert row["score"] == (DATA.test.labels == LABELS).mean()


# Wrong files -----------------------------------------------------------------------------------------------------------------


def npy_header(text, length=None):
    body = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length or len(body)) + body


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("pickle-was-run",)


def edited(column, row, value):
    frame = LABEL_FRAME.astype({column: object})
    frame.loc[row, column] = value
    return frame


MANY = pd.DataFrame({"id": np.zeros(2_000_000, np.int64), "label": np.zeros(2_000_000, np.int64)})
WRONG = {
    "missing ids": ("csv", LABEL_FRAME.drop([3, 5]), "ids missing: 3, 5"),
    "many missing ids": ("parquet", LABEL_FRAME[:100], "434 more"),
    "a doubled id": ("csv", pd.concat([LABEL_FRAME, LABEL_FRAME[7:8]]), "ids given twice: 7"),
    "ids of another task": (
        "csv",
        LABEL_FRAME.assign(id=IDS + 2),
        f"ids not of this task, whose ids are 0 to {N - 1}: {N}, {N + 1}",
    ),
    "a negative id": ("csv", edited("id", 0, -1), "not of this task"),
    "a missing id": ("csv", edited("id", 0, ""), "whole numbers"),
    "ids as text": ("parquet", LABEL_FRAME.astype({"id": str}), "'id' should hold numbers"),
    "ids as fractions": ("csv", LABEL_FRAME.assign(id=IDS + 0.5), "whole numbers"),
    "no id column": ("csv", LABEL_FRAME.rename(columns={"id": "row"}), "column called id; it has row, label"),
    "two id columns": ("csv", "id,id,label\n" + "".join(f"{row},{row},1\n" for row in IDS), "1 (labels)"),
    "a text column": ("csv", LABEL_FRAME.assign(label="cat"), "column 'label' should hold numbers"),
    "one word": ("csv", edited("label", 9, "cat"), "column 'label' should hold numbers"),
    "lists": ("parquet", LABEL_FRAME.assign(label=[[1]] * N), "column 'label' should hold numbers"),
    "an empty cell": ("csv", edited("label", 9, ""), "1 empty or NaN values"),
    "NaN probabilities": ("parquet", PROBABILITY_FRAME.assign(p3=np.nan), f"{N} empty or NaN values"),
    "infinity": ("csv", PROBABILITY_FRAME.assign(p3=np.inf), "not finite"),
    "labels out of range": ("csv", edited("label", 9, CLASSES), "0..9"),
    "labels beyond int64": ("csv", edited("label", 9, 1e300), "0..9"),
    "fractions of labels": ("csv", LABEL_FRAME.assign(label=LABELS + 0.5), "whole numbers"),
    "logits": ("csv", PROBABILITY_FRAME.assign(p3=5.0), "should sum to 1"),
    "too few columns": (
        "csv",
        PROBABILITY_FRAME.drop(columns="p9"),
        "10 (probabilities) or 1 (labels) columns beside id; it has 9",
    ),
    "ids alone": ("csv", LABEL_FRAME[["id"]], "it has 0"),
    "more rows than ids": ("parquet", MANY, "2,000,000 rows"),
    "an empty table": ("csv", b"", "cannot be read as csv"),
    "a header alone": ("csv", "id,label\n", "has no rows; it should have one for each of the"),
    "binary as csv": ("csv", bytes(range(256)), "cannot be read as csv"),
    "text as parquet": ("parquet", "id,label\n", "cannot be read as parquet"),
    "an array too short": ("npy", LABELS[1:], f"it holds int64 ({N - 1},)"),
    "an array of another rank": ("npy", LABELS[:, None], f"it holds int64 ({N}, 1)"),
    "labels as floats": ("npy", LABELS.astype(np.float64), f"it holds float64 ({N},)"),
    "probabilities as integers": ("npy", np.eye(10, dtype=np.int64)[LABELS], "it holds int64"),
    "strings": ("npy", LABELS.astype(str), "it holds <U"),
    "complex numbers": ("npy", LABELS.astype(complex), "it holds complex128"),
    "a NaN": ("npy", np.full((N, CLASSES), np.nan, np.float32), "not finite"),
    "beyond float32": ("npy", np.full((N, CLASSES), 1e300), "not finite"),
    "a label too high": ("npy", np.full(N, 2**63, np.uint64), "0..9"),
    "a pickled array": ("npy", np.array([Bomb()] * N, dtype=object), "cannot be read as npy"),
    "a bare pickle": ("npy", pickle.dumps(Bomb()), "cannot be read as npy"),
    "a truncated array": ("npy", npy(LABELS)[:-1], "cannot be read as npy"),
    "a huge shape": (
        "npy",
        npy_header("{'descr': '<i8', 'fortran_order': False, 'shape': (4611686018427387904,)}"),
        "cannot be read",
    ),
    "a negative shape": (
        "npy",
        npy_header("{'descr': '<i8', 'fortran_order': False, 'shape': (-1,)}"),
        "cannot be read as npy",
    ),
    "a huge header": ("npy", npy_header("{'descr': '<i8', 'shape': (1,)", length=65535), "cannot be read as npy"),
    "an oversized file": ("npy", np.zeros(3_000_000), "need at most"),
    "an empty array file": ("npy", b"", "cannot be read as npy"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_refused_in_one_line_and_nothing_is_recorded(tmp_path, monkeypatch, capfd, what):
    ending, content, says = WRONG[what]
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / f"answer.{ending}", content)
    with pytest.raises(UsageError) as refused:
        submit("digits", path, "mine", home=tmp_path / "home")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)
    assert recorded(tmp_path / "home") == []
    assert not (tmp_path / "pickle-was-run").exists()
    assert capfd.readouterr().err == ""  # libraries print no warnings either


@pytest.mark.parametrize("name", ["", "Mine", "two words", "under_score", " x", "two\nlines"])
def test_a_name_that_would_not_read_well_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="lower case with hyphens"):
        submit("digits", saved(tmp_path / "answer.npy", LABELS), name, home=tmp_path / "home")


def no_file(folder):
    return folder / "none.csv"


def a_directory(folder):
    (folder / "answer.csv").mkdir()
    return folder / "answer.csv"


def a_fifo(folder):
    os.mkfifo(folder / "answer.csv")
    return folder / "answer.csv"


def a_link_to_nothing(folder):
    (folder / "answer.npy").symlink_to(folder / "nowhere.npy")
    return folder / "answer.npy"


def a_link_to_a_device(folder):
    (folder / "answer.csv").symlink_to("/dev/zero")
    return folder / "answer.csv"


def another_ending(folder):
    return saved(folder / "answer.pkl", b"anything")


@pytest.mark.parametrize("make", [no_file, a_directory, a_fifo, a_link_to_nothing, a_link_to_a_device, another_ending])
def test_anything_but_a_plain_file_is_refused_unopened(tmp_path, make):
    with pytest.raises(UsageError) as refused:
        submit("digits", make(tmp_path), "mine", home=tmp_path / "home")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("make", [a_fifo, lambda folder: saved(folder / "answer.csv", LABEL_FRAME[:3])])
def test_the_command_ends_with_2_and_one_line(bakeoff, tmp_path, make):
    done = bakeoff("submit", "digits", make(tmp_path), "--name", "mine", code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("bakeoff: ")
    assert done.stderr.count("\n") == 1


def test_a_next_token_task_takes_no_files(tmp_path):
    task = tmp_path / "proverbs.py"
    task.write_text("from harness import NextToken, Task\nfrom harness.commands.check import proverb\n")
    task.write_text(task.read_text() + 'TASK = Task("proverbs", NextToken(vocabulary=28), proverb, "nats")\n')
    with pytest.raises(UsageError, match="submit a plug-in"):
        submit(str(task), saved(tmp_path / "answer.npy", LABELS), "mine", home=tmp_path / "home")


def test_answers_whose_errors_overflow_are_refused():
    task = find_task("sunspots").task
    data = task.load()
    with pytest.raises(TrialFailed, match="ordinary size"):
        Scorer(task, data, "").test(np.full(data.test.labels.shape, 1e25, np.float32))


@pytest.mark.parametrize("task", ["sunspots", "tiny-shakespeare"])
def test_tasks_that_ask_twice_take_no_files(tmp_path, task):
    path = saved(tmp_path / "answer.npy", np.zeros(3))
    with pytest.raises(UsageError, match="by asking again with changed inputs"):
        submit(task, path, "mine", home=tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_export_into_a_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be written"):
        export("digits", saved(tmp_path / "taken", "text"))


# Hostile bytes ---------------------------------------------------------------------------------------------------------------

FEW = Split(DATA.test.x[:4], DATA.test.labels[:4])
FEW_FORMS = TASK.kind.output_specs(FEW.x)


def buffered(frame, write):
    out = io.BytesIO()
    getattr(frame, write)(out, index=False)
    return out.getvalue()


SEEDS = {
    "csv": [buffered(LABEL_FRAME[:4], "to_csv"), buffered(PROBABILITY_FRAME[:4], "to_csv")],
    "parquet": [buffered(LABEL_FRAME[:4], "to_parquet"), buffered(PROBABILITY_FRAME[:4], "to_parquet")],
    "npy": [npy(LABELS[:4]), npy(PROBABILITIES[:4])],
}


def survives(path, content):
    """Check that reading these bytes ends in a refusal or in a finite score."""
    path.write_bytes(content)
    try:
        answer = read(path, FEW_FORMS)
        TASK.kind.verify(answer, FEW.x)
    except (UsageError, InvalidPrediction) as error:
        assert "\n" not in str(error)
        return
    assert (answer.shape, answer.dtype) in [(form.shape, form.dtype) for form in FEW_FORMS]
    for measure in TASK.kind.measure(answer, FEW, DATA.train).values():
        assert np.isfinite(measure.of(np.arange(4)))


hostile = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@pytest.mark.parametrize("ending", SEEDS)
@given(content=st.binary(max_size=300))
@hostile
def test_any_bytes_are_refused(tmp_path, ending, content):
    survives(tmp_path / f"answer.{ending}", content)


@pytest.mark.parametrize("ending", SEEDS)
@given(data=st.data())
@hostile
def test_a_good_file_with_changed_bytes_is_refused_or_scored(tmp_path, ending, data):
    content = bytearray(data.draw(st.sampled_from(SEEDS[ending])))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    survives(
        tmp_path / f"answer.{ending}", bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    )


cells = st.one_of(
    st.integers(-2, 12),
    st.floats(),
    st.sampled_from(["", "nan", "inf", "-inf", "1e999", "x", "0x1", "True", '"', "1_0", "9" * 30]),
)


@given(st.lists(st.lists(cells, max_size=3), max_size=6))
@hostile
def test_any_table_is_refused_or_scored(tmp_path, table):
    lines = ["id,label", *(",".join(map(str, row)) for row in table)]
    survives(tmp_path / "answer.csv", "\n".join(lines).encode())


@given(st.lists(cells, min_size=4, max_size=4))
@hostile
def test_any_labels_with_the_right_ids_are_refused_or_scored(tmp_path, labels):
    lines = ["id,label", *(f"{row},{label}" for row, label in enumerate(labels))]
    survives(tmp_path / "answer.csv", "\n".join(lines).encode())
