"""Python environments, which are stepped from outside. Nothing here imports TensorFlow.

Each one follows the protocol `tfmix.types.PythonEnv`.
"""


class EnvError(RuntimeError):
    """An environment violated its interface while it ran."""


class EnvRaisedError(EnvError):
    """An environment raised an exception; another try may succeed."""
