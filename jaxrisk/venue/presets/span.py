"""SPAN: the sixteen scenarios of a risk array.

A price scan range in thirds, each with volatility up and down, and two extreme moves of which a
share counts. Ranges are set by each clearing house and contract; there is no table of them.

Source: CME, SPAN technical specification; the extreme pair is twice the range at 35 % in the
classic description, three times at 33 % in present parameter notices.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.venue.scenario_grid import Scenarios

_THIRDS = (0, 0, 1, 1, -1, -1, 2, 2, -2, -2, 3, 3, -3, -3)


def span_scenarios(
    scan_range: Float[Array, ""],
    dtype: jnp.dtype | type,
    *,
    extreme: float = 3.0,
    covered: float = 0.33,
) -> Scenarios:
    """Return scenarios 1 to 16, in that order.

    Args:
        scan_range: price scan range, as a fraction of the price.
        dtype: of the coefficients.
        extreme: the last two moves, as a multiple of the range.
        covered: share of their gain or loss that counts.
    """
    row = lambda values: jnp.asarray(values, dtype)
    nothing = jnp.zeros(len(_THIRDS) + 2, dtype)
    return Scenarios(
        move=scan_range * row([*(k / 3.0 for k in _THIRDS), extreme, -extreme]),
        volatility=row([1.0, -1.0] * (len(_THIRDS) // 2) + [0.0, 0.0]),
        tilt=nothing,
        wings=nothing,
        weight=row([1.0] * len(_THIRDS) + [covered, covered]),
    )


def futures_array(scenarios: Scenarios, price: Float[Array, ""]) -> Float[Array, " scenario"]:
    """Return the risk array of a long future: moves of its price, times the share that counts."""
    return price * scenarios.move * scenarios.weight
