"""TensorBoard shows a run in all of its dashboards, and a profile leaves the run as it is."""

import re
import shlex

import pytest
import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata as hparams

import tfmix
from tests.runs.test_resume import LANES_AND_SHARDS, assert_same_run, stop_when
from tests.runs.test_run import MIXER, PAIR
from tests.training.test_training import Threes
from tfmix import algos
from tfmix.config import parsing, resolve
from tfmix.config.schema import Config
from tfmix.config.values import read_window
from tfmix.errors import RunFailedError, UserError
from tfmix.monitoring import tensorboard
from tfmix.monitoring.layout import layout
from tfmix.runs import about
from tfmix.runs.profile import PHASES, Calls
from tfmix.training.task import open_task
from tfmix.training.trainer import Trainer
from tfmix.training.update_graph import update_graph

pytestmark = pytest.mark.whole_run

TEXTS = {"about/command", "about/settings", "about/versions", "about/environment"}
TWO_STEP = {"algo": "qmix", "env": "two_step", "env_steps": 240, **PAIR, **MIXER}
TWO_STEP |= {"inspect": False}  # tests/training/test_inspector.py tests what that adds
ONE = {**TWO_STEP, "n_envs": 1, "eval_episodes": 1, "env_steps": 123}


def events_of(folder):
    """All events of a run folder, file by file."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            yield tf.compat.v1.Event.FromString(record.numpy())


def values_of(folder):
    """Value, by tag, of all summaries; a list of them, in the order of the files."""
    found = {}
    for event in events_of(folder):
        for value in event.summary.value:
            found.setdefault(value.tag, []).append(value)
    return found


def text_of(value):
    return tf.make_ndarray(value.tensor).item(0).decode()


@pytest.mark.parametrize("lane,shards", LANES_AND_SHARDS)
def test_a_profiled_run_has_the_bits_and_the_rows_of_the_run(
    lane, shards, tmp_path, capsys, builds
):
    settings = {**TWO_STEP, "log_period_env_steps": 40, "eval_period_env_steps": 80}
    settings |= {"updates_per_episode": 1.5, "learning_rate_decay": "linear"}
    settings |= {"update_shards": shards, "standardise_rewards": True}
    if lane == "python":
        settings |= {"env": Threes, "env_workers": 0, "env_steps": 120}
    tfmix.train(run_dir=tmp_path / "plain", **settings)
    capsys.readouterr()
    run = tfmix.train(run_dir=tmp_path / "profiled", profile="8:23", **settings)
    screen = capsys.readouterr().out
    assert_same_run(tmp_path / "plain", tmp_path / "profiled", run.env_steps)
    assert "profile of updates 8 to 23: 16 updates" in screen
    calls = dict(re.findall(r"^  (\w+) +[\d.]+ +[\d.]+% +(\d+)", screen, re.MULTILINE))
    assert calls["sample"] == calls["update"] == "16"
    assert calls["collect"] == calls["store"] and int(calls["collect"]) in (5, 6)
    assert re.findall(r"^  (\w+) +\d", screen, re.MULTILINE) == [*PHASES, "compile", "other"]
    (trace,) = tmp_path.glob("profiled/plugins/profile/*/*.xplane.pb")
    assert str(trace) in screen and trace.stat().st_size > 1000
    assert run.trainer.run_iterations.__name__ == "_iterations" and tfmix.load(run.folder)


def test_a_profile_of_one_update_begins_with_its_collection(tmp_path, capsys, builds):
    run = tfmix.train(run_dir=tmp_path / "x", profile="20:20", **ONE)
    screen = capsys.readouterr().out
    assert "profile of updates 20 to 20: 1 update, 2 env steps" in screen
    assert re.search(r"Called once, perhaps with compilation: collect, store, sample", screen)
    assert run.finished
    with pytest.raises(UserError, match=r"profile=20:20: the run has done 54 updates already"):
        tfmix.resume(run.folder, env_steps=140, profile="20:20")
    assert "failed" not in (run.folder / "run.json").read_text()
    longer = tfmix.resume(run.folder, env_steps=140, profile="55:58")
    assert longer.finished and "profile of updates 55 to 58: 4 updates" in capsys.readouterr().out


def test_a_profile_that_is_stopped_or_never_begins_says_so(tmp_path, capsys, monkeypatch, builds):
    with monkeypatch.context() as patch:
        stop_when(lambda trainer: trainer.counters.updates >= 12, patch)
        run = tfmix.train(run_dir=tmp_path / "x", profile="10:1k", **TWO_STEP)
    assert not run.finished
    assert "profile of updates 10 to 12: 3 updates" in capsys.readouterr().out
    tfmix.resume(run.folder, profile="100_000:1M")
    error = capsys.readouterr().err
    assert "--profile=100000:1000000: the run ended after 112 updates, before the" in error


def test_a_profiled_update_that_is_not_finite_ends_the_run_with_the_same_line(
    tmp_path, capsys, builds
):
    settings = {**TWO_STEP, "learning_rate": 1e30, "grad_clip_norm": 0.0}
    found = []
    for name, profile in (("plain", None), ("profiled", "1:500")):
        with pytest.raises(RunFailedError, match=r"NaN or infinite in update \d+") as caught:
            tfmix.train(run_dir=tmp_path / name, profile=profile, **settings)
        found.append(str(caught.value).replace(str(tmp_path / name), ""))
    assert found[0] == found[1]
    assert "profile of updates 1 to " in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["", "5", "5:", ":5", "0:5", "7:5", "a:b", "1:2:3", "-1:4", "1:1e99", "1.5:3"]
)
def test_a_window_that_is_none_is_one_line(text, main_py):
    with pytest.raises(ValueError, match="the first and the last update, counted from 1"):
        read_window(text)
    done = main_py(f"--profile={text}", "--env=two_step")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "such as 100:200" in done.stderr and "--profile" in done.stderr
    with pytest.raises(UserError, match=r"^profile=.*such as 100:200"):
        tfmix.train("two_step", profile=text)


def test_a_profile_is_for_trainings(main_py):
    done = main_py("--mode=evaluate", "--profile=1:2", "--run_dir=x")
    assert done.returncode == 2
    assert "--profile is for --mode=train and --mode=resume" in done.stderr


def test_compilation_is_what_a_first_call_takes_longer():
    calls = Calls()
    for seconds in (5.0, 1.0, 1.0, 1.0):
        calls.add(seconds)
    assert calls.compiling() == 4.0 and calls.count == 4 and calls.seconds == 8.0
    calls = Calls()
    for seconds in (1.2, 1.0, 0.9):
        calls.add(seconds)
    assert calls.compiling() == 0.0
    calls = Calls()
    calls.add(5.0)
    assert calls.compiling() == 0.0


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A run that was trained, and resumed to a new end."""
    folder = tmp_path_factory.mktemp("runs") / "x"
    tfmix.train(run_dir=folder, **{**TWO_STEP, "eval_period_env_steps": 80})
    return tfmix.resume(folder, env_steps=320)


def test_a_run_is_described_once_and_a_resume_keeps_it(resumed):
    found = values_of(resumed.folder)
    assert found.keys() >= TEXTS
    once = [*TEXTS, "custom_scalars__config__", hparams.SESSION_START_INFO_TAG]
    for tag in (*once, hparams.EXPERIMENT_TAG):
        assert len(found[tag]) == 1, tag
    graphs = [event for event in events_of(resumed.folder) if event.graph_def]
    assert len(graphs) == 1 and graphs[0].step == 0
    assert len(list(resumed.folder.glob("*.about.v2"))) == 1
    scalars = [event.step for event in events_of(resumed.folder) if event.step]
    assert max(scalars) == 320


def test_a_run_without_a_description_gets_one_at_its_next_start(resumed, tmp_path):
    about.describe(resumed.folder, resumed.trainer)
    assert len(list(resumed.folder.glob("*.about.v2"))) == 1
    (tmp_path / "run.json").write_bytes((resumed.folder / "run.json").read_bytes())
    assert not tensorboard.is_described(tmp_path)
    about.describe(tmp_path, resumed.trainer)
    assert values_of(tmp_path).keys() >= TEXTS


def test_texts_say_what_was_trained(resumed):
    values = values_of(resumed.folder)
    found = {tag: text_of(values[tag][0]) for tag in TEXTS}
    command = found["about/command"]
    assert "main.py --algo=qmix \\\n      --env=two_step \\\n      --env_steps=240" in command
    assert "--hidden_size=8" in command and "run_dir" not in command
    assert "| `--hidden_size` | `8` | `64` | `units` |" in found["about/settings"]
    assert "gamma" in found["about/settings"] or "--gamma" not in command
    assert f"| `tensorflow` | `{tf.__version__}` |" in found["about/versions"]
    assert "| `agents` | `2` |" in found["about/environment"]


def test_the_command_of_a_run_gives_its_settings_again(resumed):
    line = about._command(resumed.config, {}).replace("\\\n", " ").strip()
    words = shlex.split(line.partition("main.py")[2])
    again = resolve.resolve(parsing.parse(words))
    assert again == resolve.resolve({**vars(resumed.config), "run_dir": ""})


def test_a_text_of_an_environment_stays_in_its_cell():
    hostile = "a|b`c\n# head\x1b[31m" + "x" * 1000
    cell = about._cell(hostile)
    assert cell.startswith("`a¦b'c # head\\x1b[31mxx") and len(cell) < 300
    assert cell.count("`") == 2 and cell.isprintable()
    shown = about._command(Config(env=f"custom/{hostile}"), {})
    assert shown.count("`") == 2 and shown.isprintable()


def test_hparams_name_settings_and_the_two_returns(resumed):
    found = values_of(resumed.folder)

    def content(tag):
        return found[tag][0].metadata.plugin_data.content

    started = hparams.parse_session_start_info_plugin_data(content(hparams.SESSION_START_INFO_TAG))
    assert set(started.hparams) == set(about.COMPARED)
    assert started.hparams["algo"].string_value == "qmix"
    assert started.hparams["learning_rate"].number_value == resumed.config.learning_rate
    experiment = hparams.parse_experiment_plugin_data(content(hparams.EXPERIMENT_TAG))
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert metrics == ["return/greedy", "return/greedy_best"]
    greedy, best = ([float(tf.make_ndarray(x.tensor)) for x in found[tag]] for tag in metrics)
    assert best == [max(greedy[: i + 1]) for i in range(len(greedy))] and len(best) == 4


def test_runs_are_rows_of_the_table_of_hparams(resumed, tmp_path):
    """The backend of the dashboard makes a row of each run, with its last returns."""
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    for seed in (0, 1):
        folder = tmp_path / f"seed{seed}"
        folder.mkdir()
        for file in resumed.folder.glob("events*[!t].v2"):
            if not file.name.endswith(tensorboard.DESCRIPTION):
                (folder / file.name).write_bytes(file.read_bytes())
        text = (resumed.folder / "run.json").read_text().replace('"seed": 0', f'"seed": {seed}')
        (folder / "run.json").write_text(text)
        about.describe(folder, resumed.trainer)
    runs = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    runs.Reload()
    provider = data_provider.MultiplexerDataProvider(runs, str(tmp_path))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    asked, nobody = (
        api_pb2.ListSessionGroupsRequest(slice_size=9, include_metrics=True),
        RequestContext(),
    )
    asked.allowed_statuses.append(api_pb2.STATUS_UNKNOWN)
    content = context.hparams_metadata(nobody, "")
    experiment = context.experiment_from_metadata(nobody, "", True, content, [])
    rows = list_session_groups.Handler(nobody, context, "", asked).run().session_groups
    assert [info.name for info in experiment.hparam_infos][:4] == [
        *("algo", "env", "learning_rate", "seed")
    ]
    assert sorted(row.hparams["seed"].number_value for row in rows) == [0, 1]
    assert all(value.value for row in rows for value in row.metric_values)


def test_a_description_that_cannot_be_made_is_one_line(resumed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tensorboard, "layout", lambda tags: 1 / 0)
    (tmp_path / "run.json").write_bytes((resumed.folder / "run.json").read_bytes())
    about.describe(tmp_path, resumed.trainer)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("no description of the run: ZeroDivisionError: division by zero")
    assert not tensorboard.is_described(tmp_path)


def charts_of(arranged):
    for category in arranged.category:
        for chart in category.chart:
            yield category.title, chart


def test_one_layout_has_a_chart_for_every_scalar_and_no_empty_one(resumed):
    found = values_of(resumed.folder)
    content = tf.make_ndarray(found["custom_scalars__config__"][0].tensor).item()
    arranged = layout_pb2.Layout.FromString(content)
    tags = {
        tag
        for tag, (value, *_) in found.items()
        if value.metadata.plugin_data.plugin_name == "scalars"
    }
    assert {"return/greedy_best", "run/env_steps_per_second", "learner/loss"} <= tags
    left = set(tags)
    for _, chart in charts_of(arranged):
        patterns = list(chart.multiline.tag)
        patterns += [x for s in chart.margin.series for x in (s.value, s.lower, s.upper)]
        fitting = {tag for tag in tags if any(re.match(p, tag) for p in patterns)}
        assert fitting and fitting <= left, chart.title
        left -= fitting
    assert not left
    titles = [category.title for category in arranged.category]
    assert titles == ["return", "episodes", "learner", "run"]


def test_a_metric_of_the_environment_is_one_chart_of_both_values():
    arranged = layout(["episode/train_a.b", "episode/greedy_a.b", "other/x", "learner/new"])
    charts = [(title, chart.title, *chart.multiline.tag) for title, chart in charts_of(arranged)]
    assert charts == [
        ("episodes", "a.b", r"episode/(train|greedy)_a\.b$"),
        ("learner", "new", "learner/new$"),
        ("other", "x", "other/x$"),
    ]


def test_the_graph_is_of_one_update_and_has_no_large_constant(resumed):
    (event,) = (event for event in events_of(resumed.folder) if event.graph_def)
    graph = tf.compat.v1.GraphDef.FromString(event.graph_def)
    assert len(event.graph_def) < tensorboard.MOST_GRAPH
    nodes = {node.name: node for node in graph.node}
    assert len(nodes) == len(graph.node) > 300
    for node in graph.node:
        assert all(x.lstrip("^").partition(":")[0] in nodes for x in node.input)
        assert all(x.ByteSize() <= 1024 for x in node.attr.values())
    groups = {name.partition("/")[0] for name in nodes}
    assert {"batch", "weights", "mix", "td_target", "loss", "gradient", "learn", "apply"} <= groups
    assert any(name.startswith("mix/qmix/monotonic_mixer/") for name in nodes)
    assert any(x.startswith("learn/") for x in nodes["apply/shards"].input)
    learner = resumed.trainer.learner
    for function in (learner.update, learner._learn, learner._apply):
        assert function.experimental_get_tracing_count() == 1


def test_a_graph_that_is_too_large_is_left_out_with_a_line(resumed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tensorboard, "MOST_GRAPH", 1000)
    (tmp_path / "run.json").write_bytes((resumed.folder / "run.json").read_bytes())
    about.describe(tmp_path, resumed.trainer)
    assert re.search(
        r"graph of the update has [\d,]+ bytes and is left out", capsys.readouterr().err
    )
    assert not any(event.graph_def for event in events_of(tmp_path))
    assert values_of(tmp_path).keys() >= TEXTS


@pytest.mark.slow
@pytest.mark.parametrize("algo", algos.REGISTRY)
def test_the_graph_of_each_algorithm_has_its_parts(algo):
    settings = {"env": "two_step", "algo": algo, **PAIR}
    trainer = Trainer(open_task(resolve.resolve(settings)))
    graph = update_graph(trainer.learner, trainer.batch_spec())
    names = {node.name for node in graph.node}
    assert len(names) == len(graph.node) and graph.ByteSize() < tensorboard.MOST_GRAPH
    roots = {name.partition("/")[0] for name in names}
    assert {"batch", "weights", "loss", "gradient", "learn", "apply"} <= roots and len(roots) < 20
