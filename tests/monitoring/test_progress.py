"""Progress: what it says, and what it predicts."""

import types

import pytest

from tfmix.monitoring import progress
from tfmix.monitoring.progress import Progress
from tfmix.utils import text


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets; `clock.now` is in seconds."""
    found = types.SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: found.now))
    return found


def test_the_time_left_is_that_of_learning_without_compiling(clock):
    shown = Progress(1_000, 0)
    assert shown.seconds_left() is None
    with shown.waiting("compiling", once=True):
        clock.now += 500.0
    clock.now += 1.0
    shown.advance(100, 0)  # before the replay holds a batch, which is fast
    shown.pace_begins(100)
    clock.now += 20.0
    shown.advance(200, 5)
    with shown.waiting("evaluating", once=True):
        clock.now += 300.0
    assert shown.seconds_left() == pytest.approx(800 * 20.0 / 100)
    with shown.waiting("evaluating"):  # evaluations that come again count
        clock.now += 20.0
    assert shown.seconds_left() == pytest.approx(800 * 40.0 / 100)


def test_a_resumed_run_predicts_from_its_own_pace(clock):
    shown = Progress(1_000, 900)
    clock.now += 10.0
    shown.advance(950, 3)
    assert shown.seconds_left() == pytest.approx(10.0)


def test_without_a_terminal_lines_say_env_steps_updates_and_time(clock, capsys):
    shown = Progress(2_000, 0)
    with shown, shown.waiting("compiling", once=True):
        clock.now += 5.0
    for step in range(1, 4):
        clock.now += 8.0
        shown.advance(step * 500, step * 7)
    row = {"updates": 28, "greedy_return": 6.5, "train_return": 3.25, "epsilon": 0.5}
    shown.update(2_000, {**row, "env_steps_per_second": 1234.0, "loss": 0.125})
    assert capsys.readouterr().err.splitlines() == [
        "compiling ...",
        "500 of 2,000 env steps, 7 updates, 13 s elapsed, 24 s left",
        "1,500 of 2,000 env steps, 21 updates, 29 s elapsed, 8 s left",
        "2,000 of 2,000 env steps, 28 updates, 1,234 env steps/s, return 3.2, greedy 6.5, "
        "epsilon 0.50, loss 0.125, 29 s elapsed, 0 s left",
    ]


def test_what_was_short_begins_without_a_line(clock, capsys):
    shown = Progress(10, 0)
    for seconds in (1.0, 5.0, 1.0):
        with shown.waiting("evaluating"):
            clock.now += seconds
    assert capsys.readouterr().err == "evaluating ...\nevaluating ...\n"


def test_nothing_is_printed_while_it_is_not_allowed(capsys):
    with text.printing(False):
        shown = Progress(10, 0)
        with shown, shown.waiting("compiling"), text.printing(True):
            text.tell("a warning")
            text.show("an answer")
        shown.update(10, {"updates": 1})
    assert capsys.readouterr() == ("", "")
    text.tell("after")
    assert capsys.readouterr().err == "after\n"


@pytest.mark.parametrize(
    "seconds,shown", [(0.4, "0 s"), (42, "42 s"), (185, "3:05 min"), (7384.2, "2:03:04 h")]
)
def test_times_are_short(seconds, shown):
    assert progress._clock(seconds) == shown
