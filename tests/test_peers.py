"""What benchmarks/peers.py makes of the numbers of others."""

import sys

import pytest

from benchmarks import peers
from tfmix.errors import UserError


@pytest.mark.parametrize(
    ("scores", "good"),
    [
        ([-50, -44, -43, -44.9], True),
        ([-44, -43, -45.1, -44, -43], False),
        ([-44, -43], False),
        ([], False),
    ],
)
def test_a_team_is_good_where_three_evaluations_in_a_row_are(scores, good):
    assert peers.in_a_row(scores) == good


def test_jaxmarls_returns_are_brought_to_25_steps_whoever_they_name():
    of_the_team = {"test_returned_episode_returns": -52.0, "returned_episode_returns": 7.0}
    of_each = {f"test_returned_episode_returns_agent_{i}": x for i, x in enumerate((-50.0, -54.0))}
    assert peers.jaxmarl_score(of_the_team) == pytest.approx(-50.0)
    assert peers.jaxmarl_score(of_each) == pytest.approx(-50.0)


def test_faster_by_is_the_median_of_the_repeats_ratios_above_1_where_ours_is_faster():
    assert peers.faster_by([1.0, 2.0, 1.0], [2.0, 2.0, 3.0], "s") == "2.00 (1.00 to 3.00)"
    assert peers.faster_by([200.0], [100.0], "env steps/s") == "2.00 (2.00 to 2.00)"


def test_a_command_that_fails_is_said_and_one_that_ends_without_is_never_there():
    with pytest.raises(UserError, match="failed:\nno luck"):
        peers.wait_for([sys.executable, "-c", "raise SystemExit('no luck')"], lambda: None)
    assert peers.wait_for([sys.executable, "-c", ""], lambda: None) == float("inf")
    assert peers.wait_for([sys.executable, "-c", "input()"], lambda: 0.0) < 0
