"""A trained team is shown as it played, and no text of an environment becomes markup."""

import dataclasses
import html.parser
import io
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfmix import UserError
from tfmix.config.schema import Config
from tfmix.envs.kinds import Kind, kind_of
from tfmix.runs import watching
from tfmix.runs.run import Run
from tfmix.training.task import open_task
from tfmix.training.trainer import Trainer
from tfmix.types import EnvSpec
from tfmix.watch import gif, scenes, svg
from tfmix.watch.film import captioned
from tfmix.watch.page import content, page, safe_json
from tfmix.watch.record import MOST_CELLS, as_json
from tfmix.watch.scenes import games, tables

SMALL = {"hidden_size": 8, "mixer_embed": 4, "hypernet_embed": 4, "qtran_embed": 8, "n_envs": 1}
SMALL |= {"central_embed": 8, "duplex_kernels": 2, "eval_episodes": 2, "buffer_episodes": 4}
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
HOSTILE = "</script><script>alert(1)</script><!-- ]]>&\"'\u2028\x1b[31m"


def new_run(folder, env="mpe/simple_spread", algo="qmix", given=None, **settings):
    """A run that has not learned anything."""
    config = Config(env=env, algo=algo, **{**SMALL, **settings})
    return Run.of(folder, Trainer(open_task(config, given)))


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spread")
    return new_run(folder, env_arg=("max_cycles=4",))


@pytest.fixture(scope="module")
def watched(spread):
    return spread.watch(2)


class Page(html.parser.HTMLParser):
    """Collects a page's elements, and the text of its scripts and its record."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.inside = [], [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "script"

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data

    @property
    def record(self):
        return json.loads(self.scripts[0])


def test_records_are_the_episodes_of_rollout_with_the_values_of_q_values(spread, watched):
    for record, episode in zip(watched.records, spread.rollout(2), strict=True):
        for ours, theirs in zip(record.episode, episode, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        spread.reset()
        for t in range(record.steps):
            obs, legal = episode.obs[t], episode.legal[t]
            np.testing.assert_allclose(record.q[t], spread.q_values(obs, legal), 1e-4, 1e-5)
            np.testing.assert_array_equal(spread.act(obs, legal), record.greedy[t])
        np.testing.assert_array_equal(record.greedy, record.episode.action)
        total = record.episode.reward @ spread.config.gamma ** np.arange(record.steps)
        assert record.to_come[0] == pytest.approx(total, rel=1e-5)


def test_slopes_are_those_of_the_mixer(spread, watched):
    record, small = watched.records[0], 1e-2
    chosen = np.take_along_axis(record.q[:-1], record.episode.action[..., None], -1)[..., 0]
    mixer, state = spread.algorithm.live.mixer, tf.constant(record.episode.state[None, :-1])
    for i in range(3):
        step = small * np.eye(3, dtype=np.float32)[i]
        ends = [mixer(tf.constant(chosen[None] + sign * step), state) for sign in (1, -1)]
        slope = (ends[0] - ends[1])[0] / (2 * small)
        np.testing.assert_allclose(record.slopes[:, i], slope, 2e-2, 1e-3)
    np.testing.assert_allclose(record.team["Q_tot"], mixer(chosen[None], state)[0], 1e-4, 1e-5)


def test_states_are_those_of_the_episodes(spread, watched):
    record = watched.records[1]
    action = np.stack([one.episode.action for one in watched.records])
    states = spread.collector.states_of(tf.constant([0, 4]), tf.constant(0, tf.int64), action)
    places = np.stack([state.position.numpy()[1] for state in states])
    np.testing.assert_allclose(places, record.episode.obs[..., 2:4], 0, 1e-5)


def test_page_is_whole_and_its_json_is_the_record(watched):
    for record, path in zip(watched.records, watched.pages, strict=True):
        text = path.read_text()
        found = Page(text)
        for outside in ("http:", "https:", "src=", "@import", "url(", "<link", "<iframe"):
            assert outside not in text
        values = json.loads(json.dumps(record.values()))
        assert {name: found.record[name] for name in values} == values
        assert found.record["q"][1] == as_json(record.q[1])
        assert [a["actions"][1] for a in found.record["agents"]] == ["left"] * 3
        assert [a["sign"] for a in found.record["agents"]] == ["A", "B", "C"]
        moments = [a for tag, a in found.tags if tag == "g" and a.get("class") == "moment"]
        assert len(moments) == record.steps + 1


def test_svg_is_well_formed_and_gif_has_a_frame_a_step_and_the_end(watched):
    for record, drawing, film in zip(watched.records, watched.svgs, watched.gifs, strict=True):
        root = ET.parse(drawing).getroot()
        shown = [g for g in root if g.tag.endswith("}g") and g.get("class") == "moment"]
        assert len(shown) == record.steps + 1
        assert "@keyframes" in drawing.read_text()
        with Image.open(film) as moving:
            assert (moving.format, moving.n_frames) == ("GIF", record.steps + 1)
    assert watched._repr_html_().count("data:image/svg+xml") == 2


TASKS = {
    "mpe/simple_speaker_listener": ("max_cycles=2",),
    "mpe/simple_reference": ("max_cycles=2",),
    "predator_prey/qtran": ("max_cycles=2", "size=3"),
    "predator_prey/stag_hunt": ("max_cycles=2", "size=3", "n_agents=2", "n_stags=1"),
    "predator_prey/pair_hunt": ("max_cycles=2",),
    "matrix/qtran": (),
    "matrix/climbing": ("max_cycles=2",),
    "matrix/custom": ("payoff=[[[1,2],[3,4]],[[5,6],[7,8]]]",),
    "two_step": (),
    "gaussian_squeeze/k2": ("n=3",),
}


@pytest.mark.parametrize("env", TASKS)
def test_every_graph_environment_is_drawn(env, tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "agreement", lambda run: "")
    run = new_run(tmp_path, env, "vdn", env_arg=TASKS[env])
    assert kind_of(run.collector.env) is Kind.BUILT_IN
    assert type(run.collector.env) in scenes.DRAW
    found = run.watch(1)
    record = found.records[0]
    assert len(Page(found.pages[0].read_text()).record["reward"]) == record.steps
    ET.parse(found.svgs[0])
    with Image.open(found.gifs[0]) as moving:
        assert moving.n_frames == record.steps + 1
    np.testing.assert_allclose(record.slopes, 1.0)


@pytest.mark.parametrize("algo", ["iql", "qtran_base", "qtran_alt", "ow_qmix", "qplex"])
def test_values_of_all_joint_actions(algo, tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "agreement", lambda run: "")
    run = new_run(tmp_path, "matrix/qtran", algo)
    record = run.watch(1).records[0]
    taken = tuple(record.episode.action[0])
    names = {"iql": [], "ow_qmix": ["Q_tot", "Q*"], "qplex": ["Q_tot"]}
    assert list(record.tables) == names.get(algo, ["Q_jt", "sum of Q_i"])
    for name, table in record.tables.items():
        assert table.shape == (1, 3, 3) and table.size < MOST_CELLS
        assert table[0][taken] == pytest.approx(record.team[name][0], rel=1e-4, abs=1e-5)
    assert (record.slopes is None) == (algo in ("iql", "qtran_base", "qtran_alt"))


def test_sentences_say_why_a_monotonic_team_misses_the_best_payoff(watched):
    payoff = np.float32([[8, -12, -12], [-12, 0, 0], [-12, 0, 0]])
    flat = np.where(payoff > 0, -9.0, payoff)
    record = dataclasses.replace(watched.records[0], algo="qmix", tables={"Q_tot": flat[None]})
    lost, why = games.explained(record, payoff, (1, 1))
    assert "gets 0.00; the best payoff is 8.00 at (0, 0)" in lost
    assert "depends on the other's" in why and "-17.00 at (0, 0)" in why
    record = dataclasses.replace(record, algo="qtran_alt", tables={"Q_jt": payoff[None]})
    won, why = games.explained(record, payoff, (0, 0))
    assert "the best payoff" in won and "Nothing constrains Q_jt" in why
    assert not games._depends(np.float32([[1, 2], [3, 5]]))


def test_text_of_an_environment_is_never_markup(watched):
    record = dataclasses.replace(watched.records[0], env=HOSTILE, agents=(HOSTILE,) * 3)
    names = [[HOSTILE] * 5] * 3
    scene = tables.observations(record, HOSTILE)
    text = page(record, scene, names, (HOSTILE,))
    found = Page(text)
    assert len(found.scripts) == 2 and found.record == content(record, names)
    assert "alert(1)" not in found.scripts[1] and "\x1b" not in text.split("<ul>")[0]
    plain = Page(page(watched.records[0], scene, names))
    assert [tag for tag, _ in plain.tags if tag != "li"] == [
        tag for tag, _ in found.tags if tag != "li"
    ]
    film = captioned(scene, record, names)
    ET.fromstring(svg.animated(film, HOSTILE, 100))
    gif.write(film, io.BytesIO(), 100)
    assert "<" not in safe_json({"a": HOSTILE}) and "\u2028" not in safe_json(HOSTILE)
    assert json.loads(safe_json(HOSTILE)) == HOSTILE


class Lights:
    """Two agents switch a light; it draws itself if `pictures` says so."""

    spec = EnvSpec("lights", 2, 2, 3, 3, 3, (2, 2))
    pictures = True

    def reset(self, seed):
        self.clock, self.seed = 0, seed % 100
        return self._seen()

    def _seen(self):
        own = [self.clock, self.seed, 1]
        return np.float32([own, own]), np.float32(own), np.ones([2, 2], bool)

    def step(self, action):
        self.clock += 1
        return *self._seen(), 1.0, self.clock == 3, False, {}

    def render(self):
        if not self.pictures:
            raise RuntimeError("no \x1b[31mscreen")
        return np.full([20, 30, 3], 40 * self.clock, np.uint8)

    def close(self):
        pass


def test_a_python_environment_shows_its_own_frames(tmp_path):
    found = new_run(tmp_path, "custom/Lights", "vdn", Lights()).watch(1)
    assert found.notes == ()
    with Image.open(found.gifs[0]) as film:
        shades = []
        for t in range(4):
            film.seek(t)
            shades.append(film.convert("RGB").getpixel((20, 20))[0])
    assert np.allclose(shades, [0, 40, 80, 120], atol=6)
    assert found.pages[0].read_text().count("data:image/png;base64") == 4


def test_an_environment_that_cannot_draw_is_one_line_and_shows_observations(tmp_path, capsys):
    lights = Lights()
    lights.pictures = False
    found = new_run(tmp_path, "custom/Lights", "vdn", lights).watch(1)
    (line,) = capsys.readouterr().err.splitlines()
    assert "does not draw itself (RuntimeError: no \\x1b[31mscreen)" in line
    assert "observations are shown instead" in line
    assert line.split(":")[1].strip() in found.notes[0] and "\x1b" not in str(found)
    assert "observations" in found.pages[0].read_text()


@pytest.mark.parametrize(
    "wrong", [{"episodes": 0}, {"episodes": 65}, {"episodes": 1.5}, {"seed": -1}, {"epsilon": 2}]
)
def test_wrong_arguments(spread, wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(UserError, match=f"{name}={value}"):
        spread.watch(**wrong)


def test_command_line(main_py, tmp_path):
    folder = tmp_path / "run"
    small = ["--hidden_size=8", "--mixer_embed=4", "--n_envs=1", "--batch_episodes=4"]
    small += ["--eval_episodes=2", "--eval_period_env_steps=40"]
    game = ["--env=matrix/qtran", "--algo=qmix", "--env_steps=40", f"--run_dir={folder}"]
    assert main_py(*game, *small).returncode == 0
    done = main_py("--mode=watch", f"--run_dir={folder}", "--episodes=2", "--seed=5")
    assert done.returncode == 0
    assert "agrees with the logged one" in done.stdout and "Q_tot" in done.stdout
    names = sorted(path.name for path in (folder / "watch").iterdir())
    assert names == ["1.gif", "1.html", "1.svg", "2.gif", "2.html", "2.svg"]
    metrics = folder / "metrics.csv"
    text = metrics.read_text()
    column = text.splitlines()[0].split(",").index("greedy_return")
    rows = [line.split(",") for line in text.splitlines()]
    for row in rows[1:]:
        row[column] = "77.0"
    metrics.write_text("\n".join(map(",".join, rows)) + "\n")
    done = main_py("--mode=watch", f"--run_dir={folder}", "--episodes=1")
    assert "DIFFERS from the logged one" in done.stdout
    for words, text in (
        (["--mode=watch"], "needs --run_dir"),
        (["--mode=watch", f"--run_dir={tmp_path / 'none'}"], "none"),
        (["--mode=watch", f"--run_dir={folder}", "--episodes=0"], "episodes"),
        (["--mode=watch", f"--run_dir={folder}", "--epsilon=2"], "epsilon"),
        (["--mode=evaluate", f"--run_dir={folder}", "--episodes=2"], "is for --mode=watch"),
    ):
        done = main_py(*words)
        assert done.returncode == 2 and text in done.stderr and done.stderr.count("\n") == 1


DRIVER = """<script>
const seen = [], problems = [];
window.onerror = (message) => { problems.push(message); };
document.addEventListener("securitypolicyviolation", (e) => problems.push(e.violatedDirective));
const key = (name) => document.body.dispatchEvent(
  new KeyboardEvent("keydown", {key: name, bubbles: true, cancelable: true}));
const look = (what) => seen.push([what, document.querySelectorAll("#scene .shown").length,
  Array.from(document.querySelectorAll("#scene .moment")).findIndex(
    (g) => g.classList.contains("shown")),
  document.getElementById("moment").textContent,
  document.getElementById("team").innerText,
  Array.from(document.querySelectorAll(".act.taken")).map((row) => row.innerText)]);
look("start"); key("ArrowRight"); look("right"); key("End"); look("end"); key("ArrowLeft");
look("left"); key("Home"); look("home");
const slider = document.getElementById("slider");
slider.value = 2; slider.dispatchEvent(new Event("input")); look("slider");
key(" "); key(" "); look("paused"); key(" ");
setTimeout(() => { look("played");
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const out = document.createElement("pre"); out.id = "out";
  out.textContent = JSON.stringify({seen, problems, wide, width: window.innerWidth,
    loaded: performance.getEntriesByType("resource").length});
  document.body.append(out); }, 4000);
</script></body>"""


@pytest.mark.parametrize("width", [1280, 400])
def test_page_in_a_browser(watched, tmp_path, width):
    if BROWSER is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    text = watched.pages[0].read_text().replace("</body>", DRIVER)
    file = tmp_path / "page.html"
    file.write_text(text)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=9000"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    done = subprocess.run(
        [BROWSER, *flags, "--enable-logging=stderr", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    told = json.loads(html.unescape(found[1]))
    assert told["problems"] == [] and told["loaded"] == 0 and "CONSOLE" not in done.stderr
    assert told["wide"] <= 0, "the page scrolls sideways"
    steps = watched.records[0].steps
    at = {what: moment for what, _, moment, *_ in told["seen"]}
    assert all(count == 1 for _, count, *_ in told["seen"])
    keys = {"start": 0, "right": 1, "end": steps, "left": steps - 1, "home": 0}
    assert at == {**keys, "slider": 2, "paused": 2, "played": steps}
    record = watched.records[0]
    shown = {what: (team, taken) for what, _, _, _, team, taken in told["seen"]}
    team, taken = shown["slider"]
    assert f"{record.team['Q_tot'][2]:.2f}" in team and f"{record.episode.reward[2]:.2f}" in team
    for i, row in enumerate(taken):
        action = int(record.episode.action[2, i])
        assert ["none", "left", "right", "down", "up"][action] in row
        value = record.q[2, i, action]
        assert ("0.00" if abs(value) < 0.005 else f"{value:.2f}") in row
