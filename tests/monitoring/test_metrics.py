"""Metrics of episodes: what evaluations report beside the mean return, and where it is kept."""

import csv
import shutil

import numpy as np
import pytest
import tensorflow as tf

import tfmix
from tests.runs.test_resume import assert_same_run, stop_at
from tests.runs.test_run import PAIR, rows_of
from tfmix.errors import UserError
from tfmix.monitoring.metrics_csv import (
    EVALUATIONS,
    MetricsFile,
    NotMetricsError,
    cut_metrics,
    read_columns,
)
from tfmix.training.best import BestTeam
from tfmix.training.playing import Scores, summarize


def test_summary_of_episodes_is_worked_out_by_hand():
    scores = Scores(
        np.float32([0.0, 1.0, 2.0, 5.0]),
        np.float32([3, 3, 4, 2]),
        np.float32([[1.0, np.nan], [0.0, np.nan], [np.nan, np.nan], [1.0, np.inf]]),
    )
    assert summarize(scores, ["won", "never"]) == {
        "greedy_return": 2.0,
        "greedy_return_std": pytest.approx(3.5**0.5),  # (4 + 1 + 0 + 9) / 4
        "greedy_return_q25": 0.75,
        "greedy_return_q50": 1.5,
        "greedy_return_q75": 2.75,
        "greedy_length": 3.0,
        "greedy_won": pytest.approx(2 / 3),
    }


def episodes_of(folder):
    return read_columns(folder / "evaluations.csv", EVALUATIONS)


def test_every_evaluation_is_kept_episode_by_episode_and_cut_at_a_resume(
    tmp_path, monkeypatch, builds
):
    settings = {"algo": "vdn", "env": "two_step", "env_steps": 300, "eval_episodes": 3}
    settings = {**PAIR, **settings, "log_period_env_steps": 50, "eval_period_env_steps": 100}
    whole = tfmix.train(run_dir=tmp_path / "whole", **settings).folder
    rows = [row for row in rows_of(whole) if row["greedy_return"]]
    assert [row["env_steps"] for row in rows] == ["100", "200", "300"]
    found = episodes_of(whole)
    assert found["env_steps"].tolist() == [100] * 3 + [200] * 3 + [300] * 3
    assert found["episode"].tolist() == [1, 2, 3] * 3
    for row, returns in zip(rows, found["return"].reshape(3, 3), strict=True):
        assert float(row["greedy_return"]) == pytest.approx(returns.mean())
        assert float(row["greedy_return_std"]) == pytest.approx(returns.std())
        assert float(row["greedy_return_q50"]) == pytest.approx(np.median(returns))
        assert float(row["greedy_length"]) == 2.0
    assert all(float(row["train_length"]) == 2.0 for row in rows_of(whole))
    assert (found["length"] == 2.0).all()
    with monkeypatch.context() as patch:
        stop_at(230, patch)
        tfmix.train(run_dir=tmp_path / "x", **settings)
    with (tmp_path / "x" / "evaluations.csv").open("a") as file:
        file.write("300,1,7.0,2\r\n300,2")  # of a process that was killed after its checkpoint
    assert tfmix.resume(tmp_path / "x").finished
    assert_same_run(tmp_path / "x", whole, 300)
    texts = [(folder / "evaluations.csv").read_bytes() for folder in (whole, tmp_path / "x")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x,1,2,3",
        "1,2,,3",
        "1,2,3",
        "1,2,3,4,5",
        "-1,1,2,3",
        "1.5,1,2,3",
        "\x00,1,2,3",
        "1,1,a,3",
    ],
)
def test_lines_of_evaluations_that_are_no_row_are_dropped(line, tmp_path):
    path = tmp_path / "evaluations.csv"
    path.write_text(f"env_steps,episode,return,length\n10,1,2.5,3\n{line}\n20,1,4.5,3\n")
    assert read_columns(path, EVALUATIONS)["return"].tolist() == [2.5, 4.5]
    cut_metrics(path, 10, EVALUATIONS)
    assert path.read_text().split() == ["env_steps,episode,return,length", "10,1,2.5,3"]


def test_evaluations_that_are_another_file_are_set_aside(tmp_path, capsys):
    path = tmp_path / "evaluations.csv"
    path.write_text("env_steps,episode\n1,2\n")
    with pytest.raises(NotMetricsError, match="no header"):
        read_columns(path, EVALUATIONS)
    cut_metrics(path, 10, EVALUATIONS)
    assert "set aside as evaluations.damaged.csv" in capsys.readouterr().err
    MetricsFile(path, list(EVALUATIONS.first), EVALUATIONS).close()
    with path.open() as file:
        assert tuple(*csv.reader(file)) == EVALUATIONS.first


def test_the_best_team_is_that_of_the_highest_return_and_of_equal_ones_the_later():
    live = tf.Module()
    live.x = tf.Variable([1.0, 2.0])
    best = BestTeam(live)
    assert not best.exists
    kept = []
    for number, found in enumerate([-3.0, -5.0, 1.0, 1.0, float("nan"), 0.5]):
        live.x.assign([float(number)] * 2)
        kept.append(best.offer(live, found, 10 * number))
    assert kept == [True, False, True, True, False, False]
    assert int(best.env_steps) == 30 and float(best.greedy_return) == 1.0
    with best.in_place_of(live):
        assert live.x.numpy().tolist() == [3.0, 3.0]
    assert live.x.numpy().tolist() == [5.0, 5.0]
    best.clear()
    assert not best.exists


@pytest.mark.whole_run
def test_the_best_team_is_exact_across_a_resume_is_exported_and_loaded(
    tmp_path, monkeypatch, builds, main_py
):
    settings = {**PAIR, "algo": "vdn", "env_steps": 600, "eval_period_env_steps": 100, "seed": 1}
    settings |= {"eval_episodes": 4, "learning_rate": 0.05, "updates_per_episode": 4}
    env = "mpe/simple_spread"
    whole = tfmix.train(env, run_dir=tmp_path / "whole", **settings)
    returns = {
        int(row["env_steps"]): float(row["greedy_return"])
        for row in rows_of(whole.folder)
        if row["greedy_return"]
    }
    highest = max(returns.values())
    at = max(step for step, value in returns.items() if value == highest)
    assert at != 600, "the test needs a best team that is not the last one"
    for end in (80, at + 30):
        with monkeypatch.context() as patch:
            stop_at(end, patch)
            if end == 80:
                tfmix.train(env, run_dir=tmp_path / "x", **settings)
            else:
                tfmix.resume(tmp_path / "x")
    assert tfmix.resume(tmp_path / "x").finished
    assert_same_run(tmp_path / "x", whole.folder, 600)
    obs = np.random.default_rng(0).normal(size=[3, 18]).astype(np.float32)
    values = {}
    for folder in (whole.folder, tmp_path / "x"):
        best, last = tfmix.load(folder, which="best"), tfmix.load(folder)
        assert (best.which, best.team_env_steps) == ("best", at)
        assert best.env_steps == last.team_env_steps == 600 and best.finished
        assert f"best team of {at}" in repr(best)
        values[folder] = best.q_values(obs)
        assert not np.array_equal(values[folder], last.q_values(obs))
        np.testing.assert_array_equal(whole.q_values(obs), last.q_values(obs))
        policy = tf.saved_model.load(str(folder / "export_best"))
        hidden = policy.signatures["initial_state"](batch_size=tf.constant(1))["hidden"]
        out = policy.signatures["act"](
            obs=tf.constant(obs[None]), legal=tf.fill([1, 3, 5], True), hidden=hidden
        )
        np.testing.assert_allclose(out["q"][0], values[folder], atol=1e-4)
    np.testing.assert_array_equal(*values.values())
    assert best.trainer.env_steps() == 600  # the trainer has the last team, and the run the best
    np.testing.assert_array_equal(best.q_values(obs), values[whole.folder])
    assert f"export_best, greedy return {highest:.2f} at {at} env steps" in whole.summary()
    words = ("--mode=evaluate", f"--run_dir={tmp_path / 'x'}", "--eval_episodes=2")
    shown = main_py(*words, "--which=best")
    assert shown.returncode == 0 and f"600 env steps, best team of {at}\n" in shown.stdout
    shutil.rmtree(tmp_path / "x" / "export_best")
    shown = main_py("--mode=export", f"--run_dir={tmp_path / 'x'}", "--which=best")
    assert shown.returncode == 0 and (tmp_path / "x" / "export_best").is_dir()


@pytest.mark.parametrize(
    "words,message",
    [
        (
            ["--mode=train", "--which=best"],
            "--which is for --mode=evaluate and --mode=watch and --mode=export, and this",
        ),
        (["--mode=evaluate", "--which=first"], "--which=first: value should be one of"),
    ],
)
def test_a_wrong_which_is_one_line(words, message, main_py):
    code, _, err = main_py(*words)
    assert code == 2 and message in err and err.count("\n") == 1


def test_a_run_without_an_evaluation_has_no_best_team(tmp_path, monkeypatch, builds):
    settings = {**PAIR, "algo": "vdn", "env": "two_step", "env_steps": 300}
    stop_at(60, monkeypatch)
    folder = tfmix.train(run_dir=tmp_path / "x", **settings).folder
    with pytest.raises(UserError, match=r"holds no best team, .* which='last' is the team as"):
        tfmix.load(folder, which="best")
    with pytest.raises(UserError, match="which='first': it takes one of last, best"):
        tfmix.load(folder, which="first")
