"""Payoff tables, read without TensorFlow so that a wrong one is answered at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmix.envs.graph import MOST_REWARD
from tfmix.errors import UserError

NOT_A_TABLE = (
    "payoff must be a full array of numbers with one axis an agent, such as "
    "[[8,-12],[-12,0]]; its rows differ in length or hold something else"
)


def read_payoff(name: str, payoff: Any) -> Any:
    """Return the payoff table of the game `name`, one axis for each agent, float64.

    Raises:
      UserError: the table is not full, not finite or for fewer than two agents.
    """
    try:
        table = np.asarray(payoff, np.float64)
        kinds = {type(x) for x in np.asarray(payoff, object).flat}
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: {NOT_A_TABLE}") from error
    except OverflowError as error:
        raise UserError(f"{name} cannot be made: OverflowError: {error}") from error
    # NumPy reads text and true as numbers too.
    if not all(issubclass(k, int | float | np.number) and k is not bool for k in kinds):
        raise UserError(f"{name}: {NOT_A_TABLE}")
    if table.ndim < 2 or 0 in table.shape:
        raise UserError(
            f"{name}: payoff has {table.ndim} axes; it needs one for each of two or more agents"
        )
    if not (np.abs(table) <= MOST_REWARD).all():
        raise UserError(
            f"{name}: payoff holds a number that is not finite or beyond {MOST_REWARD:,g}: scale it"
        )
    return table
