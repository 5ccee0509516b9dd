"""Which settings each algorithm reads, known before TensorFlow is imported."""

from __future__ import annotations

from tfmix.config.schema import Config
from tfmix.networks import agent_spec

_QMIX = frozenset({"mixer_embed", "hypernet_embed", "hypernet_layers"})
_WQMIX = _QMIX | {"central_embed", "wqmix_alpha"}
_QATTEN = frozenset({"mixer_embed", "hypernet_embed", "attention_heads", "attention_bias"})
_QTRAN = frozenset({"double_q", "qtran_embed", "qtran_state_value", "opt_loss", "nopt_min_loss"})
# Each algorithm's `settings`, as its class declares them; a test compares the two.
DECLARED: dict[str, frozenset[str]] = {
    "iql": frozenset({"double_q"}),
    "vdn": frozenset({"double_q"}),
    "qmix": _QMIX | {"double_q"},
    "qatten": _QATTEN | {"double_q", "attention_logit_loss"},
    "cw_qmix": _WQMIX,
    "ow_qmix": _WQMIX,
    "qtran_base": _QTRAN,
    "qtran_alt": _QTRAN | {"qtran_slack"},
    "qplex": frozenset(
        {"double_q", "hypernet_embed", "duplex_kernels", "duplex_layers", "duplex_alpha"}
    ),
}


def shared(config: Config) -> frozenset[str]:
    """Return what every algorithm reads, if its settings are those of `config`.

    Some settings matter only under others, such as `n_step` without `td_lambda`.
    """
    returns = {"gamma", "td_lambda", "q_lambda" if config.td_lambda > 0 else "n_step"}
    return agent_spec.settings_read(config) | returns
