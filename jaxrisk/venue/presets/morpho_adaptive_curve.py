"""Morpho AdaptiveCurveIrm: the constants of the one deployed contract.

Target 90 %, steepness 4, speed 50 a year; the target rate starts at 4 % and stays within
0.1 % and 200 % a year.

Source: morpho-org/morpho-blue-irm, src/adaptive-curve-irm/libraries/ConstantsLib.sol.
"""

import jax.numpy as jnp

from jaxrisk.venue.adaptive_rate import AdaptiveRate

UNIT = 1e-18 * 365.0 * 86400.0
"""Smallest rate of the contract, per year: it counts 1e-18 per second."""


def adaptive_curve(dtype: jnp.dtype | type, *, as_contract: bool = False) -> AdaptiveRate:
    """Return the rate rule of markets that use the adaptive curve.

    Args:
        dtype: of the coefficients.
        as_contract: take the contract's exponential and its rounding, for replays.
    """
    number = lambda x: jnp.asarray(x, dtype)
    return AdaptiveRate(
        target_utilisation=number(0.9),
        steepness=number(4.0),
        speed=number(50.0),
        initial_rate=number(0.04),
        minimum_rate=number(0.001),
        maximum_rate=number(2.0),
        quadratic=as_contract,
        unit=number(UNIT) if as_contract else None,
    )
