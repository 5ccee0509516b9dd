"""Serves exported policies: `Policy` reads an export, checks what it is given and acts.

It needs TensorFlow, LiteRT or onnxruntime, and nothing that trains.
"""

from __future__ import annotations

from tfmix.serving.contract import Contract
from tfmix.serving.policy import Policy

__all__ = ["Contract", "Policy"]
