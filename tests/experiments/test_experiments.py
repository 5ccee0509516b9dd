"""A grid of runs: what is started, skipped, resumed and refused, and what the table says."""

import contextlib
import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tfmix
from tfmix import experiments
from tfmix.config import parsing, resolve
from tfmix.errors import STOPPED, RunFailedError, StoppedError, UserError
from tfmix.experiments import grid, latex, processes
from tfmix.experiments.screen import Screen
from tfmix.runs import checkpoint, folders
from tfmix.types import EnvSpec

ROOT = Path(__file__).resolve().parents[2]
SPEC = EnvSpec("two_step", 2, 2, 3, 3, 2, (2, 2))


def make_folder(cell, env_steps=None, greedy=(6.0, 8.0, 7.0), whole=True):
    """A run folder as `train` leaves it at `env_steps`; whole: with its export and its mark."""
    env_steps = env_steps or cell.config.env_steps
    newest = cell.folder / "checkpoints" / str(env_steps)
    newest.mkdir(parents=True)
    (newest / "tensors.index").write_text("")
    sums = {"tensors.index": "0" * 64}
    manifest = {"format": checkpoint.FORMAT, "env_steps": env_steps, "seconds": 1.0, "sha256": sums}
    (newest / checkpoint.MANIFEST).write_text(checkpoint._text(manifest))
    about = {
        "format": 1,
        "config": dataclasses.asdict(cell.config),
        "spec": dataclasses.asdict(SPEC),
        "git_commit": "abc123",
        "finished": env_steps if whole else 0,
        "versions": {"tfmix": "0.1.0", "python": "3.11.7", "tensorflow": "2.21.0"},
        "hardware": {"system": "Linux", "device": "device: CPU, 1 cores"},
    }
    (cell.folder / "run.json").write_text(json.dumps(about))
    lines = ["env_steps,episodes,updates,seconds,train_return,greedy_return,loss"]
    for number, value in enumerate(greedy, 1):
        at = env_steps * number // len(greedy)
        lines += [
            f"{at - 1},1,{at // 2 - 1},{at / 9},5.0,,0.1",
            f"{at},1,{at // 2},{at / 8},5,{value},0",
        ]
    (cell.folder / "metrics.csv").write_text("\n".join(lines) + "\n99")  # a last line cut short
    if whole:
        (cell.folder / "export").mkdir()


class Fake:
    """A process that does at its second look what `act` says, then ends."""

    started: list = []

    def __init__(self, cell, core, lock=-1):
        cell.log.parent.mkdir(parents=True, exist_ok=True)
        with cell.log.open("a") as log:
            log.write("$ python main.py\nnonsense\n")
        self.cell, self.core, self.looks, self.stops, self.killed = cell, core, 0, 0, False
        self.resumed = (cell.folder / "run.json").exists()
        Fake.started.append(self)

    def poll(self):
        self.looks += 1
        return self.act() if self.looks > 1 else None

    def act(self):
        shutil.rmtree(self.cell.folder, ignore_errors=True)
        make_folder(self.cell)
        return 0

    def say(self, text):
        with self.cell.log.open("a") as log:
            log.write(text + "\n")

    def stop(self):
        self.stops += 1

    def kill(self):
        self.killed = True


@pytest.fixture(autouse=True)
def no_processes(monkeypatch):
    monkeypatch.setattr(processes, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(Fake, "started", [])


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Drawing takes seconds; tests/experiments/test_plot.py draws."""
    monkeypatch.setattr(experiments, "_draw", lambda run_dir, rows: None)


@pytest.fixture
def faked(monkeypatch):
    monkeypatch.setattr(processes, "RunProcess", Fake)


def make(run_dir, algos="vdn,qmix", envs="two_step", seeds="0:2", **settings):
    return grid.make(algos, envs, seeds, run_dir, {"env_steps": 200, **settings})


def benchmark(run_dir, algos="vdn,qmix", envs="two_step", seeds="0:2", **settings):
    return tfmix.benchmark(algos, envs, seeds, run_dir, **{"env_steps": 200, **settings})


def states(rows):
    return {(row["algo"], row["seed"]): row["status"] for row in rows}


def test_names_and_seeds_are_read_from_lists_and_ranges():
    assert grid.names_of("vdn, qmix,vdn") == grid.names_of(["vdn", "qmix"]) == ["vdn", "qmix"]
    assert grid.seeds_of("0:3") == grid.seeds_of(range(3)) == [0, 1, 2]
    assert grid.seeds_of("0,3,7") == [0, 3, 7] and grid.seeds_of("5,0:2") == [5, 0, 1]


def test_every_run_has_a_folder_of_its_own_and_the_settings_of_a_single_run(tmp_path):
    many = make(tmp_path, envs="two_step,matrix/qtran", gamma=0.5)
    assert len({cell.folder for cell in many.cells}) == len(many.cells) == 8
    last = many.cells[-1]
    assert last.folder == tmp_path / "matrix_qtran" / "qmix" / "seed1"
    assert last.config.hypernet_layers == 1  # flags/env/matrix.qmix.flags
    assert resolve.resolve(parsing.parse(last.flags)) == last.config
    again = parsing.parse(many.command.split()[2:], experiments_flags())
    assert again["algo"] == "vdn,qmix" and again["seeds"] == "0:2" and again["gamma"] == 0.5


def experiments_flags():
    from absl import flags

    from tfmix import cli

    return cli.define(flags.FlagValues())


def test_finished_runs_are_skipped_unfinished_ones_resumed_and_others_started(tmp_path, faked):
    vdn_0, qmix_0, vdn_1, qmix_1 = make(tmp_path).cells
    make_folder(vdn_0)
    make_folder(qmix_0, 120, whole=False)  # stopped, then exported by hand
    (qmix_0.folder / "export").mkdir()
    make_folder(vdn_1, whole=False)  # killed between its last checkpoint and its export
    rows = benchmark(tmp_path)
    assert [(fake.cell, fake.resumed) for fake in Fake.started] == [
        (qmix_0, True),
        (vdn_1, True),
        (qmix_1, False),
    ]
    assert set(states(rows).values()) == {"finished"}
    benchmark(tmp_path)
    assert len(Fake.started) == 3


def amend(folder, **changes):
    """Changes a run.json; None takes a name out of it."""
    about = json.loads((folder / "run.json").read_text()) | changes
    kept = {name: value for name, value in about.items() if value is not None}
    (folder / "run.json").write_text(json.dumps(kept))


def test_an_export_older_than_the_last_checkpoint_does_not_make_an_old_run_finished(tmp_path):
    cell = make(tmp_path).cells[0]
    make_folder(cell)
    amend(cell.folder, finished=None)
    assert grid.is_finished(cell)
    os.utime(cell.folder / "export", (1, 1))
    assert not grid.is_finished(cell)


def test_a_run_is_finished_when_its_run_json_says_so_whatever_times_and_names_say(tmp_path):
    cell = make(tmp_path).cells[0]
    make_folder(cell)
    os.utime(cell.folder / "export", (1, 1))  # as a copy may leave it
    assert grid.is_finished(cell)
    for wrong in (0, 100, True, "200"):  # continued from 100 and killed before its export
        amend(cell.folder, finished=wrong)
        os.utime(cell.folder / "export")
        assert not grid.is_finished(cell)
    amend(cell.folder, finished=200)
    newest = cell.folder / "checkpoints" / "200"
    (newest / checkpoint.MANIFEST).rename(tmp_path / "manifest")
    assert not grid.is_finished(cell)
    (cell.folder / "checkpoints" / "9999999").mkdir()
    assert not grid.is_finished(cell)
    amend(cell.folder, finished=None)
    assert not grid.is_finished(cell)
    (tmp_path / "manifest").rename(newest / checkpoint.MANIFEST)
    os.utime(cell.folder / "export")
    assert grid.is_finished(cell)


@pytest.mark.parametrize(
    "asked,message",
    [
        ({"gamma": 0.5}, "gamma=0.99.*gamma=0.5: give what it has"),
        ({"env_steps": 100}, "env_steps=200.*=100: a run cannot .* give env_steps=200 or more"),
        ({"env_steps": 400, "gamma": 0.5}, "gamma=0.99.*gamma=0.5"),
    ],
)
def test_a_run_of_other_settings_is_refused_before_anything_starts(tmp_path, faked, asked, message):
    last = make(tmp_path).cells[-1]
    make_folder(last)
    with pytest.raises(UserError, match=rf"qmix/seed1 holds .*{message}.*choose another run_dir"):
        benchmark(tmp_path, **asked)
    (last.folder / "run.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        benchmark(tmp_path)
    assert not Fake.started


def test_the_folder_of_a_stored_run_may_have_moved(tmp_path, faked):
    for cell in make(tmp_path / "old").cells:
        make_folder(cell)
    (tmp_path / "old").rename(tmp_path / "new")
    assert set(states(benchmark(tmp_path / "new")).values()) == {"finished"}
    assert not Fake.started


def test_a_broken_run_is_told_with_its_reason_and_the_rest_goes_on(
    tmp_path, faked, monkeypatch, capsys
):
    healthy = Fake.act

    def act(self):
        if self.cell.config.algo == "vdn" and self.cell.config.seed == 0:
            self.say("Traceback\ntfmix: loss became NaN")
            return 1
        if self.cell.config.algo == "qmix" and self.cell.config.seed == 0:
            return -9
        if self.cell.config.algo == "qmix":
            return STOPPED  # somebody else stopped it
        return healthy(self)

    monkeypatch.setattr(Fake, "act", act)
    rows = benchmark(tmp_path)
    assert states(rows) == {
        ("vdn", 0): "failed",
        ("qmix", 0): "failed",
        ("vdn", 1): "finished",
        ("qmix", 1): "failed",
    }
    assert rows[0]["reason"] == "loss became NaN"
    assert rows[1]["reason"] == "ended by the system (Killed); its last line: nonsense"
    assert "stopped by a signal" in rows[3]["reason"]
    shown = capsys.readouterr().err
    assert f"failed    two_step vdn seed 0: loss became NaN ({rows[0]['folder']}.log)" in shown
    table = (tmp_path / "table.md").read_text()
    assert f"- failed at 0 env steps: {rows[0]['folder']}: loss became NaN" in table
    monkeypatch.setattr(Fake, "act", healthy)
    assert set(states(benchmark(tmp_path)).values()) == {"finished"}


def test_the_command_line_ends_with_1_and_says_how_to_go_on(tmp_path, faked, monkeypatch, capsys):
    settings = {"algo": "vdn,qmix", "env": "two_step", "env_steps": 200, "run_dir": str(tmp_path)}
    monkeypatch.setattr(Fake, "act", lambda self: 3)
    with pytest.raises(RunFailedError, match=r"4 of 4 runs failed; .*--seeds=0:2 --run_dir="):
        experiments.from_command_line(settings, "0:2", None)
    assert "| two_step | vdn | 0 of 2 | - |" in capsys.readouterr().out

    def act(self):
        signal.raise_signal(signal.SIGTERM)
        return -15

    monkeypatch.setattr(Fake, "act", act)
    with pytest.raises(StoppedError, match=r"0 of 4 runs are finished; continue with: python "):
        experiments.from_command_line(settings, "0:2", None)


def test_seed_counts_where_seeds_are_not_given(tmp_path, faked, monkeypatch):
    file = tmp_path / "x.flags"
    file.write_text("--algo=iql\n--env=two_step\n--seed=4\n--env_steps=200\n--gamma=0.5\n")
    out = str(tmp_path / "out")
    given = parsing.parse([f"--flagfile={file}", "--gamma=0.7", f"--run_dir={out}"])
    experiments.from_command_line(given, None, 1)
    experiments.from_command_line(given, "5", 1)
    (tmp_path / "out" / "two_step" / "iql" / "seed5").rename(tmp_path / "x")
    given = parsing.parse([f"--flagfile={file}", "--algo=vdn", f"--run_dir={out}"])
    experiments.from_command_line(given, None, 1)
    found = [(f.cell.config.algo, f.cell.config.seed, f.cell.config.gamma) for f in Fake.started]
    assert found == [("iql", 4, 0.7), ("iql", 5, 0.7), ("vdn", 4, 0.5)]


def test_as_many_runs_go_at_a_time_as_asked_each_on_its_core(tmp_path, monkeypatch):
    cells, alive, widest = make(tmp_path, seeds="0:3").cells, [], []

    class Counted(Fake):
        def __init__(self, cell, core):
            super().__init__(cell, core)
            alive.append(core)
            widest.append(sorted(alive))

        def act(self):
            alive.remove(self.core)
            return super().act()

    assert processes.run_all(cells, [3, 5], Counted, Screen(cells, cells)) == {}
    assert len(widest) == 6 and max(map(len, widest)) == 2 and widest[-1] in ([3, 5], [3], [5])
    assert all(len(set(cores)) == len(cores) for cores in widest)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 7}, raising=False)
    assert processes.slots(None) == [2, 7] and processes.slots(3) == [2, 7, 2]
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert processes.slots(None) == [None] * 3 and processes.slots(1) == [None]


def test_each_run_has_a_line_now_and_then_if_there_is_no_terminal(tmp_path, capsys, monkeypatch):
    cells = make(tmp_path, env_steps=5000).cells[:2]
    make_folder(cells[1], 1200, greedy=(6.0, 7.5), whole=False)
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    shown = Screen(cells, cells)
    with shown:
        for clock[0] in (101.0, 129.0, 131.0, 150.0):
            shown.update(cells)
    assert capsys.readouterr().err.splitlines() == [
        "running   two_step vdn seed 0: 0 of 5,000 env steps, no evaluation yet",
        "running   two_step qmix seed 0: 1,200 of 5,000 env steps, greedy return 7.50",
    ]
    clock[0] = 161.5
    shown.update(cells[:1])
    assert capsys.readouterr().err.count("running") == 1  # those that work


def test_without_progress_a_benchmark_prints_nothing(tmp_path, faked, capfd):
    rows = benchmark(tmp_path, progress=False)
    assert len(rows) == 4 and capfd.readouterr() == ("", "")
    benchmark(tmp_path, seeds="0:3")
    assert "start     two_step vdn seed 2" in capfd.readouterr().err


def test_ctrl_c_stops_each_run_once_starts_no_more_and_keeps_what_there_is(tmp_path, capsys):
    cells = make(tmp_path).cells

    class Stopped(Fake):
        def act(self):
            if self.stops:
                make_folder(self.cell, 100, whole=False)
                return STOPPED
            if self.looks == 2 and self.cell == cells[0]:
                signal.raise_signal(signal.SIGINT)
            return None

    assert processes.run_all(cells, [0, 1], Stopped, Screen(cells, cells)) == {}
    assert [fake.cell for fake in Fake.started] == cells[:2]
    assert [(fake.stops, fake.killed) for fake in Fake.started] == [(1, False)] * 2
    shown = capsys.readouterr().err
    assert "stopping: 2 runs save" in shown and "stopped   two_step qmix seed 0 at 100" in shown


def test_a_second_ctrl_c_ends_all_at_once_and_still_writes_the_table(tmp_path, faked, monkeypatch):
    def act(self):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Fake, "act", act)
    rows = benchmark(tmp_path, jobs=2)
    assert len(Fake.started) == 2 and all(fake.killed for fake in Fake.started)
    assert set(states(rows).values()) == {"unfinished"}
    assert "0 of 4 runs are finished" in (tmp_path / "table.md").read_text()


def test_the_table_says_what_the_runs_metrics_say(tmp_path, faked):
    vdn_0, qmix_0, vdn_1, qmix_1, vdn_2, _ = make(tmp_path, seeds="0:3").cells
    make_folder(vdn_0, greedy=(1.0, 5.0, 2.0))
    make_folder(vdn_1, 208, greedy=(9.0, 3.0))
    make_folder(vdn_2, greedy=(6.0,))
    make_folder(qmix_0, greedy=(8.0,))
    make_folder(qmix_1, 90, greedy=(7.25, 7.5), whole=False)
    asked = make(tmp_path, seeds="0:3")
    rows = [experiments.table.row_of(cell) for cell in asked.cells]
    experiments.table.write(asked, rows)
    with (tmp_path / "table.csv").open() as file:
        found = {(r["algo"], int(r["seed"])): r for r in csv.DictReader(file)}
    assert len(found) == 6
    one = found["vdn", 1]
    assert (one["env_steps"], one["updates"], one["seconds"]) == ("208", "104", "26.0")
    assert (one["last_greedy_return"], one["best_greedy_return"]) == ("3.0", "9.0")
    assert found["qmix", 1]["status"] == "unfinished" and found["qmix", 1]["env_steps"] == "90"
    assert found["qmix", 2]["env_steps"] == "0" and found["qmix", 2]["last_greedy_return"] == ""
    text = (tmp_path / "table.md").read_text()
    assert (
        "| two_step | vdn | 3 of 3 (0, 1, 2) | 200 (200 to 208) | 100 (100 to 104) "
        "| 3.00 (2.00 to 6.00) | 6.00 (5.00 to 9.00) | 1 | 25 (25 to 26) |"
    ) in text
    assert "| two_step | qmix | 1 of 3 (0) | 200 | 100 | 8.00 | 8.00 | 1 | 25 |" in text
    assert "4 of 6 runs are finished" in text
    assert f"- unfinished at 90 env steps: {qmix_1.folder}\n" in text
    assert "- returns on two_step: team reward\n" in text and asked.command in text
    assert "- 5 runs: Python 3.11.7, TensorFlow 2.21.0, tfmix 0.1.0 at abc123; Linux" in text


def test_a_finished_grid_is_resumed_to_a_later_end(tmp_path, faked, capsys):
    cells = make(tmp_path).cells
    for cell in cells[:3]:
        make_folder(cell)
    make_folder(make(tmp_path, env_steps=400).cells[3])  # is there already
    rows = benchmark(tmp_path, env_steps=400)
    shown = capsys.readouterr().err
    assert "decay=linear (3 of this grid)" in shown  # flags/env/two_step.flags
    assert [(fake.cell.folder, fake.resumed) for fake in Fake.started] == [
        (cell.folder, True) for cell in cells[:3]
    ]
    assert {(row["status"], row["env_steps"]) for row in rows} == {("finished", 400)}
    assert "start     two_step vdn seed 0 from 200 env steps" in shown
    with pytest.raises(UserError, match=r"vdn/seed0 holds a run with env_steps=400.*=400 or more"):
        benchmark(tmp_path)


def test_a_run_is_resumed_to_the_end_of_its_grid(tmp_path, stand_in):
    cell = make(tmp_path / "b", env_steps=400).cells[0]
    make_folder(make(tmp_path / "b").cells[0])
    with folders.locked(tmp_path / "b", "a benchmark") as lock:
        process = processes.RunProcess(cell, None, lock)
    process.kill()
    command = cell.log.read_text().splitlines()[0]
    assert "--mode=resume" in command and command.endswith("--env=two_step --env_steps=400")


def table_rows(run_dir):
    with (run_dir / "table.csv").open() as file:
        return [(r["env"], r["algo"], int(r["seed"]), r["status"]) for r in csv.DictReader(file)]


def test_a_second_grid_adds_to_the_tables_of_its_folder(tmp_path, faked, capsys):
    benchmark(tmp_path, seeds="0:2")
    rows = benchmark(tmp_path, algos="iql,vdn", envs="matrix/qtran,two_step", seeds="1:3")
    assert len(rows) == 8 and len(Fake.started) == 11  # of this call; one run was there
    found = table_rows(tmp_path)
    assert len(set(found)) == len(found) == 11 and {row[3] for row in found} == {"finished"}
    assert found[:8] == [(r["env"], r["algo"], r["seed"], r["status"]) for r in rows]
    assert [row[:3] for row in found[8:]] == [
        ("two_step", "qmix", 0),
        ("two_step", "qmix", 1),
        ("two_step", "vdn", 0),
    ]
    page = (tmp_path / "table.md").read_text()
    assert "11 of 11 runs are finished" in page and "- 11 runs: Python" in page
    assert "| two_step | vdn | 3 of 3 (1, 2, 0) |" in page
    pairs = [line.split(" | ")[0] for line in page.splitlines() if " of 2 (" in line]
    assert pairs == sorted(pairs)  # an environment's rows are together
    benchmark(tmp_path, seeds="0:2", gamma=0.99)  # the first one again
    assert sorted(table_rows(tmp_path)) == sorted(found) and len(Fake.started) == 11


def test_the_table_names_the_settings_in_which_rows_of_an_environment_differ(tmp_path, faked):
    benchmark(tmp_path, algos="vdn,qmix,iql", envs="two_step,matrix/qtran")
    page = (tmp_path / "table.md").read_text()
    lines = [line for line in page.splitlines() if " differ in " in line]
    own = "- rows of matrix/qtran differ in learning_rate: 0.001 (vdn, iql); 0.0005 (qmix)"
    assert lines == [own]  # flags/env/matrix.qmix.flags
    benchmark(tmp_path, algos="qtran_alt", learning_rate=0.002)
    benchmark(tmp_path, algos="vdn", seeds="2", env_steps=300)
    page = (tmp_path / "table.md").read_text()
    lines = [line for line in page.splitlines() if " differ in " in line]
    usual = make(tmp_path).cells[0].config.learning_rate
    labels = "vdn seed 2, vdn seeds 0,1, iql, qmix"
    assert (
        f"- rows of two_step differ in learning_rate: {usual} ({labels}); 0.002 (qtran_alt)"
        in lines
    )
    assert (
        "- rows of two_step differ in env_steps: 300 (vdn seed 2); "
        "200 (vdn seeds 0,1, iql, qmix, qtran_alt)"
    ) in lines
    assert len(lines) == 3 and own in lines
    assert "| two_step | vdn | 2 of 2 (0, 1) | 200 |" in page
    assert "| two_step | vdn | 1 of 1 (2) | 300 |" in page


def test_the_latex_table_has_medians_and_ranges_and_escaped_text(tmp_path, faked):
    vdn_0, vdn_1, qmix_0, *_ = sorted(make(tmp_path).cells, key=lambda c: c.folder, reverse=True)
    make_folder(vdn_0, greedy=(-1.5,))
    make_folder(vdn_1, greedy=(-3.0,))
    make_folder(qmix_0, 90, whole=False)
    asked = make(tmp_path, envs="two_step,matrix/qtran")
    rows = [experiments.table.row_of(cell) for cell in asked.cells]
    experiments.table.write(asked, rows)
    page = (tmp_path / "table.tex").read_text()
    assert page.startswith("% " + asked.command) and "usepackage{booktabs}" in page
    assert "two\\_step & vdn & 2 of 2 & 200 & $-$2.25 [$-$3.00, $-$1.50] & $-$2.25 [" in page
    assert (
        "two\\_step & qmix & 0 of 2 & -- & -- & -- \\\\\n\\addlinespace\nmatrix/qtran & vdn" in page
    )
    inside = page.split("\\midrule\n")[1].split("\\bottomrule")[0].replace("\\addlinespace\n", "")
    assert [line.count(" & ") for line in inside.splitlines()] == [5] * 4
    assert page.endswith("\\bottomrule\n\\end{tabular}\n")
    odd = latex.escape("my.py:Env_{50%} $a & #b~c^d\\e\n")
    assert odd == (
        r"my.py:Env\_\{50\%\} \$a \& \#b\textasciitilde{}c\textasciicircum{}d\textbackslash{}e"
    )


def test_copies_links_and_damaged_runs_are_not_in_the_tables(tmp_path, faked, capsys):
    benchmark(tmp_path, algos="vdn")
    pair = tmp_path / "two_step" / "vdn"
    shutil.copytree(pair / "seed0", pair / "seed0 (copy)")
    (pair / "seed7").symlink_to(pair / "seed0")
    (tmp_path / "two_step" / "iql").symlink_to(pair)
    shutil.copytree(pair / "seed0", pair / "seed8")
    (pair / "seed8" / "run.json").write_text("{")
    shutil.copytree(pair / "seed0", pair / "seed9")
    benchmark(tmp_path, algos="qmix", seeds="0")
    assert [row[:3] for row in table_rows(tmp_path)] == [
        ("two_step", "qmix", 0),
        ("two_step", "vdn", 0),
        ("two_step", "vdn", 1),
    ]
    assert "the tables leave out " + str(pair / "seed8") in capsys.readouterr().err


# What stands in for main.py where a real process is wanted and TensorFlow is not.
STAND_IN = """
import os, signal, sys, time
folder = next(w for w in sys.argv if w.startswith('--run_dir=')).partition('=')[2]
cores = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []
def save(number, frame):
    open(folder + '.saved', 'w').close()
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print(f'cores {cores}', flush=True)
open(folder + '.up', 'w').close()
time.sleep(60)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    file = tmp_path / "stand_in.py"
    file.write_text(STAND_IN)
    monkeypatch.setattr(processes, "MAIN", file)
    return file


def wait_for(ready, seconds=60):
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.05)


def test_a_process_runs_on_its_core_logs_and_is_stopped_by_one_signal(tmp_path, stand_in):
    cell = make(tmp_path / "b").cells[0]
    core = processes.slots(None)[-1]
    with folders.locked(tmp_path / "b", "a benchmark") as lock:
        process = processes.RunProcess(cell, core, lock)
    wait_for(Path(f"{cell.folder}.up").exists)
    in_use = pytest.raises(UserError, match="is in use: a benchmark")
    with in_use, folders.locked(tmp_path / "b", "a benchmark"):
        pass  # the run holds the folder, also when its benchmark is gone
    process.stop()
    wait_for(lambda: process.poll() is not None)
    assert process.poll() == 0 and Path(f"{cell.folder}.saved").exists()
    log = cell.log.read_text()
    assert log.startswith("$ ") and "--algo=vdn" in log.splitlines()[0]
    if core is not None:
        assert processes.last_line(cell.log) == f"cores [{core}]"
    with folders.locked(tmp_path / "b", "a benchmark"):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_runs_of_a_killed_benchmark_save_and_end(tmp_path, stand_in):
    out = tmp_path / "b"
    code = (
        "import sys; from pathlib import Path; from tfmix import experiments\n"
        f"experiments.processes.MAIN = Path({str(stand_in)!r})\n"
        f"experiments.benchmark('vdn', 'two_step', '0', {str(out)!r})"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    run = out / "two_step" / "vdn" / "seed0"
    wait_for(run.with_name("seed0.up").exists)
    parent.kill()
    parent.wait()
    wait_for(run.with_name("seed0.saved").exists)

    def free():
        with contextlib.suppress(UserError), folders.locked(out, "a benchmark"):
            return True

    wait_for(free)


@pytest.mark.parametrize(
    "words,message",
    [
        (["--algo=vdn,qmx"], "no algorithm 'qmx'; did you mean 'qmix'?"),
        (["--algo=vdn,"], "no algorithm ''"),
        (["--env=two_step,two_stap"], "no environment 'two_stap'; did you mean 'two_step'?"),
        (["--seeds=first"], "--seeds=first: write first:last"),
        (["--seeds=3:3"], "holds no seed"),
        (["--seeds=-1"], "--seed"),
        (["--jobs=0"], "--jobs"),
        (["--algo=vdn", "--batch_episodes=6000"], "more than the replay holds"),
        (["--seeds=0:2", "--mode=train"], "--seeds is for --mode=benchmark"),
        (["--jobs=2", "--mode=resume", "--run_dir=x"], "--jobs is for --mode=benchmark"),
    ],
)
def test_benchmark_answers_a_wrong_request_with_one_line_and_makes_nothing(
    tmp_path, words, message, main_py
):
    done = main_py("--mode=benchmark", f"--run_dir={tmp_path / 'x'}", *words)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and message in done.stderr
    assert not (tmp_path / "x").exists()


def test_wrong_requests_from_python_are_refused(tmp_path):
    for wrong in ({"gama": 1}, {"seed": 3}, {"jobs": 0}, {"algos": []}, {"seeds": []}):
        with pytest.raises(UserError):
            benchmark(tmp_path / "x", **wrong)
    (tmp_path / "x").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        benchmark(tmp_path / "x")


def test_where_all_is_finished_the_table_is_printed_without_tensorflow(tmp_path):
    for cell in make(tmp_path).cells:
        make_folder(cell)
    words = ["--mode=benchmark", "--algo=vdn,qmix", "--env=two_step", "--seeds=0:2"]
    words += ["--env_steps=200", f"--run_dir={tmp_path}"]
    code = (
        f"import sys, main; code = main.main({words!r});"
        "assert not {'tensorflow', 'tf_keras'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == (tmp_path / "table.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("algos", ["iql", "iql,vdn"])
def test_benchmark_of_real_processes_is_interrupted_and_continued(tmp_path, algos):
    """The first run ends, then Ctrl-C; the same command does the rest."""
    out, count = tmp_path / "b", 2 * len(algos.split(","))
    words = [f"--algo={algos}", "--env=two_step", "--seeds=0:2", "--env_steps=200"]
    words += ["--hidden_size=8", "--jobs=1", f"--run_dir={out}"]
    command = [sys.executable, str(ROOT / "main.py"), "--mode=benchmark", *words]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in parent.stderr:
        if line.startswith("finished"):
            parent.send_signal(signal.SIGINT)
            break
    shown, said = parent.communicate(timeout=120)
    assert parent.returncode == STOPPED and f"1 of {count} runs are finished; con" in said
    assert "| two_step | iql | 1 of 2 (0) | 208 |" in shown
    with folders.locked(out, "a benchmark"):
        pass  # no process is left
    first = out / "two_step" / "iql" / "seed0"
    before = (first / "metrics.csv").read_text()
    shutil.rmtree(first / "export")  # as if it had been killed a moment earlier
    command.remove("--jobs=1")  # as many at a time as there are cores
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "start     two_step iql seed 0 from 2" in done.stderr
    assert (first / "metrics.csv").read_text() == before and (first / "export").is_dir()
    with (out / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished"] * count
    for row in rows:
        with (Path(row["folder"]) / "metrics.csv").open() as file:
            last = list(csv.DictReader(file))[-1]
        assert int(last["env_steps"]) >= 200
        for name in ("env_steps", "updates", "seconds"):
            assert float(row[name]) == float(last[name])
        assert float(row["last_greedy_return"]) == float(last["greedy_return"])
