"""Every convention in use gives the right numbers, others one clear line (`TeamEnv`, `reading`).

The environments are in tests/envs/cases. The same table holds for the episodes of a
training and for check_env.
"""

import re
import warnings

import numpy as np
import pytest
from gymnasium import spaces

import tfmix
from tests.envs.cases import users, users2, users3
from tfmix.config.schema import Config
from tfmix.envs.check import examine
from tfmix.envs.python import EnvError
from tfmix.envs.python.adapters import custom, reading
from tfmix.envs.python.workers import pool
from tfmix.errors import UserError
from tfmix.training.collect_python import PythonCollector

# class: return and length of an episode, and how it ends.
RIGHT = {
    users.Base: (12, 6, "truncated"),
    users.MaskBesideObs: (12, 6, "truncated"),
    users.MaskBesideObservations: (12, 6, "truncated"),
    users.Relay: (3, 6, "terminated"),
    users.DictSpacesListReward: (12, 6, "truncated"),
    users.DictSpacesArrayEnds: (8, 4, "terminated"),
    users.IntSpaceFloatObs: (12, 6, "truncated"),
    users.AllFlag: (8, 4, "terminated"),
    users.AttributeSpaces: (12, 6, "truncated"),
    users.StateAttribute: (12, 6, "truncated"),
    users.StateNone: (12, 6, "truncated"),
    users.NoneInfos: (12, 6, "truncated"),
    users.NoneInfosReset: (12, 6, "truncated"),
    users.ZeroDReward: (12, 6, "truncated"),
    users.OneElementReward: (12, 6, "truncated"),
    users.CloseRaises: (12, 6, "truncated"),
    users.NoClose: (12, 6, "truncated"),
    users.NotPicklable: (12, 6, "truncated"),
    users.StartAtOne: (12, 6, "truncated"),
    users.StartAtOneMask: (12, 6, "truncated"),
    users.InfoAvail: (12, 6, "truncated"),
    users.BothEnds: (12, 6, "terminated"),
    users.LateAgents: (12, 6, "truncated"),
    users.MixedNames: (18, 6, "truncated"),
    users.Shuffled: (12, 6, "truncated"),
    users.Hostage: (8, 6, "truncated"),
    users.Rllib: (8, 4, "terminated"),
    users.time_limit: (6, 3, "truncated"),
    users.tuple_gone: (12, 6, "truncated"),
    users2.OneFlagTuple: (6, 6, "truncated"),
    users2.ArrayReward1: (6, 6, "truncated"),
    users2.ObsArray: (6, 6, "truncated"),
    users2.PerAgentEndsAll: (12, 6, "truncated"),
    users2.TimeLimitKey: (6, 6, "truncated"),
    users2.DiscreteObs: (12, 6, "truncated"),
    users2.DiscreteObsStart: (12, 6, "truncated"),
    users2.MultiBinaryObs: (12, 6, "truncated"),
    users2.Nested: (12, 6, "truncated"),
    users2.WideInts: (12, 6, "truncated"),
    users2.TextObs: (12, 6, "truncated"),
    users2.NoMasksForNext: (12, 6, "truncated"),
    users2.CommonMask: (12, 6, "truncated"),
    users2.SameArray: (12, 6, "truncated"),
    users2.SelfLimit: (12, 6, "truncated"),
    users2.LimitMethod: (12, 6, "truncated"),
    users2.LastRewardOnly: (17, 6, "truncated"),
    users2.Reborn: (10, 6, "truncated"),
    users3.Pm: (6, 6, "terminated"),
    users3.Info: (6, 6, "truncated"),
    users3.EpymarlRewards: (18, 6, "truncated"),
    users3.EpymarlListEnds: (18, 6, "terminated"),
    users3.ObsShapeTuple: (6, 6, "terminated"),
    users3.InfoNone: (6, 6, "terminated"),
    users3.StackActions: (6, 6, "terminated"),
    users3.CloseRaisesPm: (6, 6, "terminated"),
    users3.MaskFloat: (6, 6, "terminated"),
    users3.DoneNumpy: (6, 6, "terminated"),
    users3.DoneList: (6, 6, "terminated"),
    users3.RewardList: (12, 6, "terminated"),
}
# class: what the one line says.
REFUSED = {
    users.SomeLook: "no observation for b.* in env.agents",
    users.OtherNames: "no reward for a after acting",
    users.StateDict: "the state cannot be read: it is {'grid'",
    users.OnlyAgents: "no possible_agents: a ParallelEnv",
    users.ListFlags: r"the terminations are \[False, False\], not a dict",
    users.ArrayEverything: "the observations are .*, not a dict",
    users.ArrayRewards: r"the rewards are \[2. 3.\], not a dict",
    users.NoneReward: "the reward of a is None, not one number",
    users.MultiDiscreteActions: "needs discrete actions",
    users.Multi: "a Tuple with a Discrete for each agent",
    users.OldSteps: r"reset\(self, seed=None, options=None\)",
    users.OldGymSpaces: "of the package gym; tfmix reads Gymnasium's",
    users.AdditiveMask: r"the action mask of a is \[ 0. -inf\], not 2 values of 0 and 1",
    users.WrongLimitName: "episode_limit",
    users.AllGone: "a left env.agents without being terminated or truncated",
    users2.UnboundedBig: r"holds 1e\+39, and float32 goes to",
    users2.SequenceObs: "has no fixed size",
    users2.ShortMask: r"the action mask of a is \[1\], not 2 values",
    users2.MaskList: r"the action mask of a is \[0, 1, 2\], not 3 values of 0 and 1",
    users2.SystemExits: "SystemExit: no licence",
    users2.gives_class: "gives the class Base, not an environment",
    users3.NoLimit: "episode_limit",
}
NAMES = {case: case.__name__ for case in (*RIGHT, *REFUSED)}


class Chance:
    """A team that plays random legal actions."""

    policy_state_size = 0

    def act(self, obs, legal, policy_state, explore_mask, exploration_scores):
        return np.where(legal, exploration_scores, -1.0).argmax(-1), policy_state


def episode_of(case):
    """Plays an episode as a training does: its return, length and end."""
    env = custom.make_from_factory(case, "case", "sum", 0)
    env.rehearse()
    vector_env = pool.in_process([env], Config())
    played = PythonCollector(vector_env, Chance).collect([0, 0], 0, 1.0, 1)
    length = int(played.mask.sum())
    end = "terminated" if played.terminated.any() else "truncated"
    assert np.isfinite(played.obs).all() and played.obs[0, :length].any()
    return played.reward.sum(), length, end


def report_of(case):
    return tfmix.check_env(case, episodes=2, env_workers=0)


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    monkeypatch.setattr(examine, "SPEED_SECONDS", 1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # NumPy's, of casts
        yield


@pytest.mark.parametrize("case", RIGHT, ids=NAMES.get)
def test_a_convention_in_use_gives_the_right_numbers_in_training_and_in_check_env(case):
    total, length, end = RIGHT[case]
    assert episode_of(case) == (total, length, end)
    report = report_of(case)
    assert report.ok or case is users.IntSpaceFloatObs, report
    assert f"mean return {total}," in report.rows["random team"]
    assert report.rows["episodes"].startswith(f"2 of {length} env steps")
    assert report.rows["ends"].startswith("2 term" if end == "terminated" else "0 terminated, 2")


@pytest.mark.parametrize("case", REFUSED, ids=NAMES.get)
def test_what_fits_no_convention_is_one_clear_line_in_training_and_in_check_env(case):
    with pytest.raises((UserError, EnvError), match=REFUSED[case]) as caught:
        episode_of(case)
    assert "\n" not in str(caught.value)
    try:
        report = report_of(case)
    except UserError as error:
        said = str(error)
    else:
        assert not report.ok
        said = " ".join(map(str, report.violations)).replace("a, b", "a")
    assert re.search(REFUSED[case], said)


def test_numbers_beyond_a_spaces_type_are_kept_and_reported():
    report = report_of(users.IntSpaceFloatObs)
    assert [w.rule for w in report.warnings] == ["cast"]
    assert "float32 in a space of uint8" in str(report.warnings[0])
    assert "digits" in [w.rule for w in report_of(users2.WideInts).warnings]


def test_a_training_is_told_of_an_environment_that_plays_on_at_its_own_limit():
    class Long(users.Base):
        max_steps = 4
        max_cycles = None

        def step(self, actions):
            self.max_cycles = 9
            given = super().step(actions)
            self.max_cycles = None
            return given

    (notice,) = custom.make_from_factory(Long, "case", "sum", 0).rehearse()
    assert "does not end at its max_steps of 4 env steps" in notice
    assert custom.make_from_factory(Long, "case", "sum", 9).rehearse() == []


# Single values.


@pytest.mark.parametrize(
    "value,wanted",
    [
        (True, True),
        (0, False),
        (np.bool_(True), True),
        (np.array([0.0]), False),
        *((value, None) for value in ("False", None, 2, 0.5, [True, False], np.nan, 1j)),
    ],
)
def test_flag_reads_one_yes_or_no(value, wanted):
    assert reading.flag(value) is wanted


@pytest.mark.parametrize(
    "value,wanted",
    [
        ([False, True], False),
        ((1, 1), True),
        (np.ones(3), True),
        ({"a": True, "b": True}, True),
        ({"__all__": True, "a": False}, True),
        ({"__all__": False}, False),
        *((value, None) for value in ([], {}, "yes", [True, "no"], None)),
    ],
)
def test_all_flags_reads_the_end_of_a_team(value, wanted):
    assert reading.all_flags(value) is wanted


@pytest.mark.parametrize(
    "value,wanted",
    [
        (3, 3.0),
        (np.float32(0.5), 0.5),
        (np.array([[2]]), 2.0),
        (True, 1.0),
        (10**400, np.inf),
        *((value, None) for value in ("1", None, 1j, [1, 2], [[1], [2, 3]], {})),
    ],
)
def test_number_reads_one_real_number(value, wanted):
    assert reading.number(value) == wanted


@pytest.mark.parametrize(
    "value,wanted",
    [
        ([1, 0, 1], [True, False, True]),
        (np.array([True] * 3), [True] * 3),
        (np.float64([0, 0, 1]), [False, False, True]),
        *((v, None) for v in ([0, -np.inf, 0], [1, 1], 1, [1, 1, np.nan], ["1"] * 3, [0, 1, 2])),
    ],
)
def test_mask_reads_zeros_and_ones_of_its_size(value, wanted):
    found = reading.mask(value, 3)
    assert (found is None) == (wanted is None)
    if wanted:
        assert found.tolist() == wanted


SPACES = [
    spaces.Box(-1, 1, (2, 3)),
    spaces.Box(0, 255, (4,), np.uint8),
    spaces.Discrete(4, start=-1),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary([2, 2]),
    spaces.Text(4),
    spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Box(-1, 1, (2,))}),
    spaces.Tuple([spaces.Discrete(2), spaces.Dict({"x": spaces.MultiBinary(3)})]),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_reader_gives_the_numbers_of_gymnasiums_flatten(space):
    space.seed(0)
    for _ in range(5):
        value = space.sample()
        wanted = spaces.utils.flatten(space, value)
        np.testing.assert_array_equal(
            reading.observation_reader(space)(value), np.asarray(wanted, np.float32)
        )


@pytest.mark.parametrize(
    "space,value",
    [
        (spaces.Discrete(3), -1),
        (spaces.Discrete(3), 3),
        (spaces.Discrete(3), 0.5),
        (spaces.MultiDiscrete([2, 2]), [0, 2]),
        (spaces.MultiBinary(2), [0, 2]),
        (spaces.Box(-1, 1, (2,)), [1j, 0]),
        (spaces.Box(-1, 1, (2,)), ["0", "1"]),
        (spaces.Box(-1, 1, (2,)), [0.0]),
        (spaces.Dict({"a": spaces.Discrete(2)}), {"b": 0}),
        (spaces.Tuple([spaces.Discrete(2)] * 2), [0]),
    ],
    ids=str,
)
def test_reader_refuses_what_is_not_in_the_space(space, value):
    with pytest.raises(reading.MisfitError):
        reading.observation_reader(space)(value)


def test_brief_shows_any_object_in_one_short_line():
    class OddError(Exception):
        def __repr__(self):
            raise RuntimeError

    assert reading.brief(OddError()) == "a OddError"
    assert len(reading.brief(np.arange(10**6))) < 70 and "\n" not in reading.brief(np.ones([3, 3]))
    assert reading.brief("\x1b[2J") == "'\\\\x1b[2J'"
