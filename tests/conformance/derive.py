"""Derive's option library: Black-76 values and deltas, as recorded from the contract."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.market.black import black_greeks, black_price
from tests.conformance.comparison import RAW_UNITS, Replay

YEAR = 365.0 * 86400.0
# The contract's own distribution function, with 18 decimals, is this far off times the forward.
ROUNDING = 1e-15


def black76(header: dict, cases: list[dict]) -> Replay:
    """Replay `pricesAndDelta`: discounted call, put, and the call's delta."""
    del header
    replay = Replay(len(cases))
    column = lambda name: np.array([float(c[name]) for c in cases])
    option = (
        jnp.asarray(column("fwdPrice")),
        jnp.asarray(column("strikePrice")),
        jnp.asarray(column("timeToExpirySec") / YEAR),
        jnp.asarray(column("volatility") / 1e18),
    )
    discount = column("discount") / 1e18

    @jax.jit
    def run(forward: jax.Array, strike: jax.Array, years: jax.Array, sigma: jax.Array) -> tuple:
        call, put = (black_price(forward, strike, years, sigma, sign) for sign in (1.0, -1.0))
        return call, put, 1e18 * black_greeks(forward, strike, years, sigma, 1.0).delta

    indices = np.arange(len(cases))
    raw_units = RAW_UNITS + ROUNDING * np.maximum(column("fwdPrice"), column("strikePrice"))
    call, put, delta = (discount * np.asarray(result) for result in run(*option))
    replay.compare("call", indices, call, column("call"), raw_units=raw_units)
    replay.compare("put", indices, put, column("put"), raw_units=raw_units)
    replay.compare("callDelta", indices, delta, column("callDelta"), raw_units=ROUNDING * 1e18)
    return replay


ADAPTERS = {"derive_black76": black76}
