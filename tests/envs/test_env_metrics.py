"""Metrics of environments in both lanes, against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf

import tfmix
from tests.envs import metric_envs
from tests.envs.test_envs import make
from tests.envs.test_predator_prey import CATCH, STAY, act, hunt
from tests.monitoring.test_metrics import episodes_of
from tests.runs.test_resume import assert_same_run, stop_at
from tests.runs.test_run import PAIR, rows_of
from tests.training.test_collect import Countdown, first_legal
from tfmix import algos
from tfmix.config import resolve
from tfmix.envs.metrics import MOST_METRICS, check_names, choose, read_metrics
from tfmix.errors import UserError
from tfmix.training.collect_graph import GraphCollector
from tfmix.training.task import open_task

HERE = "tests.envs.metric_envs"
SEED = tf.constant([0, 1])


# What an info says.


def test_numbers_of_an_info_are_read_and_nothing_else():
    info = {
        **{"won": True, "dead": np.int64(3), "part": np.float32([0.5]), "far": 1e300},
        **{"nan": float("nan"), "map": "8m", "list": [1], "none": None, "mask": {"a": 1}},
        **{"action_mask": 1, "episode_limit": True, "TimeLimit.truncated": 1, 7: 8, "": 2},
        "left": {"speed": 1, "lone": 2.0},
        "right": {"speed": 4, "broken": float("inf"), "won": 9},
    }
    found = read_metrics(info, ["left", "right"])
    nan = [name for name, value in found.items() if math.isnan(value)]
    assert sorted(nan) == ["broken", "far", "nan"]
    assert {name: value for name, value in found.items() if name not in nan} == {
        **{"won": 1.0, "dead": 3.0, "part": 0.5},  # the team's own number counts
        **{"speed": 2.5, "lone": 2.0},
    }
    assert read_metrics({f"n{i}": i for i in range(10_000)}, []).keys() == {
        f"n{i}" for i in range(1_000)
    }
    for broken in (None, [1, 2], "text", 3, {("a", 1): 2}):
        assert read_metrics(broken, ["left"]) == {}


def test_at_most_32_names_are_chosen_and_the_others_are_named():
    names, told = choose([f"n{i:02}" for i in range(40)] + ["return", "length"])
    assert names == tuple(f"n{i:02}" for i in range(MOST_METRICS)) and "not n32, n33" in told
    assert choose(["b", "a"]) == (("a", "b"), "")


@pytest.mark.parametrize(
    "names,why",
    [
        ("won", "not a list"),
        ([f"n{i}" for i in range(33)], "at most 32"),
        (["won", "won"], "twice"),
        (["return"], "something else"),
        (["a\nb"], "printable"),
        (["x" * 61], "printable"),
        ([""], "printable"),
        ([3], "printable"),
    ],
)
def test_what_is_no_name_is_refused(names, why):
    with pytest.raises(ValueError, match=why):
        check_names(names)


# Environments in Python.


def collector_of(env, **settings):
    config = resolve.resolve({"algo": "vdn", "n_envs": 2, "env": env, "hidden_size": 8, **settings})
    task = open_task(config, to_train=False)
    return task.make_collector(algos.make("vdn", task.spec, config))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_infos_numbers_are_metrics_in_this_process_and_in_workers(workers):
    collector = collector_of(f"{HERE}:Skirmish", env_workers=workers)
    try:
        assert collector.metric_names == ("battle_won", "dead_allies", "endless", "round")
        episode, metrics = collector.play([3, 1], 0, 1.0, 9)
        last = episode.action[:, 1]
        np.testing.assert_array_equal(metrics[:, 0], last.min(-1))
        np.testing.assert_array_equal(metrics[:, 1], 2 - last.sum(-1))
        assert np.isnan(metrics[:, 2]).all() and (metrics[:, 3] == 2).all()
        assert 0 < metrics[:, 0].mean() < 1
        again = collector.collect([3, 1], 0, 1.0, 9)
        np.testing.assert_array_equal(again.action, episode.action)
    finally:
        collector.close()


def test_infos_by_agent_are_averaged_over_those_that_have_a_number(capsys):
    collector = collector_of(f"{HERE}:Pair", env_workers=0)
    assert collector.metric_names == ("only_left", "speed")
    assert collector.play([3, 1], 0, 1.0, 3).metrics.tolist() == [[7.0, 2.5]] * 3
    assert "has more in its info than is kept: not length" in capsys.readouterr().err


def test_what_comes_late_is_left_out_and_reported_once(capsys):
    for workers in (0, 1):
        name = f"{HERE}:Skirmish"
        collector = collector_of(name, env_workers=workers, env_arg=("late=8",), n_envs=1)
        assert "late" not in collector.metric_names
        for start in range(8):
            collector.play([3, 1], start, 1.0, 1)
        told = capsys.readouterr().err
        assert told.count("its info has late, which the episode before") == 1
        collector.close()


def test_a_number_that_an_episode_lacks_is_nan_and_does_not_count():
    collector = collector_of(f"{HERE}:Declared", env_workers=0)
    assert collector.metric_names == ("dead_allies", "never")
    episode, metrics = collector.play([3, 1], 0, 1.0, 6)
    np.testing.assert_array_equal(metrics[:, 0], 2 - episode.action[:, 1].sum(-1))
    assert np.isnan(metrics[:, 1]).all()
    collector = collector_of(f"{HERE}:Own", env_workers=0)
    episode, metrics = collector.play([3, 1], 0, 1.0, 6)
    np.testing.assert_array_equal(metrics[:, 0], episode.action.sum((1, 2)))


def test_wrong_names_are_one_line(main_py):
    with pytest.raises(UserError, match=r"Misdeclared: metric_names: a name comes twice"):
        collector_of(f"{HERE}:Misdeclared", env_workers=0)
    done = main_py(f"--env={HERE}:Misdeclared", "--algo=vdn", "--env_steps=4")
    assert done.returncode == 2 and "metric_names: a name comes twice" in done.stderr


# Environments in the graph.


class Counting(Countdown):
    """Row i of a batch ends after i + 1 steps; its metrics are the clock and 10 * i."""

    metric_names = ("clock", "tens")

    def _seen(self, clock, length):
        numbers = tf.stack([clock, 10 * (length - 1)], 1)
        return super()._seen(clock, length)._replace(metrics=tf.cast(numbers, tf.float32))


def test_a_graph_environments_metrics_are_those_of_the_last_step():
    played = GraphCollector(Counting(), first_legal, 2, False).play(SEED, tf.constant(0), 0.0, 4)
    np.testing.assert_array_equal(played.metrics, [[1, 0], [2, 10], [3, 20], [4, 30]])
    names = ("tens", "gone")  # as a run folder has them
    other = GraphCollector(Counting(), first_legal, 2, False, names)
    played = other.play(SEED, tf.constant(0), 0.0, 2)
    np.testing.assert_array_equal(played.metrics, [[0, np.nan], [10, np.nan]])
    none = GraphCollector(Counting(), first_legal, 2, False, ())
    assert none.play(SEED, tf.constant(0), 0.0, 2).metrics.shape == (2, 0)
    assert none.collect(SEED, tf.constant(0), 0.0, 2).reward.shape == (2, 5)
    lacking = GraphCollector(Countdown(), first_legal, 2, False, names)
    assert np.isnan(lacking.play(SEED, tf.constant(0), 0.0, 2).metrics).all()


def test_a_graph_environment_that_lacks_its_metrics_is_one_line():
    env = Countdown()
    env.metric_names = ("clock",)
    with pytest.raises(UserError, match=r"metrics of a step is no tensor, not \[2, 1\]"):
        GraphCollector(env, first_legal, 2, False).play(SEED, tf.constant(0), 0.0, 2)


def test_optimal_share_of_a_matrix_game_counts_rounds_with_the_highest_payoff():
    env = make("matrix/penalty_25", "max_cycles=3")  # 10 for (0, 2) and (2, 0)
    state, _ = env.reset(SEED, 3)
    for action in ([[0, 2], [0, 2], [0, 0]], [[2, 0], [1, 1], [0, 1]], [[0, 2], [2, 2], [1, 1]]):
        state, seen = env.step(state, tf.constant(action), SEED)
    np.testing.assert_allclose(seen.metrics, [[1], [1 / 3], [0]])


def test_amount_of_the_squeeze_is_the_mean_of_actions_times_states():
    env = make("gaussian_squeeze/k1", "n=3")
    _, seen = env.step(tf.constant([[0.5, 1.0, 2.0]]), tf.constant([[4, 10, 5]]), SEED)
    np.testing.assert_allclose(seen.metrics, [[22 / 3]])


def test_stag_hunt_counts_stags_and_penalties():
    env, state = hunt(".0... 1a2.. .3... ..... ....b")
    state, seen = act(env, state, CATCH, CATCH, CATCH, STAY)
    np.testing.assert_array_equal(seen.metrics, [[1, 0]])
    env, state = hunt("0a1.. ..... ..2b. ..... .....")
    state, seen = act(env, state, STAY, STAY, CATCH)
    np.testing.assert_array_equal(seen.metrics, [[0, 1]])
    state, seen = act(env, state, STAY, STAY, STAY)
    np.testing.assert_array_equal(seen.metrics, [[0, 1]])  # of the episode, not of the step


def test_spread_counts_covered_landmarks_and_pairs_that_touch():
    env = make("mpe/simple_spread")
    state, _ = env.reset(SEED, 1)
    state = state._replace(
        position=tf.constant([[[0.0, 0.0], [0.25, 0.0], [0.9, 0.9]]]),
        landmark=tf.constant([[[0.0, 0.05], [0.9, 0.75], [0.3, 0.0]]]),
    )
    still = tf.zeros([1, 3], tf.int32)
    state, seen = env.step(state, still, SEED)
    np.testing.assert_array_equal(seen.metrics, [[2, 1]])  # positions move by the old velocities
    state = state._replace(velocity=tf.zeros([1, 3, 2]))
    _, seen = env.step(state, still, SEED)
    np.testing.assert_array_equal(seen.metrics, [[2, 2]])


# Runs.


@pytest.mark.parametrize("lane", ["graph", "python"])
def test_metrics_of_a_run_are_exact_across_a_resume(lane, tmp_path, monkeypatch, builds):
    settings = {"algo": "vdn", "env_steps": 300, "log_period_env_steps": 50, **PAIR}
    settings |= {"eval_period_env_steps": 100, "eval_episodes": 4, "epsilon_anneal_env_steps": 100}
    if lane == "graph":
        env, own, names = "matrix/penalty_25", {"env_arg": ("max_cycles=5",)}, ["optimal_share"]
    else:
        env, own = f"{HERE}:Skirmish", {"env_workers": 0, "env_arg": ("some=true",)}
        names = ["battle_won", "dead_allies", "endless", "rare", "round"]
    whole = tfmix.train(env, run_dir=tmp_path / "whole", **settings, **own).folder
    rows = rows_of(whole)
    for name in names:
        filled = [row[f"greedy_{name}"] != "" for row in rows]
        evaluated = [row["greedy_return"] != "" for row in rows]
        assert any(evaluated) and all(e or not f for f, e in zip(filled, evaluated, strict=True))
        if name not in ("endless", "rare"):
            assert filled == evaluated and all(row[f"train_{name}"] for row in rows)
    assert json.loads((whole / "run.json").read_text())["metrics"] == names
    found = episodes_of(whole)
    assert list(found)[4:] == names
    if lane == "python":
        last = found["env_steps"] == 300
        mean = found["dead_allies"][last].mean()
        assert float(rows[-1]["greedy_dead_allies"]) == pytest.approx(mean)
        rare = [float(row["train_rare"]) for row in rows if row["train_rare"]]
        assert rare and set(rare) == {5.0} and not any(row["train_endless"] for row in rows)
    with monkeypatch.context() as patch:
        stop_at(230, patch)
        tfmix.train(env, run_dir=tmp_path / "x", **settings, **own)
    code = env if lane == "python" else None
    assert tfmix.resume(tmp_path / "x", env=code).finished
    assert_same_run(tmp_path / "x", whole, 300)
    texts = [(folder / "evaluations.csv").read_bytes() for folder in (whole, tmp_path / "x")]
    assert texts[0] == texts[1]
    report = tfmix.load(whole, env=code).report(4)
    assert f"\ngreedy {names[0]} " in report


def test_a_folder_without_the_new_columns_resumes_and_keeps_its_own(tmp_path, monkeypatch, builds):
    settings = {"algo": "vdn", "env_steps": 300, "log_period_env_steps": 50, **PAIR}
    folder = tmp_path / "x"
    with monkeypatch.context() as patch:
        stop_at(130, patch)
        tfmix.train("mpe/simple_spread", run_dir=folder, **settings)
    about = json.loads((folder / "run.json").read_text())
    del about["metrics"]
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "evaluations.csv").unlink()
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    new = [i for i, n in enumerate(rows[0]) if "_q" in n or "std" in n or n.endswith("length")]
    new += [i for i, n in enumerate(rows[0]) if "covered" in n or "collisions" in n]
    assert len(new) == 4 + 2 + 4
    kept = [",".join(x for i, x in enumerate(row) if i not in new) for row in rows]
    (folder / "metrics.csv").write_text("\n".join(kept) + "\n")
    strip_checkpoint(folder)
    assert tfmix.load(folder).env_steps < 300
    run = tfmix.resume(folder)
    assert run.finished and (folder / "export_best").is_dir()
    rows = rows_of(folder)
    assert rows[-1]["greedy_return"] and "greedy_collisions" not in rows[0]
    assert (episodes_of(folder)["env_steps"] == 300).all()
    assert "greedy_return" in run.metrics()


def strip_checkpoint(folder):
    """Writes the newest checkpoint as format 4 had it."""
    import hashlib

    from tfmix.runs import checkpoint

    newest = checkpoint.latest(folder / "checkpoints")
    about = checkpoint.read_manifest(newest)
    trainer = tfmix.load(folder).trainer
    old = checkpoint._without_newer(trainer.tensors, 4)
    for file in newest.iterdir():
        file.unlink()
    old.write(str(newest / "tensors"))
    sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in newest.iterdir()}
    text = checkpoint._text({**about, "format": 4, "sha256": sums})
    (newest / "manifest.json").write_text(text)


def test_wrong_names_in_run_json_are_one_line(tmp_path, builds):
    settings = {"algo": "vdn", "env": "two_step", "env_steps": 8, **PAIR}
    folder = tfmix.train(run_dir=tmp_path / "x", **settings).folder
    for wrong in ("won", ["a", "a"], [1], {"a": 1}, ["\x1b[2J"], ["n"] * 40):
        run = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**run, "metrics": wrong}))
        with pytest.raises(UserError, match=r"run.json is damaged: metrics: ") as caught:
            tfmix.load(folder)
        assert str(caught.value).isprintable()


def test_check_env_lists_metrics_with_their_means():
    rows = tfmix.check_env(f"{HERE}:Skirmish", env_workers=0, env_arg=("some=true",)).rows
    assert "battle_won (mean 0." in rows["metrics"] and "round (mean 2)" in rows["metrics"]
    assert "endless (no number in 0 of 20 episodes)" in rows["metrics"]
    assert "rare (mean 5 in " in rows["metrics"]
    assert tfmix.check_env(metric_envs.Own()).rows["metrics"].startswith("touched (mean ")
    assert tfmix.check_env("two_step").rows["metrics"] == "none"
    shown = tfmix.check_env("gaussian_squeeze/k1").rows["metrics"]
    assert shown.startswith("amount (mean ")
