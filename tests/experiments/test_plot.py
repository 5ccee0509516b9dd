"""Figures of runs: statistics by hand and by brute force, what is drawn, what is refused."""

import csv
import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import tfmix
from tfmix import algos, experiments
from tfmix.config import resolve
from tfmix.envs.bounds import return_bounds
from tfmix.errors import UserError
from tfmix.experiments import (
    curves,
    find_runs,
    grid,
    looks,
    marl_eval,
    plot,
    scores,
    statistics,
    table,
)
from tfmix.types import EnvSpec

ROOT = Path(__file__).resolve().parents[2]
HEADER = "env_steps,episodes,updates,seconds,train_return,greedy_return,loss,greedy_won"


def make_run(folder, algo="vdn", env="two_step", seed=0, values=(2.0, 4.0, 6.0), **changes):
    """Writes a run folder of 300 env steps without training; returns it."""
    about = changes.pop("about", {})
    spec = EnvSpec(env, 2, 2, 3, 3, 2, (2, 2), **changes.pop("spec", {}))
    rows = changes.pop("rows", None)
    settings = {"algo": algo, "env": env, "seed": seed, "env_steps": 300, **changes}
    config = resolve.resolve(settings)
    stored = {
        "format": 1,
        "config": dataclasses.asdict(config),
        "spec": dataclasses.asdict(spec),
        "git_commit": "abc123",
        "finished": 300,
        "versions": {"tfmix": "0.1.0"},
        "hardware": {"system": "Linux", "device": "CPU", "cores": 2},
        **about,
    }
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(stored))
    if rows is None:
        rows = [
            f"{100 * n},{50 * n},{25 * n},{n / 2},1.0,{value},0.1,"
            for n, value in enumerate(values, 1)
        ]
    (folder / "metrics.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory):
    """Five seeds of VDN and three of IQL on two tasks, drawn; the runs and the files."""
    root = tmp_path_factory.mktemp("plot")
    for env, (algo, seeds) in itertools.product(
        ("two_step", "matrix/qtran"), {"iql": 3, "vdn": 5}.items()
    ):
        for seed in range(seeds):
            low = seed + 2.0 * (algo == "vdn")
            make_run(root / env / algo / f"s{seed}", algo, env, seed, (low - 3, low - 1, low))
    return root, plot.draw(find_runs.find(root), show_runs=True)


# Statistics.


def test_interquartile_mean_is_the_mean_of_the_middle_half():
    def mean(*values):
        return float(statistics.interquartile_mean([np.asarray(values)]))

    assert mean(1.0, 5.0, 3.0) == 3.0  # three runs: their mean
    assert mean(0.0, 1.0, 2.0, 100.0) == 1.5
    assert mean(100.0, 1.0, 2.0, 3.0, -50.0) == 2.0
    both = [np.asarray([0.0, 8.0]), np.asarray([1.0, 3.0])]
    assert statistics.interquartile_mean(both) == 2.0  # of all tasks together


def test_profile_and_probability_of_improvement_by_hand():
    runs = [np.asarray([0.0, 0.5]), np.asarray([0.5, 1.0])]
    shares = statistics.performance_profile(runs, np.asarray([-1.0, 0.0, 0.5, 1.0]))
    assert shares.tolist() == [1.0, 0.75, 0.25, 0.0]
    better = (np.asarray([3.0, 1.0]), np.asarray([1.0, 2.0]))  # wins 2, ties 1 of 4
    worse = (np.asarray([0.0]), np.asarray([1.0]))
    assert statistics.probability_of_improvement([better]) == 0.625
    assert statistics.probability_of_improvement([better, worse]) == 0.3125


@pytest.mark.parametrize("name", ["mean", "interquartile"])
def test_interval_is_that_of_all_resamples(name):
    """Five runs of a task and two of another have 5^5 2^2 resamples: all are computed."""

    def mean(tasks):
        return np.concatenate(tasks).mean(axis=0)

    statistic = mean if name == "mean" else statistics.interquartile_mean
    tasks = [np.asarray([0.0, 0.13, 0.41, 0.87, 1.0]), np.asarray([0.2, 0.9])]
    every = [
        statistic([tasks[0][list(first)], tasks[1][list(second)]])
        for first in itertools.product(range(5), repeat=5)
        for second in itertools.product(range(2), repeat=2)
    ]
    found = statistics.interval(tasks, statistic, 20_000)
    assert np.allclose(found, np.percentile(every, [2.5, 97.5]), atol=0.015)
    again = statistics.interval(tasks, statistic, 20_000)
    assert found == again  # the same interval twice


def test_points_of_a_curve_are_resampled_together():
    run = np.random.default_rng(0).normal(size=(6, 1))
    low, high = statistics.interval([np.repeat(run, 3, axis=1)], statistics.interquartile_mean)
    assert (low == low[0]).all() and (high == high[0]).all() and low[0] < high[0]
    alone = statistics.interval([run], statistics.interquartile_mean)
    assert alone[0][0] == low[0]  # whatever else is drawn


# Computed by rliable 1.2.0 (https://github.com/google-research/rliable; arch 7.2.0, pandas 2.3.3)
# with 20,000 resamples after numpy.random.seed(3): it ignores its own random_state. It cannot be
# installed beside TF-Agents' pins. Rows are runs, columns tasks; the interval is the percentile
# bootstrap with each task as a stratum.
ORACLE_X = [
    [1.001, 1.299],
    [0.726, 0.109],
    [0.545, 0.008],
    [1.06, 2.34],
    [0.508, 0.38],
    [1.49, 1.357],
    [1.105, 0.07],
]
ORACLE_Y = [
    [0.471, 1.195],
    [-0.844, 0.042],
    [-1.401, -0.79],
    [-1.342, 0.265],
    [-0.767, 0.771],
    [0.657, 0.313],
]
RLIABLE = {
    "iqm": ([0.828], [[0.46774], [1.18776]]),
    "poi": ([0.79761905], [[0.61904762], [0.94047619]]),
    "profile": (
        [1.0, 1.0, 10 / 14, 0.5, 1 / 14],
        [[1.0, 1.0, 8 / 14, 3 / 14, 0.0], [1.0, 1.0, 13 / 14, 11 / 14, 3 / 14]],
    ),
}


def test_numbers_are_those_of_rliable():
    x, y = (list(np.asarray(table).T) for table in (ORACLE_X, ORACLE_Y))
    taus = np.asarray([-0.5, 0.0, 0.5, 1.0, 1.5])
    pairs = list(zip(x, y, strict=True))

    def profile(tasks):
        return statistics.performance_profile(tasks, taus)

    found = {
        "iqm": (
            statistics.interquartile_mean(x),
            statistics.interval(x, statistics.interquartile_mean, 20_000),
        ),
        "poi": (
            statistics.probability_of_improvement(pairs),
            statistics.improvement_interval(pairs, 20_000),
        ),
        "profile": (profile(x), statistics.interval(x, profile, 20_000)),
    }
    for name, (value, ends) in found.items():
        # A share of 14 runs is a multiple of 1/14: near a quantile, samples differ by one.
        most = 1 / 14 if name == "profile" else 0.02
        assert np.allclose(value, RLIABLE[name][0], atol=1e-8), name
        theirs = np.reshape(RLIABLE[name][1], [2, -1])
        assert np.abs(np.reshape(ends, [2, -1]) - theirs).max() < most + 1e-6, name


# What is drawn.


def test_figures_and_data_are_written_whole(two_tasks):
    root, drawn = two_tasks
    names = {file.name for file in drawn.files}
    figures = {f"{name}.{end}" for name in ("curves", "final", "profile", "improvement")
               for end in ("png", "svg", "pdf")}  # fmt: skip
    assert names == figures | {"curves.csv", "statistics.csv", "marl_eval.json"}
    assert all(file.parent == root / "plots" for file in drawn.files)
    picture = imread(root / "plots" / "curves.png")
    assert picture.shape[1] > 1000 and 0.02 < (picture[..., :3].min(-1) < 0.9).mean() < 0.6
    assert (root / "plots" / "curves.pdf").read_bytes().startswith(b"%PDF")
    svg = (root / "plots" / "curves.svg").read_text()
    assert svg.startswith("<?xml") and looks.COLORS["vdn"][0].lower() in svg.lower()


def test_same_runs_have_the_same_bytes(two_tasks, tmp_path):
    root, drawn = two_tasks
    again = plot.draw(find_runs.find(root), out=tmp_path / "new" / "er", show_runs=True)
    for first, second in zip(drawn.files, again.files, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name


def test_curves_csv_has_a_row_for_each_point_of_each_run(two_tasks):
    root, _ = two_tasks
    with (root / "plots" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 8 * 3
    (row,) = [
        r for r in rows if r["folder"] == str(root / "two_step/vdn/s4") and r["updates"] == "75"
    ]
    assert (row["task"], row["algorithm"], row["seed"]) == ("two_step", "vdn", "4")
    assert (row["env_steps"], row["seconds"], row["value"]) == ("300", "1.5", "6.0")


def test_statistics_csv_has_what_is_drawn(two_tasks):
    root, _ = two_tasks
    with (root / "plots" / "statistics.csv").open() as file:
        rows = list(csv.DictReader(file))
    final = {(r["task"], r["algorithm"]): r for r in rows if r["figure"] == "final"}
    assert float(final["two_step", "VDN"]["value"]) == 4.0 and final["two_step", "VDN"]["n"] == "5"
    assert final["two_step", "IQL"]["value"] == ""  # three runs have no interval
    # Scores 2 to 6 of bounds 0 to 8 and -12 to 8: the middle six of the ten.
    every = sorted([x / 8 for x in (2, 3, 4, 5, 6)] + [(x + 12) / 20 for x in (2, 3, 4, 5, 6)])
    assert float(final[scores.ALL_TASKS, "VDN"]["value"]) == pytest.approx(np.mean(every[2:8]))
    curve = [r for r in rows if r["figure"] == "curves" and r["task"] == "two_step"]
    assert [(r["x"], r["value"]) for r in curve] == [
        ("100.0", "1.0"),
        ("200.0", "3.0"),
        ("300.0", "4.0"),
    ]
    (pair,) = [r for r in rows if r["figure"] == "improvement"]
    assert pair["algorithm"] == "VDN over IQL"


def test_marl_eval_json_has_its_levels(two_tasks):
    root, _ = two_tasks
    found = json.loads((root / "plots" / "marl_eval.json").read_text())
    assert set(found) == {"two_step", "matrix"} and set(found["matrix"]) == {"qtran"}
    run = found["matrix"]["qtran"]["VDN"]["seed_1"]
    assert run["step_2"] == {"step_count": 300, "elapsed_time": 1.5, "return": [3.0]}


def test_marl_eval_json_has_episodes_and_the_absolute_metric(tmp_path):
    run = make_run(tmp_path / "run")
    lines = ["env_steps,episode,return,length,won", "300,0,5,2,1", "300,1,7,2,0", "300,2,"]
    (run / "evaluations.csv").write_text("\n".join(lines))
    (run / marl_eval.ABSOLUTE).write_text('{"greedy_return": [6.0, 7.5]}')
    assert marl_eval.episodes_of(run, "greedy_return") == {300: [5.0, 7.0]}
    assert marl_eval.episodes_of(run, "greedy_won") == {300: [1.0, 0.0]}
    assert marl_eval.episodes_of(run, "loss") == {}
    tasks = curves.by_task(curves.read([run]))
    found = json.loads(marl_eval.as_json(tasks, "greedy_return"))["two_step"]["two_step"]["VDN"]
    assert found["seed_0"]["step_2"]["return"] == [5.0, 7.0]
    assert found["seed_0"]["step_0"]["return"] == [2.0]  # the mean, since no episodes are kept
    assert found["seed_0"]["absolute_metrics"] == {"return": [6.0, 7.5]}


def test_fewer_than_five_runs_are_drawn_themselves(tmp_path):
    for seed in range(4):
        make_run(tmp_path / f"{seed}", seed=seed)
    drawn = plot.draw(find_runs.find(tmp_path))
    assert "n=4" in drawn.lines[0] and "fewer than 5 seeds: no interval" in drawn.lines[0]
    results = scores.of(
        curves.by_task(curves.read(find_runs.find(tmp_path))),
        "greedy_return",
        "x"[:0] or "env_steps",
    )
    assert not len(results.curves[0].value) and not len(results.curves[0].low)


def test_tasks_without_bounds_are_not_put_together(tmp_path):
    for env in ("two_step", "mpe/simple_spread"):
        for seed in range(5):
            make_run(tmp_path / env / f"{seed}", env=env, seed=seed)
    drawn = plot.draw(find_runs.find(tmp_path))
    assert drawn.lines[-1] == (
        "no score over all tasks: no bounds of greedy_return are declared for mpe/simple_spread"
    )
    tasks = curves.by_task(curves.read(find_runs.find(tmp_path)))
    assert curves.bounds_of(tasks, "loss") == {}


@pytest.mark.parametrize("x,last", [("env_steps", 300.0), ("updates", 75.0), ("seconds", 1.5)])
def test_any_axis_and_metric_is_drawn(tmp_path, x, last):
    run = make_run(tmp_path / "run")
    (group,) = curves.by_task(curves.read([run]))["two_step"]
    points, values = curves.on_common_points(group, "loss", x)
    assert points[-1] == last and values.shape == (1, 3) and (values == 0.1).all()


def test_runs_of_different_lengths_end_at_the_shortest(tmp_path):
    make_run(tmp_path / "a", seed=0)
    make_run(tmp_path / "b", seed=1, values=(3.0, 5.0))
    tasks = curves.by_task(curves.read(find_runs.find(tmp_path)))
    points, values = curves.on_common_points(tasks["two_step"][0], "greedy_return", "env_steps")
    assert points.tolist() == [100, 200] and values.tolist() == [[2.0, 4.0], [3.0, 5.0]]
    results = scores.of(tasks, "greedy_return", "env_steps")
    assert results.final[0].runs.tolist() == [6.0] and "1 of 2 runs are not" in results.notes[0]


def test_different_points_are_joined_by_lines():
    at, value = np.asarray([0.0, 10.0]), np.asarray([0.0, 1.0])
    other = np.asarray([5.0, 20.0]), np.asarray([7.0, 7.0])

    class Run:
        def __init__(self, curve):
            self.found = curve

        def curve(self, metric, x):
            return self.found

    group = curves.Group("vdn", (), (Run((at, value)), Run(other)))
    points, values = curves.on_common_points(group, "m", "env_steps")
    assert points.tolist() == [5.0, 10.0] and values.tolist() == [[0.5, 1.0], [7.0, 7.0]]


def test_other_settings_are_another_curve(tmp_path):
    for seed in range(2):
        make_run(tmp_path / f"a{seed}", seed=seed)
        make_run(tmp_path / f"b{seed}", seed=seed, gamma=0.5)
        make_run(tmp_path / f"c{seed}", "qmix", seed=seed)
    groups = curves.by_task(curves.read(find_runs.find(tmp_path)))["two_step"]
    assert [group.label for group in groups] == ["VDN gamma=0.5", "VDN gamma=0.99", "QMIX"]
    drawn = looks.looks_of(group.key for group in groups)
    assert len({look.color for look in drawn.values()}) == 2 and len(set(drawn.values())) == 3


def test_algorithms_have_fixed_colours_in_the_registrys_order():
    assert list(looks.COLORS) == list(curves.NAMES) == list(algos.REGISTRY)
    assert len(set(looks.COLORS.values())) == len({m for _, m in looks.COLORS.values()}) == 9


# Machado et al. (2009), table 1, severity 1: protanopia, deuteranopia, tritanopia.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lab(colors):
    """CIE L*a*b* of linear RGB, [..., 3]."""
    xyz = colors @ np.transpose(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    f = np.cbrt(np.clip(xyz / [0.9505, 1.0, 1.089], 1e-6, None))
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)


@pytest.mark.parametrize("name", BLINDNESS)
def test_colours_differ_for_the_colour_blind(name):
    rgb = np.asarray(
        [[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c, _ in looks.COLORS.values()]
    )
    seen = lab(np.clip((rgb**2.2) @ np.transpose(BLINDNESS[name]), 0, 1))
    distance = np.linalg.norm(seen[:, None] - seen, axis=-1)
    assert distance[~np.eye(9, dtype=bool)].min() > 8  # 2.3 is just noticeable


def test_bounds_are_those_of_the_tables():
    from tfmix import envs

    for name in envs.GRAPH:
        words = ("payoff=[[1,2],[3,4]]", "max_cycles=3") if name == "matrix/custom" else ()
        config = resolve.resolve({"env": name, "env_arg": words})
        bounds = return_bounds(config)
        assert (bounds is not None) == name.startswith(("two_step", "matrix/")), name
        if bounds and name != "two_step":
            env = envs.make_graph(name, config)
            rounds = env.spec.episode_limit
            table = np.asarray(env.table, np.float64) * rounds
            assert bounds == pytest.approx((table.min(), table.max())), name
    for wrong in ("payoff=3", "payoff=[[1,1],[1,1]]", "max_cycles=x"):
        config = resolve.resolve({"env": "matrix/custom", "env_arg": (wrong,)})
        assert return_bounds(config) is None


# Runs that are found and refused.


def test_runs_are_found_by_folder_and_glob_each_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x/1", "a/y/2", "b[1]"):
        make_run(Path("runs", name))
    (tmp_path / "runs" / "a" / "link").symlink_to("x")
    names = {
        "runs": ["runs/a/x/1", "runs/a/y/2", "runs/b[1]"],
        "runs/**": ["runs/a/x/1", "runs/a/y/2", "runs/b[1]"],
        "runs/a/*": ["runs/a/x/1", "runs/a/y/2"],
        "runs/a/link": ["runs/a/link/1"],
        "runs/b[1]": ["runs/b[1]"],
        "runs/*/y": ["runs/a/y/2"],
        "runs/a/x/1/run.json": ["runs/a/x/1"],
    }
    for pattern, found in names.items():
        assert [str(path) for path in find_runs.find(pattern)] == found, pattern
    assert len(find_runs.find(["runs", "runs/a", "./runs/b[1]"])) == 3


@pytest.mark.parametrize(
    "pattern,why",
    [
        ("none", "there is no such folder"),
        ("empty", "there is no run.json in the folder or below it"),
        ("no*ne/**", "quote the pattern"),
        ("file", "it is a file"),
        ("~nobody_has_this_name/x", "nobody_has_this_name"),
        ("x" * 5000, "there is no such folder"),
    ],
)
def test_no_runs_is_one_line(pattern, why, tmp_path, monkeypatch, main_py):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").write_text("")
    for mode in ("plot", "runs"):
        done = main_py(f"--mode={mode}", f"--runs={pattern}")
        assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
        assert why in done.stderr and len(done.stderr) < 800


@pytest.mark.parametrize(
    "changes,said",
    [
        ({"spec": {"version": "2"}}, "differ in the environment's version: 1 ("),
        ({"spec": {"team_reward": "mean"}}, "differ in the team's reward"),
        ({"time_limit": "terminal"}, "differ in --time_limit: bootstrap ("),
        ({"eval_episodes": 7}, "differ in --eval_episodes"),
        ({"eval_period_env_steps": 7}, "differ in --eval_period_env_steps"),
        ({"updates_per_episode": 2.0}, "differ in --updates_per_episode"),
        ({"seed": 0}, "have the same settings and seed 0, and would count twice"),
    ],
)
def test_runs_that_differ_are_refused_with_the_difference(tmp_path, changes, said):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", **{"seed": 1, **changes})
    with pytest.raises(UserError, match="force draws them and marks the figures") as error:
        tfmix.plot(tmp_path)
    assert said.replace("--", "") in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "plots").exists()


def test_forced_figures_have_a_footnote(tmp_path, capsys):
    make_run(tmp_path / "a", "iql")
    make_run(tmp_path / "b", "iql", seed=1, time_limit="terminal")
    plain = tfmix.plot(tmp_path / "a", out=tmp_path / "plain")
    assert capsys.readouterr().err == ""
    forced = tfmix.plot(str(tmp_path), force=True)
    assert "tfmix: forced: runs on two_step differ in --time_limit" in capsys.readouterr().err
    for file in (file for file in forced if file.suffix == ".png"):
        marked = imread(file)
        red = (marked[..., 0] > 0.6) & (marked[..., 1] < 0.4) & (marked[..., 2] < 0.4)
        assert red[-60:].sum() > 50, file
    assert imread(plain[0]).shape[0] < imread(forced[0]).shape[0]


def test_times_are_compared_on_one_machine_alone(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", seed=1, about={"hardware": {"device": "H100"}})
    tasks = curves.by_task(curves.read(find_runs.find(tmp_path)))
    from tfmix.experiments.comparable import differences

    assert not differences(tasks, "env_steps")
    assert "differ in the machine" in differences(tasks, "seconds")[0]


NO_EVALUATION = ["100,50,25,0.5,1.0,,0.1,"]


@pytest.mark.parametrize(
    "words,said",
    [
        (
            ["--metric=gredy_return"],
            "no run has a metric 'gredy_return'; did you mean 'greedy_return'?",
        ),
        (["--metric=zzz"], "no run has a metric 'zzz'; there are greedy_return, greedy_won, loss"),
        (["--metric=greedy_won"], "no value of greedy_won yet"),
        (["--x=step"], "--x=step: it is one of env_steps, updates, seconds"),
        (["--out=run/run.json"], "cannot write to run/run.json"),
        (["--gamma=0.5"], "does not read --gamma; it reads --runs, --metric, --x"),
        (["--sort=best"], "--sort is for --mode=runs"),
        (["--run_dir=run"], "write --runs=run"),
        (["run/x"], "runs are --runs, once for each"),
    ],
)
def test_a_wrong_request_is_one_line(words, said, tmp_path, monkeypatch, main_py):
    monkeypatch.chdir(tmp_path)
    make_run(Path("run"))
    done = main_py("--mode=plot", "--runs=run", *words)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done
    assert said in done.stderr
    assert main_py("--mode=train", "--runs=run").stderr.startswith(
        "tfmix: --runs is for --mode=plot"
    )
    assert "needs --runs" in main_py("--mode=plot").stderr


def test_runs_that_cannot_be_drawn_are_left_out_with_a_line(tmp_path, capsys):
    good = make_run(tmp_path / "good")
    make_run(tmp_path / "none", seed=1, rows=NO_EVALUATION)
    make_run(tmp_path / "broken", seed=2)
    (tmp_path / "broken" / "run.json").write_text("{")
    make_run(tmp_path / "new", seed=3)
    (tmp_path / "new" / "metrics.csv").unlink()
    make_run(tmp_path / "odd", seed=4)
    (tmp_path / "odd" / "metrics.csv").write_text("nonsense\n")
    make_run(tmp_path / "linked", seed=5)
    (tmp_path / "linked" / "x").symlink_to("/etc/hostname")
    with (good / "metrics.csv").open("a") as file:
        file.write("400,200,100,2.0,1.")  # a row that is being written
    assert len(tfmix.plot(tmp_path)) == 3 * 3 + 3
    said = capsys.readouterr().err
    assert said.count("left out: ") == 4 and said.count("\n") == 5
    assert f"left out, no value of greedy_return: {tmp_path / 'none'}" in said
    with pytest.raises(UserError, match="none of the runs can be read"):
        tfmix.plot(tmp_path / "broken")
    with pytest.raises(UserError, match="has no value of greedy_return yet"):
        tfmix.plot(tmp_path / "none")


def test_text_of_a_run_folder_cannot_be_a_formula(tmp_path):
    make_run(tmp_path / "run", env="gymnasium/a$^_x", spec={})
    assert tfmix.plot(tmp_path)


# Commands.


def test_plot_and_runs_import_no_tensorflow(two_tasks, tmp_path):
    root, _ = two_tasks
    for words in (["--mode=plot", f"--out={tmp_path}"], ["--mode=runs"]):
        code = (
            f"import sys, main; code = main.main({[*words, f'--runs={root}']!r});"
            "assert not {'tensorflow', 'tf_keras'} & set(sys.modules);"
            f"assert ('matplotlib' in sys.modules) == ('plot' in {words[0]!r}); sys.exit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr
        assert "two_step" in done.stdout and "VDN" in done.stdout.upper()


def test_a_benchmark_ends_with_its_figures_and_keeps_its_tables_without(
    tmp_path, monkeypatch, capsys
):
    asked = grid.make("vdn", "two_step", "0:2", tmp_path, {"env_steps": 300})
    for cell in asked.cells:
        make_run(cell.folder, seed=cell.config.seed)
    known = [table.row_of(cell) for cell in asked.cells]
    experiments._draw(tmp_path, known)
    assert (tmp_path / "plots" / "curves.png").is_file() and capsys.readouterr().err == ""
    monkeypatch.setattr(plot, "draw", lambda *_, **__: 1 / 0)
    experiments._draw(tmp_path, known)
    said = capsys.readouterr().err
    assert "no figures are drawn: ZeroDivisionError" in said and said.count("\n") == 1
    none = grid.make("qmix", "two_step", "0", tmp_path / "none", {})
    experiments._draw(tmp_path, [table.row_of(cell) for cell in none.cells])
    assert capsys.readouterr().err == ""
