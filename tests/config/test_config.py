import dataclasses
import os
import sys
from pathlib import Path

import pytest
from absl import flags

from tfmix import cli
from tfmix.cli.compile_cache import keep_compiled
from tfmix.config import parsing, resolve
from tfmix.config.describe import describe
from tfmix.config.schema import FIELDS, Config
from tfmix.errors import UserError
from tfmix.experiments import grid

SPREAD = "--env=mpe/simple_spread"


def write(folder, name, text):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_settings_count_in_the_documented_order(tmp_path, monkeypatch):
    monkeypatch.setattr(parsing, "FLAGS_FOLDER", tmp_path)
    write(
        tmp_path,
        "env/mpe.flags",
        "--gamma=0.1\n--seed=1\n--n_envs=1\n--hidden_size=1\n--batch_episodes=1\n",
    )
    write(
        tmp_path,
        "env/simple_spread.flags",
        "--seed=2\n--n_envs=2\n--hidden_size=2\n--batch_episodes=2\n",
    )
    write(
        tmp_path, "algo/vdn.flags", "# a comment\n--n_envs=3\n--hidden_size=3\n--batch_episodes=3\n"
    )
    write(tmp_path, "env/simple_spread.vdn.flags", "--hidden_size=4\n--batch_episodes=4\n")
    file = write(tmp_path, "own.flags", "--batch_episodes=5\n--algo=vdn\n--qtran_embed=5\n")
    # What was typed wins over --flagfile wherever it stands.
    found = resolve.resolve(parsing.parse([SPREAD, "--qtran_embed=6", f"--flagfile={file}"]))
    twin = resolve.resolve({"env": "pettingzoo/pettingzoo.mpe.simple_spread_v3", "algo": "vdn"})
    assert twin.hidden_size == 4  # the words of its name, without the version
    write(tmp_path, "env/penalty.flags", "--gamma=0.2\n")
    assert resolve.resolve({"env": "matrix/penalty_25"}).gamma == 0.2  # nor a number
    write(tmp_path, "env/board.flags", "--gamma=0.3\n")
    assert resolve.resolve({"env": "matrix/board_9x9"}).gamma == Config.gamma  # no number
    assert found.algo == "vdn"
    wanted = {"buffer_episodes": 5000, "gamma": 0.1, "seed": 2, "n_envs": 3, "hidden_size": 4}
    wanted |= {"batch_episodes": 5, "qtran_embed": 6}
    assert {name: getattr(found, name) for name in wanted} == wanted


def test_environment_arguments_add_up_and_the_later_one_wins(tmp_path, monkeypatch):
    monkeypatch.setattr(parsing, "FLAGS_FOLDER", tmp_path)
    write(tmp_path, "env/mpe.flags", "--env_arg=n=4\n--env_arg=a=[1,2]\n")
    found = resolve.resolve(parsing.parse([SPREAD, "--env_arg=n=5", "--env_arg=word=hello"]))
    assert resolve.env_arguments(found) == {"n": 5, "a": [1, 2], "word": "hello"}


@pytest.mark.parametrize(
    "words,message",
    [
        (["--alg=vdn"], "there is no --alg: the algorithm is --algo"),
        (["--epsilon_anneal_steps=3"], "epsilon_anneal_env_steps"),
        (["vdn"], "stray word 'vdn'"),
        (["--seed=1.5"], "--seed"),
        (["--seed=-1"], "--seed"),
        (["--gamma=1.01"], "a number from 0 to 1"),
        (["--time_limit=never"], "bootstrap|terminal"),
        (["--double_q=perhaps"], "--double_q"),
        (["--flagfile=/no/such/file"], "/no/such/file"),
        (["--seed"], "seed"),
    ],
)
def test_wrong_words_are_one_clear_line(words, message):
    with pytest.raises(UserError) as caught:
        parsing.parse(words)
    text = str(caught.value)
    assert "\n" not in text
    assert all(part in text for part in message.split("|"))


def test_environment_arguments_from_python_may_be_a_dictionary():
    wanted = {"payoff": [[1, 2], [3, 4.5]], "word": "x"}
    assert resolve.env_arguments(resolve.resolve({"env_arg": wanted})) == wanted


def test_settings_from_python_are_judged_by_the_same_parser():
    assert resolve.resolve({"gamma": 0.5, "double_q": False, "env": "two_step"}).gamma == 0.5
    for wrong in ({"gama": 0.5}, {"gamma": "high"}, {"gamma": 7}, {"double_q": 3}):
        with pytest.raises(UserError):
            resolve.resolve(wrong)


def test_flagfiles_in_flagfiles_are_read_in_their_place(tmp_path):
    inner = write(tmp_path, "inner", "// a comment\n\n  --seed=2\n--algo=iql\n")
    lines = f"--seed=1\n--gamma=0.1\n--flagfile={inner}\n-flagfile\n{inner}\n--algo=vdn\n"
    outer = write(tmp_path, "outer", lines)
    found = parsing.parse(["--gamma=0.5", "--flagfile=", "--flagfile", str(outer)])
    assert found == {"seed": 2, "gamma": 0.5, "algo": "vdn"}


def test_parsing_leaves_the_streams_of_other_threads_alone(tmp_path, monkeypatch):
    found = []
    parse = flags.FlagValues.__call__

    def watched(self, *words):
        found.append(sys.stderr)
        return parse(self, *words)

    monkeypatch.setattr(flags.FlagValues, "__call__", watched)
    parsing.parse([f"--flagfile={write(tmp_path, 'x', '--seed=1')}"])
    assert found == [sys.stderr]


def test_a_flagfile_that_is_no_text_is_one_line(tmp_path):
    (tmp_path / "x.flags").write_bytes(bytes(range(128, 256)))
    with pytest.raises(UserError, match="cannot read a flagfile"):
        parsing.parse([f"--flagfile={tmp_path / 'x.flags'}"])


def test_a_batch_larger_than_the_replay_is_refused_and_none_counts_as_not_given():
    with pytest.raises(UserError, match="more than the replay holds"):
        resolve.resolve({"batch_episodes": 64, "buffer_episodes": 63})
    assert resolve.resolve({"run_dir": None, "env": None, "algo": None}) == resolve.resolve({})
    assert resolve.resolve({"env": "x" * 300}).env == "x" * 300  # whose flagfiles cannot exist


@pytest.mark.parametrize(
    "settings,message",
    [
        ({"n_step": 3, "td_lambda": 0.5}, "exclude each other"),
        ({"update_shards": 5}, "--update_shards=5 does not divide --batch_episodes=32"),
        ({"q_lambda": True}, "without --td_lambda"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        resolve.resolve(settings)


def test_nan_and_infinite_settings_are_refused():
    for value in ("nan", "inf", "-inf"):
        with pytest.raises(UserError, match="learning_rate"):
            resolve.resolve({"learning_rate": value})


def test_a_stored_configuration_comes_back():
    chosen = resolve.resolve({"algo": "qtran_alt", "env_arg": ["n=4"], "seed": 3})
    import json

    stored = json.loads(json.dumps(dataclasses.asdict(chosen)))
    assert resolve.from_dict(stored) == chosen
    with pytest.raises(UserError, match="does not know"):
        resolve.from_dict({**stored, "colour": 1})
    with pytest.raises(UserError, match="wrong type"):
        resolve.from_dict({**stored, "seed": "3"})


def test_a_run_older_than_a_setting_comes_back_as_it_trained():
    """QTRAN-alt had the paper's condition (7) and the weights that its run.json holds."""
    stored = dataclasses.asdict(resolve.resolve({"algo": "qtran_alt", "nopt_min_loss": 0.1}))
    del stored["qtran_slack"]
    found = resolve.from_dict({**stored, "env_arg": []})
    assert (found.qtran_slack, found.nopt_min_loss) == (1.0, 0.1)
    assert resolve.resolve({"algo": "qtran_alt"}).qtran_slack < 1.0


@pytest.mark.parametrize(
    "preset,weight", [("pymarl", 0.1), ("qtran_authors", 1), ("qtran_paper", 1)]
)
def test_presets_of_qtran_are_as_published(preset, weight):
    words = [f"--flagfile={parsing.FLAGS_FOLDER / 'preset' / preset}.flags"]
    for algo in ("qtran_base", "qtran_alt"):
        found = resolve.resolve(parsing.parse([*words, f"--algo={algo}"]))
        assert (found.opt_loss, found.nopt_min_loss, found.qtran_slack) == (1, weight, 1)


def test_every_setting_tells_what_it_is():
    for name, field in FIELDS.items():
        assert field.metadata["help"].endswith("."), name
        assert ("env_steps" in name) == (
            field.metadata["unit"] == "env steps"
        ) or name == "episode_limit"
    text = describe()
    assert all(f"--{name}=" in text for name in FIELDS)


def test_every_flagfile_can_be_read_and_says_what_it_is():
    files = sorted(parsing.FLAGS_FOLDER.rglob("*.flags"))
    assert len(files) > 10
    for file in files:
        assert file.read_text().startswith("# "), file
        given = parsing.parse([f"--flagfile={file}"], cli.define(flags.FlagValues()))
        settings = {name: value for name, value in given.items() if name in FIELDS}
        if given.get("mode") == "benchmark":  # an experiment: every name and setting serves
            algos, envs, run_dir = (settings.pop(name) for name in ("algo", "env", "run_dir"))
            assert grid.make(algos, envs, given["seeds"], run_dir, settings).cells, file
        else:
            assert resolve.resolve(settings), file


def test_defaults_are_within_their_own_bounds():
    words = [
        f"--{name}={field.default}"
        for name, field in FIELDS.items()
        if field.default not in ("", ())
    ]
    assert resolve.resolve(parsing.parse(words)).buffer_episodes == Config.buffer_episodes


def test_a_folder_of_compiled_code_is_nobody_elses(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "--before=1")
    keep_compiled(str(tmp_path / "new" / "cache"))
    asked = os.environ["TF_XLA_FLAGS"].split()
    folder = Path(asked[1].removeprefix("--tf_xla_persistent_cache_directory="))
    assert asked[0] == "--before=1" and folder.parent == tmp_path / "new" / "cache"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o770)
    for wrong, message in (
        (tmp_path / "new" / "cache", "others can write"),
        (tmp_path / "a b", "no path with spaces"),
        (__file__, "--compile_cache=.*: Not a directory"),
    ):
        with pytest.raises(UserError, match=message):
            keep_compiled(str(wrong))
    assert os.environ["TF_XLA_FLAGS"].split() == asked


@pytest.mark.parametrize(
    "env,parts",
    [
        ("mpe/simple_spread", ["mpe", "simple_spread"]),
        ("pettingzoo/pettingzoo.mpe.simple_spread_v3", ["pettingzoo", "mpe", "simple_spread"]),
        ("matrix/penalty_25", ["matrix", "penalty"]),
        ("gymnasium/matrix:X", ["gymnasium"]),
        ("gymnasium/two_step-v0", ["gymnasium"]),
        ("pymarl/mpe.simple_spread:Env", ["pymarl"]),
        ("smac/two_step", ["smac"]),
        ("pettingzoo/matrix.climbing_v0", []),
        ("stag_hunt:two_step", []),
        ("custom/two_step", []),
    ],
)
def test_flagfiles_are_those_of_the_environments_entry(env, parts):
    assert resolve._entry(env) == parts


def test_libraries_of_others_are_those_of_the_registry():
    from tfmix.envs import PYTHON

    assert set(PYTHON) - {"pettingzoo"} == resolve.OTHERS


def test_the_settings_that_are_known_without_tensorflow_are_those_of_the_classes():
    import importlib

    from tfmix.algos import REGISTRY
    from tfmix.algos.settings import DECLARED

    assert set(DECLARED) == set(REGISTRY)
    for name, (module, kind) in REGISTRY.items():
        assert getattr(importlib.import_module(module), kind).settings == DECLARED[name], name


def test_environments_without_a_choice_of_the_teams_reward_are_known():
    from tfmix import envs
    from tfmix.runs.unread import why_unread

    for name in envs.GRAPH:
        arguments = ("payoff=[[1,2],[3,4]]",) if name == "matrix/custom" else ()
        chosen = Config(env=name, env_arg=arguments)
        is_fixed = envs.make_graph(name, chosen).spec.team_reward == "team"
        assert bool(why_unread("team_reward", chosen)) == is_fixed, name
