"""The command line: what it answers, with which exit code, also as a process."""

import re
import shutil
import signal
import subprocess
import sys
import time
from unittest import mock

import pytest

import tfmix
from tests.runs.test_run import ROOT, rows_of
from tfmix import cli
from tfmix.errors import STOPPED
from tfmix.runs import folders

pytestmark = pytest.mark.whole_run


@pytest.mark.parametrize(
    "words,message",
    [
        (["--algo=qtran-al"], "did you mean 'qtran_alt'"),
        (["--env=mpe/simple_sprad"], "did you mean 'mpe/simple_spread'"),
        (["--env_step=3"], "env_steps"),
        (["train"], "stray word 'train'"),
        (["--env_steps=many"], "--env_steps"),
        (["--epsilon_end=2"], "a number from 0 to 1"),
        (["--env=matrix/custom", "--env_arg=payoff=[[1,2],[3]]"], "full array"),
        (["--mode=fly"], "--mode"),
        (["--mode=evaluate"], "needs --run_dir"),
        (["--mode=resume", "--run_dir=no/such"], "there is no run in no/such"),
        (["--mode=evaluate", "--run_dir=x", "--gamma=0.5"], "--gamma cannot be set"),
    ],
)
def test_main_answers_a_wrong_request_with_one_line_and_exit_code_2(words, message, main_py):
    done = main_py(*words)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and message in done.stderr
    assert "Traceback" not in done.stderr


LIST = pytest.param("--mode=list", marks=pytest.mark.slow)  # which imports TensorFlow


@pytest.mark.parametrize("words", ["--help", LIST, "--mode=resume"])
@pytest.mark.parametrize("streams", ["| true", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full"])
def test_main_shows_no_traceback_if_its_streams_are_gone(words, streams, tmp_path):
    """Exit code 0 or 2 as ever; 1 and a line if the disk is full beneath the answer."""
    script = f'"$0" "$1" {words} {streams}; echo "code ${{PIPESTATUS[0]}}" > code'
    command = ["bash", "-c", script, sys.executable, str(ROOT / "main.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    wrong, full = words == "--mode=resume", streams == ">/dev/full"
    code = 2 if wrong else 1 if full else 0
    assert (tmp_path / "code").read_text() == f"code {code}\n"
    if code and "2>&-" not in streams:
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("tfmix: ")
        assert wrong or "standard output: No space left on device" in done.stderr
    else:
        assert done.stderr == ""


@pytest.mark.parametrize(
    "streams",
    [
        pytest.param("2>&1 | true", marks=pytest.mark.slow, id="pipe"),
        pytest.param(">/dev/full 2>/dev/full", marks=pytest.mark.slow, id="full"),
        pytest.param("<&- >&- 2>&-", marks=pytest.mark.slow, id="&-"),
    ],
)
def test_main_saves_and_exports_a_training_whose_streams_are_gone(streams, tmp_path):
    words = "--algo=vdn --env=two_step --env_steps=200 --hidden_size=8 --run_dir=run"
    script = f'"$0" "$1" {words} {streams}; echo "code ${{PIPESTATUS[0]}}" > code'
    command = ["bash", "-c", script, sys.executable, str(ROOT / "main.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (tmp_path / "code").read_text() == "code 0\n" and done.stderr == ""
    assert folders.is_finished(tmp_path / "run", 200)
    assert len(rows_of(tmp_path / "run")) > 10


FLAGGED = """
from absl import flags
flags.DEFINE_integer("seed", 1, "mine")
flags.DEFINE_integer("size", 2, "mine")
def make(**arguments):
    from pettingzoo.mpe import simple_spread_v3
    return simple_spread_v3.parallel_env(N=flags.FLAGS.size, max_cycles=flags.FLAGS.seed + 4)
"""


def test_flags_of_the_users_module_do_not_matter_and_have_their_defaults(tmp_path):
    (tmp_path / "flagged.py").write_text(FLAGGED)
    words = ["--mode=check_env", "--env=flagged:make", "--seed=3", "--env_workers=0"]
    command = [sys.executable, str(ROOT / "main.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "agents        2: " in done.stdout


def test_sys_exit_on_the_way_is_one_line_and_exit_code_1(monkeypatch, capsys):
    def leave(*_):
        sys.exit(0)

    monkeypatch.setattr(cli, "dispatch", leave)
    assert cli.main(["--env=two_step"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "tfmix: sys.exit(0) was called" in err


def test_what_an_error_says_obeys_no_terminal_with_its_traceback_either(monkeypatch, capsys):
    class UnspeakableError(Exception):
        def __str__(self):
            raise ValueError

    for error in (KeyError("\x1b[2J\r\n" * 10**6), UnspeakableError(), KeyboardInterrupt()):
        monkeypatch.setattr(cli, "dispatch", mock.Mock(side_effect=error))
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
        assert cli.main(["--env=two_step"]) == code
        plain = capsys.readouterr().err
        assert cli.main(["--env=two_step", "--debug"]) == code
        traced = capsys.readouterr().err
        assert plain.startswith("tfmix: ") and plain.count("\n") == 1
        assert traced.startswith("Traceback") and traced.endswith(plain)
        assert "\x1b" not in traced and "\r" not in traced and len(traced) < 10**6


def test_main_shows_its_help_and_what_there_is(main_py):
    shown = main_py("--help")
    assert shown.returncode == 0 and "--updates_per_episode" in shown.stdout
    names = main_py("--mode=list").stdout
    for name in ("qtran_alt", "two_step", "matrix/qtran", "mpe/simple_spread", "pettingzoo/"):
        assert name in names


def test_main_trains_refuses_to_overwrite_evaluates_and_exports(tmp_path, main_py):
    folder = tmp_path / "run"
    words = ["--algo=qtran_alt", "--env=matrix/qtran", "--env_steps=400", f"--run_dir={folder}"]
    words += ["--hidden_size=8", "--qtran_embed=8", "--eval_episodes=8"]
    done = main_py(*words)
    assert done.returncode == 0, done.stderr
    assert "device: " in done.stdout and "seed 0" in done.stdout
    assert "greedy return" in done.stdout and "a random team" in done.stdout
    assert all(
        " of 400 env steps" in line or re.fullmatch(r"[a-z]+ \.\.\.", line)
        for line in done.stderr.splitlines()
    )
    assert {"compiling ...", "evaluating ...", "exporting ..."} <= set(done.stderr.splitlines())
    before = (folder / "metrics.csv").read_bytes()
    again = main_py(*words)
    assert again.returncode == 2 and "already holds a run" in again.stderr
    assert (folder / "metrics.csv").read_bytes() == before
    shown = main_py("--mode=evaluate", f"--run_dir={folder}", "--eval_episodes=5")
    assert shown.returncode == 0 and "over 5 episodes" in shown.stdout
    shutil.rmtree(folder / "export")
    exported = main_py("--mode=export", f"--run_dir={folder}")
    assert exported.returncode == 0 and (folder / "export" / "saved_model.pb").is_file()
    finished = main_py("--mode=resume", f"--run_dir={folder}")
    assert finished.returncode == 0 and (folder / "metrics.csv").read_bytes() == before


def test_a_stopped_process_saves_and_says_how_to_go_on(tmp_path):
    folder = tmp_path / "run"
    words = ["--algo=vdn", "--env=two_step", "--env_steps=100000000", f"--run_dir={folder}"]
    command = [sys.executable, str(ROOT / "main.py"), *words, "--log_period_env_steps=1000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(rows_of_or_none(folder)) < 3:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == STOPPED and "tfmix: stopping after" in err
    assert f"--mode=resume --run_dir={folder}" in out
    # It may stop between two rows: going on writes the row that would have come.
    assert tfmix.load(folder).env_steps >= int(rows_of(folder)[-1]["env_steps"])


def rows_of_or_none(folder):
    return rows_of(folder) if (folder / "metrics.csv").exists() else []
