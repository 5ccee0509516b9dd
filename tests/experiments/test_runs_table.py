"""Run folders at a glance: states, columns, order, folders that others write to or damaged."""

import fcntl
import json

import pytest

import tfmix
from tests.experiments.test_plot import make_run
from tfmix.errors import RunFailedError, UserError
from tfmix.experiments import runs_table
from tfmix.runs import checkpoint, folders, manifest


def finish(run):
    """Gives a run folder what a finished one has."""
    newest = run / "checkpoints" / "300"
    newest.mkdir(parents=True)
    (newest / "tensors.index").write_text("")
    sums = {"tensors.index": "0" * 64}
    about = {"format": checkpoint.FORMAT, "env_steps": 300, "seconds": 1.0, "sha256": sums}
    (newest / checkpoint.MANIFEST).write_text(checkpoint._text(about))
    (run / "export").mkdir()
    return run


@pytest.fixture
def some(tmp_path):
    """A run of each state."""
    finish(make_run(tmp_path / "done", values=(2.0, 7.0, 6.5)))
    make_run(tmp_path / "failed", "qmix", seed=1, about={"failed": "NaN in \x1b[31m q_tot"})
    make_run(tmp_path / "stopped", "iql", seed=2, values=(3.0, 9.0))
    make_run(tmp_path / "new", "vdn", seed=3, rows=[])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    return tmp_path


def by_name(rows, root):
    return {row["folder"].removeprefix(f"{root}/"): row for row in rows}


def test_a_row_says_what_a_run_is(some):
    rows = by_name(tfmix.list_runs(some), some)
    assert rows["done"] == {
        **{"algo": "vdn", "env": "two_step", "seed": 0, "state": "finished", "env_steps": 300},
        **{"goal": 300, "last": 6.5, "best": 7.0, "seconds": 1.5, "commit": "abc123"},
        **{"folder": str(some / "done"), "reason": ""},
    }
    assert {name: row["state"] for name, row in rows.items()} == {
        **{"done": "finished", "failed": "failed", "stopped": "stopped", "new": "stopped"},
        "broken": "unreadable",
    }
    assert rows["failed"]["reason"] == r"NaN in \x1b[31m q_tot"
    assert "is damaged" in rows["broken"]["reason"]
    assert (rows["stopped"]["env_steps"], rows["stopped"]["best"]) == (200, 9.0)
    assert (rows["new"]["last"], rows["new"]["env_steps"]) == (None, 0)


def test_a_run_that_trains_is_running_and_looking_does_not_disturb_it(some):
    run = some / "stopped"
    with folders.locked(run, "it trains"):
        assert runs_table.is_locked(run)
        assert runs_table.row_of(run)["state"] == "running"
    assert not runs_table.is_locked(run)
    with (run / folders.LOCK).open() as one, (run / folders.LOCK).open() as other:
        fcntl.flock(one, fcntl.LOCK_SH)  # another person looks
        assert not runs_table.is_locked(run)
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert not runs_table.is_locked(some / "done")  # which has no lock
    assert not (some / "done" / folders.LOCK).exists()


def test_rows_are_sorted_by_columns_and_those_without_a_value_come_last(some):
    def order(sort):
        return [row["folder"].rpartition("/")[2] for row in tfmix.list_runs(some, sort)]

    assert order("-best") == ["stopped", "done", "failed", "broken", "new"]
    assert order("best")[:3] == ["failed", "done", "stopped"]
    assert order("state,-env_steps")[:3] == ["failed", "done", "stopped"]
    assert order("folder") == ["broken", "done", "failed", "new", "stopped"]
    with pytest.raises(UserError, match="no column 'bst'; did you mean 'best'"):
        tfmix.list_runs(some, "env,-bst")


def test_the_command_prints_a_table(some, main_py, monkeypatch):
    done = main_py("--mode=runs", f"--runs={some}", "--sort=-best")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and done.stderr == "" and len(lines) == 7
    assert lines[0].split() == [
        *["algo", "env", "seed", "state", "env", "steps", "last", "best", "time", "commit"],
        "folder",
    ]
    assert lines[1].split() == [
        "iql",
        "two_step",
        "2",
        "stopped",
        "200",
        "of",
        "300",
        "9.00",
        "9.00",
        "1",
        "s",
        "abc123",
        str(some / "stopped"),
    ]
    assert lines[3].endswith(r"failed: NaN in \x1b[31m q_tot")
    assert lines[-1] == "5 runs: 2 stopped, 1 finished, 1 failed, 1 unreadable"
    (some / "runs").mkdir()
    make_run(some / "runs" / "x")
    monkeypatch.chdir(some)
    assert main_py("--mode=runs").stdout.splitlines()[-1] == "1 run: 1 stopped"
    assert "does not read --algo" in main_py("--mode=runs", "--algo=vdn").stderr


@pytest.mark.parametrize(
    "seconds,shown",
    [(0, "-"), (12.4, "12 s"), (200, "3 min 20 s"), (3725, "1 h 02 min"), (1e300, "-")],
)
def test_durations_are_short(seconds, shown):
    assert runs_table._duration(seconds) == shown


def test_a_failure_is_recorded_and_a_new_start_removes_it(tmp_path):
    run = make_run(tmp_path / "run")

    def stored():
        return json.loads((run / "run.json").read_text())

    before = stored()
    with pytest.raises(RunFailedError), manifest.recorded_failure(run):
        raise RunFailedError("NaN in q_tot")
    assert stored() == {**before, "failed": "NaN in q_tot"}
    with manifest.recorded_failure(run):
        assert stored() == before
    with pytest.raises(ZeroDivisionError), manifest.recorded_failure(run):
        _ = 1 / 0
    assert stored()["failed"].startswith("ZeroDivisionError: ")
    with pytest.raises(KeyboardInterrupt), manifest.recorded_failure(run):
        raise KeyboardInterrupt
    assert stored() == before


def test_a_failure_is_not_recorded_in_a_folder_that_was_replaced(tmp_path):
    run = make_run(tmp_path / "run")
    with pytest.raises(RunFailedError), manifest.recorded_failure(run):
        run.rename(tmp_path / "old")
        make_run(run, seed=7)
        raise RunFailedError("it was replaced")
    for folder in (run, tmp_path / "old"):
        assert "failed" not in json.loads((folder / "run.json").read_text())


def test_two_hundred_runs_are_listed_in_a_moment(tmp_path):
    import time

    for seed in range(200):
        make_run(tmp_path / f"{seed}", seed=seed, values=(1.0,) * 3)
    began = time.process_time()
    assert len(tfmix.list_runs(tmp_path)) == 200
    assert time.process_time() - began < 5.0
