"""Draws the graph of an update for TensorBoard, grouped by the functions that made its nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from tfmix.algos.base import Algorithm
from tfmix.training.learner import Learner
from tfmix.types import Episode

_PACKAGE = str(Path(__file__).resolve().parents[1])
_DEEPEST = 5  # groups in one another
# Attributes of nodes that TensorBoard shows; functions and large constants are left out.
_MOST_ATTRIBUTE = 1 << 10  # bytes


def update_graph(learner: Learner, batch: Episode[Any]) -> Any:
    """Return the graph of one update, a `GraphDef` to look at.

    A group is a function of tfmix that made the nodes in it. `learn` returns the gradient from
    a shard of the batch, and `apply` does the optimiser step. The insides of loops and
    conditions are left out.

    Args:
      learner: the learner.
      batch: a `TensorSpec` of each field.
    """
    learn, apply = learner.parts(batch)
    names = {
        **_names(learn.graph, "learn", "_learn_from", learner.algorithm),
        **_names(apply.graph, "apply", "_apply_mean", learner.algorithm),
    }
    for tensor, field in zip(learn.graph.inputs, Episode._fields, strict=False):
        names[tensor.op] = f"batch/{field}"
    # The optimiser step begins with what the first shard gives.
    given = {x.op: y for x, y in zip(apply.graph.inputs, learn.graph.outputs, strict=False)}
    graph = tf.compat.v1.GraphDef()
    for op, name in names.items():
        graph.node.append(_node(op, name, names, given.get(op)))
    return graph


def _names(graph: Any, part: str, root: str, algorithm: Algorithm) -> dict[Any, str]:
    """Return the drawn name of each operation of a graph.

    Args:
      graph: the graph of a function.
      part: the outermost group.
      root: the name of the Python function that was traced.
      algorithm: its variables are named by their network.
    """
    names = {op: _name(op, part, root) for op in graph.get_operations()}
    variables = {
        id(variable.handle): f"{which}/{network}/{number}_{variable.name.partition(':')[0]}"
        for which, networks in (("live", algorithm.live), ("target", algorithm.target))
        for network, layer in vars(networks).items()
        if isinstance(layer, tf.Module)
        for number, variable in enumerate(layer.variables)
    }
    prefix = "apply/" if part == "apply" else ""
    for outside, inside in graph.captures:
        if name := variables.get(id(outside)):
            names[inside.op] = f"{prefix}weights/{name}"
    return names


def _name(op: Any, part: str, root: str) -> str:
    """Return the drawn name of an operation, see `_names`.

    Parts of the loss are groups beside one another, so that the first view shows the algorithm.
    """
    groups, (first, *rest) = _groups(op, root), op.name.split("/")
    if part == "learn" and not groups and first == "gradient_tape" and rest:
        groups = ["gradient"]
    elif part == "learn" and len(groups) > 1 and groups[0] == "loss":
        groups = groups[1:]
    elif part == "apply" or not groups:
        groups = [part, *groups]
    return "/".join([*groups, op.name])


def _groups(op: Any, root: str) -> list[str]:
    """Return the functions of tfmix below `root` that led to an operation.

    A layer's `call` is named after its file. `terms` is left out: it is all of the loss.
    """
    found: list[str] = []
    for frame in reversed(op.traceback):  # from the inside: the frames outside of `root` are many
        if not frame.filename.startswith(_PACKAGE):
            continue
        if frame.name == root:
            groups = dict.fromkeys(reversed(found))
            return [name for name in groups if name != "terms"][:_DEEPEST]
        if not frame.name.startswith("<"):
            found.append(
                Path(frame.filename).stem if frame.name == "call" else frame.name.strip("_")
            )
    return []


def _node(op: Any, name: str, names: dict[Any, str], given: Any) -> Any:
    """Return an operation as a node.

    Args:
      op: the operation.
      name: its drawn name.
      names: the drawn names of all operations.
      given: the tensor that an input is given, None for none.
    """
    node = tf.compat.v1.NodeDef(name=name, op="Identity" if given is not None else op.type)
    inputs = op.inputs if given is None else [given]
    node.input.extend(f"{names[x.op]}:{x.value_index}" for x in inputs)
    node.input.extend(f"^{names[x]}" for x in op.control_inputs)
    for key, value in op.node_def.attr.items():
        kind = value.WhichOneof("value")
        if kind != "func" and not key.startswith("_") and value.ByteSize() <= _MOST_ATTRIBUTE:
            node.attr[key].CopyFrom(value)
    return node
