"""Environments that Python steps. No TensorFlow here.

One is an object with

  spec                       a `tfmix.types.EnvSpec`
  reset(seed)                -> obs [N, O], state [S], legal [N, A]
  step(action [N])           -> obs, state, legal, reward, terminated, truncated, info
  close()
  agent_names                where it has them, N names for what goes wrong
"""


class EnvError(RuntimeError):
    """The environment broke its word while it ran."""


class EnvRaisedError(EnvError):
    """The environment raised something itself; another try may go better."""
