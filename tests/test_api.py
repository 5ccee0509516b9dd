"""The Python interface: names, signatures, errors in its terms, what a run can tell."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tfmix
from tests.training.test_collect import PythonCountdown
from tfmix.config import parsing, resolve, values, wording
from tfmix.config.schema import FIELDS, Config
from tfmix.errors import UserError
from tfmix.runs import by_name
from tfmix.types import AgentShape, EnvSpec

SETTINGS = {"n_envs": 2, "hidden_size": 8, "batch_episodes": 8, "eval_episodes": 2}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A trained run, and what its training printed."""
    import contextlib
    import io

    out, err = io.StringIO(), io.StringIO()
    folder = tmp_path_factory.mktemp("api") / "run"
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        run = tfmix.train("two_step", "VDN", env_steps=64, run_dir=folder, **SETTINGS)
    return run, out.getvalue(), err.getvalue()


@pytest.fixture
def run(shown):
    return shown[0]


def test_tab_shows_what_there_is_and_signatures_name_the_main_settings():
    names = [name for name in dir(tfmix) if not name.startswith("_")]
    assert names == sorted(
        [
            "Run",
            "RunFailedError",
            "UserError",
            "benchmark",
            "check_env",
            "list_runs",
            "load",
            "plot",
            "resume",
            "train",
        ]
    )
    parameters = inspect.signature(tfmix.train).parameters
    assert list(parameters)[:6] == ["env", "algo", "seed", "env_steps", "run_dir", "progress"]
    assert parameters["seed"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["algo"].default == Config.algo
    assert (Path(tfmix.__file__).parent / "py.typed").is_file()


def test_names_are_shown_without_tensorflow():
    code = "import sys, tfmix; assert 'train' in dir(tfmix); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"env": "vdn", "algo": "two_step"}, "comes first: tfmix.train('two_step', 'vdn')"),
        ({"env": "VDN"}, "'VDN' is an algorithm"),
        ({"algo": 3}, "algo=3: it takes the name of an algorithm"),
        ({"lr": 0.1}, "there is no argument lr: the learning rate is learning_rate"),
        ({"gama": 0.1}, "there is no argument gama; did you mean gamma?"),
        ({"zzz": 0.1}, "there is no argument zzz; python -m tfmix"),
        ({"learning_rate": -1}, "learning_rate=-1: it takes a number of at least 0"),
        ({"learning_rate": "1e-3"}, "learning_rate='1e-3': it takes a number"),
        ({"env_steps": 10.5}, "env_steps=10.5: it takes a whole number of at least 1"),
        ({"env_steps": "1000"}, "env_steps='1000': it takes a whole number"),
        ({"env_steps": True}, "env_steps=True: it takes a whole number"),
        ({"double_q": 1}, "double_q=1: it takes true or false"),
        ({"hidden_size": float("nan")}, "hidden_size=nan: it takes a whole number"),
        ({"time_limit": "never"}, "time_limit='never': it takes one of bootstrap, terminal"),
        ({"env_arg": {"n": object()}}, "env_arg={'n': <object"),
        ({"algo": "vdn", "mixer_embed": 8}, "mixer_embed has no effect here: vdn does not read"),
        ({"env": "two_step", "env_workers": 0}, "env_workers has no effect here"),
        ({"update_shards": 5}, "update_shards=5 does not divide batch_episodes=32"),
        ({"env": "matrix/custom"}, "matrix/custom needs env_arg={'payoff': ...}"),
    ],
)
def test_errors_speak_of_arguments(arguments, message):
    arguments = {"env": "mpe/simple_spread", **arguments}
    with pytest.raises(UserError) as caught:
        tfmix.train(**arguments)
    assert message in str(caught.value) and " --" not in str(caught.value).replace(
        "tfmix --help", ""
    )


def test_errors_of_the_other_functions_speak_of_arguments_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"seeds=3: .* the first 3 seeds are range\(3\)"):
        tfmix.benchmark("vdn", "two_step", 3)
    with pytest.raises(UserError, match="vdn are algorithms, and these come first"):
        tfmix.benchmark("two_step", "vdn", [0])
    with pytest.raises(UserError, match="mixer_embed has no effect here: vdn does not read it"):
        tfmix.benchmark("vdn", "two_step", [0], mixer_embed=8)
    with pytest.raises(UserError, match=r"learning_rate has no effect here: tfmix\.check_env"):
        tfmix.check_env("two_step", learning_rate=0.1)
    Path("x").mkdir()
    Path("x/run.json").write_text("{}")
    with pytest.raises(UserError, match=r"already holds a run: tfmix\.resume continues it"):
        tfmix.train("two_step", run_dir="x")


@pytest.mark.parametrize(
    "text,wanted",
    [
        ("set a smaller --n_envs, please", "set a smaller n_envs, please"),
        ("add --env=gymnasium/evil:x if so", "add env='gymnasium/evil:x' if so"),
        ("(--seed=3).", "(seed=3)."),
        ("--mode=resume continues", "tfmix.resume continues"),
        ("a --wild flag", "a --wild flag"),
        ("see --seed; paste: python main.py --seed=3", "see seed; paste: python main.py --seed=3"),
    ],
)
def test_flags_become_arguments(text, wanted):
    assert wording.as_arguments(text) == wanted


def test_the_command_line_keeps_its_flags():
    @wording.in_python
    def refuse():
        raise UserError("--seed is wrong")

    with wording.of_flags(), pytest.raises(UserError, match="--seed is wrong"):
        refuse()
    with pytest.raises(UserError, match=r"^seed is wrong"):
        refuse()


def test_numbers_of_numpy_and_whole_floats_keep_their_meaning():
    given = {"env_steps": 4e2, "gamma": np.float32(0.5), "seed": np.int64(3), "double_q": np.True_}
    chosen = resolve.resolve(given)
    assert (chosen.env_steps, chosen.gamma, chosen.seed, chosen.double_q) == (400, 0.5, 3, True)
    assert [type(getattr(chosen, name)) for name in given] == [int, float, int, bool]


def test_text_and_python_have_the_same_bounds_for_every_number():
    for name, field in FIELDS.items():
        for bound, beyond in (("low", -1), ("high", 1)):
            if bound in field.metadata:
                edge = field.metadata[bound]
                assert values.check(name, edge) == values.from_text(name, str(edge)) == edge
                for read, value in ((values.check, edge + beyond), (values.from_text, "")):
                    with pytest.raises(ValueError, match="it takes"):
                        read(name, value or str(edge + beyond))


def test_settings_become_flags_that_are_read_as_the_same(tmp_path):
    given = {"run_dir": tmp_path / "a b", "learning_rate": 1e-5, "env_arg": {"n": [1, "x"]}}
    assert parsing.parse(parsing.as_flags(given)) == {
        "run_dir": str(tmp_path / "a b"),
        "learning_rate": 1e-5,
        "env_arg": ['n=[1, "x"]'],
    }


def test_a_training_says_which_flagfiles_counted_and_how_far_it_is(shown):
    run, out, err = shown
    files = ["flags/env/two_step.flags", "flags/algo/vdn.flags"]
    assert f"flagfiles: {', '.join(files)}\n" in out
    import json

    assert json.loads((run.folder / "run.json").read_text())["flagfiles"] == files
    lines = err.splitlines()
    assert lines[:2] == ["building ...", "compiling ..."] and lines[-1] == "exporting ..."
    assert lines[-2].startswith("64 of 64 env steps, ") and " updates, " in lines[-2]
    assert " elapsed, 0 s left" in lines[-2]


def test_a_run_says_what_it_is(run):
    assert repr(run) == f"<tfmix.Run: vdn on two_step, seed 0, 64 of 64 env steps, {run.folder}>"
    assert isinstance(run, tfmix.Run)


def test_metrics_are_columns(run, monkeypatch):
    found = run.metrics()
    assert list(found)[:3] == ["env_steps", "episodes", "updates"]
    assert int(found["env_steps"][len(found["env_steps"]) - 1]) == 64
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    columns = run.metrics()
    assert columns["updates"].dtype == np.int64
    assert np.isnan(columns["greedy_return"][:-1]).all() and columns["greedy_return"][-1] >= 0
    empty = run.folder / "metrics.csv"
    kept = empty.read_text()
    try:
        empty.write_text(kept.splitlines()[0] + "\n")
        assert {len(column) for column in run.metrics().values()} == {0}
        empty.unlink()
        with pytest.raises(tfmix.RunFailedError, match=r"cannot read .*: No such file"):
            run.metrics()
    finally:
        empty.write_text(kept)


def test_q_values_are_those_that_act_chooses_by(run):
    run.reset()
    obs = np.eye(3)[[0, 0]]
    q = run.q_values(obs)
    assert q.shape == (2, 2) and q.dtype == np.float32
    np.testing.assert_array_equal(q, run.q_values(obs))  # the memory is unchanged
    np.testing.assert_array_equal(q.argmax(-1), run.act(obs))
    second = run.q_values(obs)
    assert not np.array_equal(q, second)
    masked = run.q_values(np.stack([obs, obs]), [[True, False], [False, True]])
    assert np.isneginf(masked).tolist() == [[[False, True], [True, False]]] * 2
    with pytest.raises(UserError, match="obs has shape"):
        run.q_values(np.eye(2))


def test_rollouts_are_the_episodes_of_evaluations(run):
    episodes = run.rollout(3)
    assert [one.reward.sum() for one in episodes] == run.evaluate(3).tolist()
    first = episodes[0]
    assert [part.shape for part in first] == [
        (3, 2, 3),
        (3, 3),
        (3, 2, 2),
        (2, 2),
        (2,),
        (2,),
        (2,),
    ]
    assert first.action.dtype == np.int32 and first.terminated.tolist() == [0.0, 1.0]
    run.reset()
    for step in range(2):
        np.testing.assert_array_equal(run.act(first.obs[step]), first.action[step])


def test_without_progress_nothing_is_printed_and_an_object_serves_twice(tmp_path, capfd):
    env = PythonCountdown(3)
    settings = {**SETTINGS, "n_envs": 1, "progress": False}
    first = tfmix.train(env, "vdn", env_steps=30, run_dir=tmp_path / "1", **settings)
    assert first.evaluate(2).tolist() == [3.0, 3.0]
    first.close()
    second = tfmix.train(env, "vdn", env_steps=30, run_dir=tmp_path / "2", **settings)
    settings |= {"n_envs": 2, "run_dir": tmp_path / "3"}  # a lambda is a reason for a warning
    tfmix.train(lambda: PythonCountdown(3), "vdn", env_steps=30, **settings)
    loaded = tfmix.load(tmp_path / "2", env=env)
    for _ in range(2):
        assert loaded.evaluate(2).tolist() == [3.0, 3.0]
        loaded.close()
    assert second.finished
    longer = tfmix.resume(tmp_path / "2", env=env, env_steps=33, progress=False)
    assert longer.env_steps == 33
    assert capfd.readouterr() == ("", "")


def test_a_team_acts_by_agent_name_as_it_does_on_arrays(run):
    obs = np.eye(3, dtype=np.float32)[[0, 1]]
    named = dict(zip([agent.name for agent in run.agents], obs, strict=True))
    assert list(named) == ["agent_0", "agent_1"]
    run.reset()
    wanted = [run.act(obs), run.act(obs, [[1, 0], [0, 1]])]
    run.reset()
    assert list(run.act(named).values()) == wanted[0].tolist()
    values = run.q_values(named, {"agent_0": [1, 0]})
    assert values["agent_0"][1] == -np.inf and np.isfinite(values["agent_1"]).all()
    masks = {"agent_1": {"action_mask": [0, 1]}, "agent_0": [True, False]}
    assert list(run.act(named, masks).values()) == wanted[1].tolist() == [0, 1]
    run.reset()
    with pytest.raises(UserError, match=r"there is no agent 'agent_3'; there are agent_0, agent_1"):
        run.act({**named, "agent_3": obs[0]})


SPEC = EnvSpec("port", 3, 5, 4, 7, 9, (5, 3, 3))
AGENTS = [AgentShape("crane", 4), AgentShape("truck_a", 2), AgentShape("truck_b", 2)]


def test_dicts_by_agent_are_padded_and_come_back_by_the_same_keys():
    obs = {
        "truck_b": {"observation": [5, 6], "action_mask": [0, 1, 0]},
        "crane": np.ones([2, 2]),
    }
    given = by_name.read_team_input(SPEC, AGENTS, obs, None)
    assert given.obs[0].tolist() == [[1, 1, 1, 1], [0, 0, 0, 0], [5, 6, 0, 0]]
    assert given.legal[0].astype(int).tolist() == [[1] * 5, [1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]
    assert given.give(np.array([[4, 0, 1]])) == {"crane": 4, "truck_b": 1}
    values = given.give(np.arange(15.0).reshape(1, 3, 5), SPEC.agent_n_actions)
    assert values["truck_b"].tolist() == [10, 11, 12]
    by_index = by_name.read_team_input(SPEC, AGENTS, {0: np.ones(4), 1: None}, {0: [1, 0, 0, 0, 1]})
    assert by_index.legal[0, 0].tolist() == [True, False, False, False, True]
    assert by_index.give(np.array([[4, 0, 1]])) == {0: 4}


@pytest.mark.parametrize(
    "obs,legal,message",
    [
        ({"cran": np.ones(4)}, None, "there is no agent 'cran'; there are crane, .*mean 'crane'"),
        ({"crane": np.ones(3)}, None, "obs of agent 'crane' has 3 numbers, and .* with 4"),
        ({"crane": "text"}, None, "obs of agent 'crane' holds values of type"),
        ({"crane": np.full(4, np.nan)}, None, "agent 0 has an observation that is NaN"),
        ({"crane": np.ones(4)}, {"crane": [1, 0]}, "legal of agent 'crane' has 2 numbers"),
        ({"crane": np.ones(4)}, {"crane": [0] * 5}, "none of its own actions is legal"),
        ({"crane": np.ones(4)}, np.ones([3, 5]), "legal is ndarray: give a dict"),
        ({3: np.ones(4)}, None, "there is no agent 3; there are crane, truck_a, truck_b"),
        ({}, None, "obs holds no agent's observation"),
    ],
)
def test_wrong_dicts_are_refused_with_the_agents_name(obs, legal, message):
    with pytest.raises(UserError, match=message):
        by_name.read_team_input(SPEC, AGENTS, obs, legal)
