"""Checks the inputs of a signature, and says which one is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmix.errors import UserError
from tfmix.serving.contract import BATCH, Contract, Tensor
from tfmix.utils import text

MOST_ROWS = 16_384  # rows B of one call
_KINDS = {"float32": "biuf", "bool": "biuf", "int32": "iu"}
MOST_NAMES = 8  # agents that an error lists


def read_inputs(
    contract: Contract, signature: str, given: Mapping[str, Any], kept_hidden: bool = False
) -> dict[str, np.ndarray]:
    """Return the inputs of a signature as arrays of its types and shapes.

    Args:
      contract: of the export.
      signature: a name of `contract.signatures`.
      given: arrays, or what NumPy makes arrays of, by name. `legal` may hold 1 and 0, and
        `agent` names.
      kept_hidden: whether the caller keeps `hidden`, which is not an input then.

    Raises:
      UserError: there is no such signature, an input is missing or not known, has another
        type or shape, is not finite, names no agent, or leaves an agent without an action.
    """
    wanted = dict(find_signature(contract, signature).inputs)
    if kept_hidden:
        wanted.pop("hidden", None)
    for name in given:
        if name not in wanted:
            near = text.nearest(str(name), wanted)
            raise UserError(
                f"{signature} has no input {text.clean(repr(name), 60)}{near}; "
                f"it takes {', '.join(wanted)}"
            )
    for name, tensor in wanted.items():
        if name not in given:
            raise UserError(f"{signature} needs the input {name}, {describe(tensor)}")
    found = {name: _read(contract, name, x, given[name]) for name, x in wanted.items()}
    _check_rows(found, wanted)
    if "obs" in found:
        _check_agents(contract, found)
    return found


def find_signature(contract: Contract, name: str) -> Any:
    """Return a signature of a contract; raise UserError, with the nearest name, if none is."""
    signatures = contract.signatures
    if name not in signatures:
        near = text.nearest(str(name), signatures)
        raise UserError(
            f"there is no signature {text.clean(repr(name), 60)}{near}; "
            f"there are {', '.join(signatures)}"
        )
    return signatures[name]


def find_agent(contract: Contract, name: Any) -> int:
    """Return the index of an agent, given by its name or index.

    Raises:
      UserError: there is no such agent.
    """
    if isinstance(name, bytes):
        name = name.decode(errors="replace")
    found = index_of(contract.names, name)
    if found is not None:
        return found
    near = text.nearest(name, contract.names) if isinstance(name, str) else ""
    raise UserError(
        f"there is no agent {text.clean(repr(name), 60)}{near}; the agents are "
        f"{listed(contract.names)}, or their indices 0 to {len(contract.names) - 1}"
    )


def index_of(names: Sequence[str], agent: Any) -> int | None:
    """Return the index of an agent, given by its name or index; None if there is no such agent."""
    if isinstance(agent, str) and agent in names:
        return names.index(agent)
    is_index = isinstance(agent, int | np.integer) and not isinstance(agent, bool)
    return int(agent) if is_index and 0 <= agent < len(names) else None


def listed(names: Sequence[str]) -> str:
    """Return the first names of agents as text, for an error."""
    return ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")


def describe(tensor: Tensor) -> str:
    """Return type and shape as text, such as `float32 [B, 2, 3]`."""
    return f"{tensor.dtype} [{', '.join(map(str, tensor.shape))}]"


def to_array(name: str, given: Any, kinds: str, wanted: str) -> np.ndarray:
    """Return an input as an array of one of the NumPy kinds in `kinds`.

    Raises:
      UserError: it is none; `wanted` says what the input takes.
    """
    try:
        found = np.asarray(given)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(
            f"{name} is not an array, and it takes {wanted}: {text.clean(error, 100)}"
        ) from error
    if found.dtype.kind not in kinds:
        raise UserError(f"{name} holds values of type {found.dtype}, and it takes {wanted}")
    return found


def _read(contract: Contract, name: str, tensor: Tensor, given: Any) -> np.ndarray:
    """Return one input; raise UserError if its type or shape is wrong."""
    wanted = describe(tensor)
    if name == "agent":
        named = to_array(name, given, "iuUSO", f"{wanted} or names")
        found = np.asarray([find_agent(contract, x) for x in named.ravel().tolist()], np.int32)
        found = found.reshape(named.shape)
    else:
        found = to_array(name, given, _KINDS[tensor.dtype], wanted)
    fits = len(found.shape) == len(tensor.shape) and all(
        want in (BATCH, size) for size, want in zip(found.shape, tensor.shape, strict=True)
    )
    if not fits:
        raise UserError(f"{name} has shape {list(found.shape)}, and it takes {wanted}")
    if tensor.dtype == "bool" and found.dtype != bool and not np.isin(found, (0, 1)).all():
        raise UserError(f"{name} takes true and false, or 1 and 0, and has other values")
    if tensor.dtype == "float32":
        with np.errstate(over="ignore"):  # too large numbers become infinite and are refused
            return found.astype(np.float32)
    return found.astype(tensor.dtype)


def _check_rows(found: Mapping[str, np.ndarray], wanted: Mapping[str, Tensor]) -> None:
    """Raise UserError unless all inputs have one number of rows, from 1 to `MOST_ROWS`."""
    rows = {name: len(found[name]) for name, x in wanted.items() if x.shape[:1] == (BATCH,)}
    if "batch_size" in found:
        rows["batch_size"] = int(found["batch_size"])
    for name, count in rows.items():
        if not 1 <= count <= MOST_ROWS:
            raise UserError(f"{name} is for {count} episodes: it takes 1 to {MOST_ROWS:,}")
    if len(set(rows.values())) > 1:
        shown = ", ".join(f"{count} of {name}" for name, count in rows.items())
        raise UserError(f"the inputs are for different numbers of episodes: {shown}")


def _check_agents(contract: Contract, found: Mapping[str, np.ndarray]) -> None:
    """Raise UserError, with the agent's name, for an agent that cannot act."""
    own: np.ndarray = np.asarray(contract.own_actions)
    if "agent" in found:
        own = own[found["agent"]]
    for name in ("obs", "hidden"):
        if name in found:
            wrong = ~np.isfinite(found[name]).all(-1)
            refuse(contract, found, wrong, f"its {name} is NaN, infinite or too large")
    refuse(contract, found, ~(found["legal"] & own).any(-1), "none of its own actions is legal")


def refuse(
    contract: Contract, found: Mapping[str, np.ndarray], wrong: np.ndarray, why: str
) -> None:
    """Raise UserError with the first agent for which `wrong`, [B, N] or [B], is True."""
    if not wrong.any():
        return
    row, *agent = np.argwhere(wrong)[0]
    index = int(agent[0]) if agent else int(found["agent"][row])
    place = f" in row {row}" if len(wrong) > 1 else ""
    name = text.clean(repr(contract.names[index]), 80)
    raise UserError(f"agent {name}{place} cannot act: {why}")
