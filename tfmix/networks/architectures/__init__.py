"""The architectures of the agents' networks, one file each. No TensorFlow at import."""

from __future__ import annotations

from tfmix.config.schema import Config
from tfmix.networks.architectures.base import Architecture
from tfmix.networks.architectures.feed_forward import FeedForward
from tfmix.networks.architectures.gru import Gru

REGISTRY: dict[str, Architecture] = {
    architecture.name: architecture for architecture in (Gru(), FeedForward())
}


def chosen_by(config: Config) -> str:
    """Return the name of the architecture that the settings ask for."""
    return Gru.name if config.recurrent else FeedForward.name
