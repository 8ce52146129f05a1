"""crvUSD and LlamaLend: constants of the band contracts.

Source: curvefi/curve-stablecoin at 63ac0686 (2024-08-22), AMM.vy and Controller.vy.
"""

import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxrisk.venue.band_oracle import LimitedOracle

YEAR_SECONDS = 365.0 * 86400.0
ORACLE_WINDOW_SECONDS = 120.0
"""`PREV_P_O_DELAY`."""
LARGEST_ORACLE_MOVE = 1.25
"""`MAX_P_O_CHG`: keeps the dynamic fee of one move below one half."""


def limited_oracle(dtype: DTypeLike = float) -> LimitedOracle:
    """Return how the bands' oracle is limited."""
    return LimitedOracle(
        window=jnp.asarray(ORACLE_WINDOW_SECONDS / YEAR_SECONDS, dtype),
        maximum_factor=jnp.asarray(LARGEST_ORACLE_MOVE, dtype),
    )
