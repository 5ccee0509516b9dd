"""What the command line answers: to wrong words, to names of other programs, to questions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from tfmix import cli
from tfmix.config import aliases, parsing
from tfmix.config.modes import MODES
from tfmix.config.schema import FIELDS

ROOT = Path(__file__).resolve().parents[2]
WAREHOUSE = """
import numpy as np

class Helper:
    pass

class Warehouse:
    def reset(self, seed=None, options=None):
        pass
    def step(self, action):
        pass
"""


@pytest.fixture
def ask(capsys, tmp_path, monkeypatch):
    """Runs a command line in an empty folder; returns its exit code, its output and its errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = cli.main(list(words))
        return code, *capsys.readouterr()

    return run


def wrong(ask, *words):
    """Returns the one line that answers a wrong command line."""
    code, out, err = ask(*words)
    assert code == 2 and out == "" and err.count("\n") == 1, (code, out, err)
    assert err.startswith("tfmix: ")
    return err.removeprefix("tfmix: ").strip()


def known_flags():
    return [*cli.define(flags.FlagValues()), "flagfile"]


def test_every_alias_leads_to_a_flag_that_exists_and_is_none_itself():
    known = known_flags()
    assert len(aliases.ALIASES) > 100
    for name, flag in aliases.ALIASES.items():
        assert flag in known and name not in known, name


@pytest.mark.parametrize("name", [*aliases.ALIASES, *aliases._ANSWERS])
def test_names_of_other_programs_are_answered_in_one_line(name, ask):
    line = wrong(ask, f"--{name}=1")
    assert line.startswith(f"there is no --{name}: ") and len(line) < 160
    if name in aliases.ALIASES:
        assert line.endswith(f"is --{aliases.ALIASES[name]}")


@pytest.mark.parametrize(
    "words,message",
    [
        (["--lr=0.1"], "there is no --lr: the learning rate is --learning_rate"),
        (["--N-Envs=3"], "there is no --N-Envs: write --n_envs"),
        (["--epsilon_endd=0"], "did you mean --epsilon_end?"),
        (["--zzzz=0"], "--help lists every setting"),
        (["train"], "stray word 'train': training is the default"),
        (["evaluate", "--run_dir=x"], "write --mode=evaluate"),
        (["--mode=evaluate", "runs/my x"], "--mode=evaluate '--run_dir=runs/my x'"),
        (["vdn"], "write --algo=vdn"),
        (["two_step"], "write --env=two_step"),
        (["seed=3"], "write --seed=3"),
        (["help"], "write --help"),
        (["--recurrent", "false"], "write --recurrent=false"),
        (["--flagfile=pymarl"], "there is no flagfile 'pymarl'; did you mean 'flags/preset/pymarl"),
        (["--flagfile=zzzzzz.flags"], "there is no flagfile 'zzzzzz.flags'"),
        (["--env="], "there is no environment ''"),
        (["--render"], "--mode=watch writes episodes of a run"),
        (["--evaluate"], "write --mode=evaluate"),
        (["--resume=runs/x"], "write --mode=resume"),
        (["--bench"], "write --mode=benchmark"),
        (["x.flags"], "--flagfile=x.flags"),
        (["--mode=eval"], "did you mean --mode=evaluate?"),
        (["--mode=tain"], "did you mean --mode=train?"),
        (["--mode=zzz"], "there are train, resume,"),
        (["--algo=vdn,qmix"], "several: --mode=benchmark trains each"),
        (["--env=two_step,matrix/qtran"], "several: --mode=benchmark trains on each"),
        (["--algo=mappo"], "there are iql, vdn, qmix, qatten, cw_qmix"),
        (["--algo="], "there is no algorithm ''; there are iql"),
        (["--algo=qmx"], "did you mean 'qmix'? There are iql, vdn, qmix,"),
        (["--env_steps=1.5"], "it takes a whole number of at least 1"),
        (["--env_steps=many"], "it takes a whole number of at least 1"),
        (["--jobs=0"], "--jobs=0: it takes a whole number of at least 1"),
        (["--mode=benchmark"], "needs a grid"),
        (["--mode=list", "--gamma=0.5"], "does not read --gamma"),
        (["--mode=list", "--env=zzz"], "no environment has 'zzz' in its name"),
        (["--mode=check_env", "--env=two_step", "--algo=vdn"], "does not read --algo"),
        (["--mode=evaluate"], "needs --run_dir"),
    ],
)
def test_a_wrong_word_is_answered_with_what_to_write(words, message, ask):
    assert message in wrong(ask, *words)


@pytest.mark.parametrize(
    "name,meant",
    [
        ("Foraging-8x8-2p-2f-coop-v3", "'gymnasium/Foraging-8x8-2p-2f-coop-v3'"),
        ("lbforaging", "'gymnasium/Foraging-8x8-2p-2f-coop-v3'"),
        ("foraging-8x8-2p-2f-coop", "'gymnasium/Foraging-8x8-2p-2f-coop-v3'"),
        ("Foraging-8x8-2p-2f-coop-v2", "'gymnasium/Foraging-8x8-2p-2f-coop-v3'"),
        ("rware", "'gymnasium/rware-tiny-2ag-v2'"),
        ("rware-tny-2ag-v2", "'gymnasium/rware-tiny-2ag-v2'"),
        ("Unknown-Team-Game-v7", "'gymnasium/Unknown-Team-Game-v7'"),
        ("3m", "'smac/3m'"),
        ("3s5z_vs_3s6z", "'smac/3s5z_vs_3s6z'"),
        ("SMAC/3m", "'smac/3m'"),
        ("gymnasum/Foraging-8x8-2p-2f-coop-v3", "'gymnasium/Foraging-8x8-2p-2f-coop-v3'"),
        ("academy_corner", "'football/academy_corner'"),
        ("simple_spread_v3", "'pettingzoo/pettingzoo.mpe.simple_spread_v3'"),
        ("pettingzoo/simple_spread_v3", "'pettingzoo/pettingzoo.mpe.simple_spread_v3'"),
        ("pettingzoo/pettingzoo.mpe.simple_spread_v2", "pettingzoo.mpe.simple_spread_v3'"),
        ("pistonball", "'pettingzoo/pettingzoo.butterfly.pistonball_v6'"),
        ("simple_spread", "'mpe/simple_spread'"),
        ("spread", "'mpe/simple_spread'"),
        ("two-step", "'two_step'"),
        ("Two_Step", "'two_step'"),
        ("warehose", "'warehouse:Warehouse'"),
        ("warehose:Warehouse", "cannot import warehose, neither installed nor"),
        ("warehose:Warehouse", "did you mean 'warehouse:Warehouse'?"),
        ("zzzz:Env", "zzzz:Env: cannot import zzzz, neither installed nor in this directory"),
        ("warehouse", "write warehouse:Warehouse"),
        ("warehouse.py", "write warehouse:Warehouse"),
        ("warehouse.Warehouse", "write warehouse:Warehouse"),
        ("warehouse.py:Warehouse", "write warehouse:Warehouse"),
        ("warehouse:warehouse", "there is no warehouse in warehouse; write warehouse:Warehouse"),
        ("nothing_like_it", "--mode=list prints"),
    ],
)
def test_a_wrong_environment_is_answered_with_the_one_that_is_meant(name, meant, ask):
    Path("warehouse.py").write_text(WAREHOUSE)
    assert meant in wrong(ask, f"--env={name}")


def test_a_module_with_two_environments_or_none_says_so(ask):
    Path("pair.py").write_text(WAREHOUSE + WAREHOUSE.replace("Warehouse", "Other"))
    assert "it has pair:Warehouse, pair:Other" in wrong(ask, "--env=pair")
    Path("empty.py").write_text("def make(): pass")
    assert "write empty: and the name of its class or function" in wrong(ask, "--env=empty")


@pytest.mark.parametrize(
    "words,found",
    [
        (["--env_steps=1e6"], {"env_steps": "1000000"}),
        (["--env_steps=1_000_000"], {"env_steps": "1000000"}),
        (["--env_steps=200k"], {"env_steps": "200000"}),
        (["--env_steps=1.5M", "--seed", "2"], {"env_steps": "1500000", "seed": "2"}),
        (["--algo=QTRAN-alt"], {"algo": "qtran_alt"}),
        (["--algo=VDN"], {"algo": "vdn"}),
        (["--run_dir=~/x y"], {"run_dir": str(Path("~/x y").expanduser())}),
        (["--norecurrent", "--agent_layers=3"], {"recurrent": "false", "agent_layers": "3"}),
        (["--flagfile=preset/pymarl"], {"optimizer": "rmsprop"}),
        (["--flagfile=flags/preset/pymarl.flags"], {"optimizer": "rmsprop"}),
    ],
)
def test_settings_are_read_in_the_forms_that_people_type(words, found, ask):
    code, out, _ = ask("--mode=settings", *words)
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    for name, value in found.items():
        assert lines[name].split(maxsplit=1)[1].startswith(value)


def test_settings_mode_says_where_every_setting_is_from(ask, tmp_path):
    (tmp_path / "own.flags").write_text("--batch_episodes=16\n")
    words = ["--algo=vdn", "--env=mpe/simple_spread", "--flagfile=own.flags", "--seed=3"]
    code, out, _ = ask("--mode=settings", *words)
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert code == 0 and set(lines) == set(FIELDS)
    assert lines["seed"].endswith(parsing.COMMAND_LINE)
    assert lines["gamma"].split()[1:] == ["0.9", "flags/env/mpe.flags"]
    assert lines["double_q"].split()[1:] == ["true", "flags/algo/vdn.flags"]
    assert lines["batch_episodes"].split()[1:] == ["16", str(tmp_path / "own.flags")]
    assert lines["optimizer"].endswith("default")
    assert "not read: vdn does not read it; qmix, qatten" in lines["mixer_embed"]


@pytest.mark.parametrize(
    "words,reason",
    [
        (["--algo=vdn", "--mixer_embed=8"], "--mixer_embed has no effect here: vdn does not"),
        (["--algo=qmix", "--qtran_embed=8"], "qtran_base, qtran_alt do"),
        (["--env=two_step", "--agent_layers=3"], "--recurrent=false"),
        (["--share_parameters=false", "--agent_id=true"], "needs no index"),
        (["--algo=qmix", "--env=matrix/qtran", "--hypernet_embed=8"], "no hidden units"),
        (["--env=two_step", "--env_workers=2"], "it is for Python environments"),
        (["--env=two_step", "--episode_limit=9"], "it is for Python environments"),
        (["--env=two_step", "--team_reward=mean"], "two_step has one reward, the team's"),
        (["--env=two_step", "--epsilon_start=0.5"], "epsilon is --epsilon_end from the start"),
        (["--target_tau=0.1", "--target_period_updates=9"], "the targets follow at every update"),
        (["--td_lambda=0.5", "--n_step=1"], "TD(lambda) targets have no n"),
        (["--q_lambda=false"], "give --td_lambda too"),
        (
            ["--env=gymnasium/x-v0", "--env_workers=0", "--env_timeout_seconds=9"],
            "no worker processes",
        ),
    ],
)
@pytest.mark.parametrize("place", ["typed", "file"])
def test_a_setting_that_would_never_be_read_is_refused(words, reason, place, ask):
    if place == "file":
        Path("own.flags").write_text("\n".join(words))
        words = ["--flagfile=own.flags"]
    assert reason in wrong(ask, *words)


def test_flagfiles_of_tfmix_may_hold_settings_for_other_algorithms(ask):
    code, _, _ = ask("--mode=settings", "--flagfile=flags/preset/pymarl.flags", "--algo=vdn")
    assert code == 0
    typed = ["--flagfile=flags/preset/pymarl.flags", "--algo=vdn", "--mixer_embed=16"]
    assert "vdn does not read it" in wrong(ask, *typed)


def test_list_prints_what_is_asked_for(ask):
    assert ask("--mode=list", "--env=smac")[1].split()[2] == "smac/<map>,"
    assert ask("--mode=list", "--algo=qtran")[1].split() == [
        "algorithms",
        "(--algo)",
        "qtran_base",
        "qtran_alt",
    ]


def test_help_says_what_each_mode_does_and_shows_examples(ask):
    code, out, _ = ask("--help")
    assert code == 0 and all(len(line) <= 100 for line in out.splitlines())
    for mode, text in MODES.items():
        assert f"  {mode:<10} {text}" in out
    assert all(f"--{name}=" in out for name in FIELDS)
    assert "examples\n  python main.py --algo=qmix" in out
    assert "--version" in out and ask("--version")[1].startswith("tfmix 0.")


def test_the_examples_of_help_are_understood():
    from tfmix.cli import texts, words

    for example, _ in texts._EXAMPLES:
        words.read(example.split(), cli.define(flags.FlagValues()))


def test_a_folder_of_runs_lists_them_and_paths_have_their_home(ask, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a", "b/seed 0", "b/c/d"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text("{}")
    line = wrong(ask, "--mode=evaluate", "--run_dir=~/runs")
    assert f"there is no run in {tmp_path}/runs: runs are in " in line
    assert all(str(tmp_path / "runs" / name) in line for name in ("a", "b/seed 0", "b/c/d"))
    assert "there is no such folder" in wrong(ask, "--mode=evaluate", "--run_dir=runs/zzz")


def test_one_seed_of_a_benchmark_is_said_to_be_one(ask, monkeypatch):
    from tfmix import experiments

    asked = []
    monkeypatch.setattr(experiments, "from_command_line", lambda *words: asked.append(words))
    code, _, err = ask("--mode=benchmark", "--algo=vdn", "--seeds=3")
    assert code == 0 and asked[0][1] == "3"
    assert "--seeds=3 is the one seed 3; the first 3 seeds are --seeds=0:3" in err


EARLY = """
import json, sys
from tfmix import cli
for words in json.load(sys.stdin):
    assert cli.main(words) == 2, words
    assert not {"tensorflow", "tf_keras", "gymnasium", "pettingzoo"} & set(sys.modules), words
"""


def test_wrong_requests_are_answered_before_tensorflow_is_imported(tmp_path):
    requests = [
        ["--lr=1"],
        ["--algo=mappo"],
        ["--env=Foraging-8x8-2p-2f-coop-v3"],
        ["--env=pettingzoo/simple_spread_v3"],
        ["--env=two_step", "--env_arg=foo"],
        ["--env=two_step", "--env_arg=foo=1"],
        ["--env=matrix/custom"],
        ["--env=matrix/custom", "--env_arg=payoff=[[1,2],[3]]"],
        ["--env=matrix/custom", "--env_arg=payoff=text"],
        ["--env=matrix/custom", "--env_arg=payoff=[[1,1e300],[1,1]]"],
        ["--env=matrix/custom", "--env_arg=payof=[[1,2],[3,4]]"],
        ["--algo=vdn", "--mixer_embed=8"],
        ["--mode=evaluate", "--run_dir=none"],
        ["--mode=benchmark", "--algo=vdn", "--mixer_embed=8"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", EARLY],
        cwd=tmp_path,
        input=json.dumps(requests),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(requests)


@pytest.mark.parametrize("words", [["--lr=1"], ["--help"], ["--version"], ["--mode=list"]])
def test_an_answer_takes_little_time(words):
    code = (
        f"import resource, sys; from tfmix import cli; cli.main({words!r});"
        "spent = resource.getrusage(resource.RUSAGE_SELF); sys.exit(int(spent.ru_utime > 0.3))"
    )
    done = [
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode
        for _ in range(3)
    ]
    assert 0 in done  # on a busy machine one may be late
