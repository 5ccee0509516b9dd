"""Ctrl-C and SIGTERM: answered at once, a stop first, an end the second time."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tfmix.utils import signals

ROOT = Path(__file__).resolve().parents[2]
# A call that no signal ends, and that lets other threads run, as TensorFlow's do.
LONG_CALL = """
import hashlib, sys
from tfmix.utils import signals
signals.owns_process = sys.argv[1] == "owner"
with signals.stop_on_signal("heard") as stop:
    print("ready", file=sys.stderr, flush=True)
    try:
        hashlib.pbkdf2_hmac("sha256", b"x", b"x", int(float(sys.argv[2])))
    except KeyboardInterrupt:
        sys.exit(7)
print(stop.number, file=sys.stderr)
"""


def start(code, *words):
    command = [sys.executable, "-c", code, *map(str, words)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == "ready\n"
    return process


def wait_until(reached, seconds=20):
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.01)


def test_the_first_signal_is_answered_within_a_long_call_and_the_second_ends_it():
    process = start(LONG_CALL, "owner", 2e9)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline() == "heard\n"
    time.sleep(signals.ONE_PRESS_SECONDS + 0.1)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == signals.INTERRUPTED == 130
    assert time.monotonic() - began < signals.PATIENCE_SECONDS + 5
    assert process.stderr.read() == "tfmix: interrupted\n"


def test_a_guest_in_somebodys_script_is_interrupted_as_soon_as_python_runs_again():
    process = start(LONG_CALL, "guest", 6e6)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(signals.ONE_PRESS_SECONDS + 0.1)
    assert process.wait(120) == 7


def test_what_comes_twice_within_a_moment_is_one_press(capfd):
    with signals.stop_on_signal("heard") as stop:
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        assert stop() and stop.number == signal.SIGINT
        wait_until(lambda: stop._first_time)
        time.sleep(0.05)
    assert capfd.readouterr().err == "heard\n"


def test_a_second_ctrl_c_interrupts_and_a_second_sigterm_does_not():
    with signals.stop_on_signal() as stop:
        signal.raise_signal(signal.SIGTERM)
        wait_until(lambda: stop._first_time)
        time.sleep(signals.ONE_PRESS_SECONDS + 0.1)
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.1)
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
            time.sleep(20)
        assert time.monotonic() - began < 10
        assert stop.number == signal.SIGTERM


def test_handlers_and_wakeup_are_put_back_and_other_threads_change_nothing():
    def found():
        fd = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(fd)
        return fd, *map(signal.getsignal, signals.CAUGHT)

    before, threads = found(), threading.active_count()
    with signals.stop_on_signal():
        assert found() != before
    inside = []

    def listen():
        with signals.stop_on_signal() as stop:
            inside.extend([*map(signal.getsignal, signals.CAUGHT), stop()])

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert inside == [*before[1:], False]
    assert found() == before and threading.active_count() == threads


TRAINING = """
import signal, sys, threading, time
from pathlib import Path
import tfmix
folder = Path(sys.argv[1])
def end_it():
    while not (folder / "metrics.csv").exists():
        time.sleep(0.1)
    signal.raise_signal(signal.SIGTERM)
threading.Thread(target=end_it, daemon=True).start()
run = tfmix.train("two_step", algo="vdn", env_steps=10**8, hidden_size=8, run_dir=folder)
print("went on")
"""


def test_sigterm_ends_the_calling_script_once_the_run_is_saved(tmp_path):
    command = [sys.executable, "-c", TRAINING, str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGTERM
    assert "tfmix: stopping after" in done.stderr
    assert list((tmp_path / "run" / "checkpoints").glob("[0-9]*/manifest.json"))
