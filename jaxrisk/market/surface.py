"""A volatility surface on a grid: interpolation, stickiness, and vega by bucket.

Total variance is linear in log-moneyness and in time between nodes, so where the nodes admit no
calendar arbitrage, nothing between them does. Before the first expiry and after the last one,
volatility at a log-moneyness stays what it is at that expiry.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrisk.market.arbitrage import breaches, described
from jaxrisk.numerics.interpolate import bracket
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.numerics.smooth import safe_sqrt

Values = Float[Array, "..."]


@pytree
class GridSurface:
    """Total variance at nodes.

    Attributes:
        years: `(expiry,)` of the nodes, positive and increasing.
        log_moneyness: `(strike,)` log(strike / forward) of the nodes, increasing.
        total_variance: `(expiry, strike)` volatility^2 years.
        wings: beyond the outermost strikes total variance is "flat", or goes on as a "linear"
            function of log-moneyness, but not below 0.
    """

    years: Float[Array, " expiry"]
    log_moneyness: Float[Array, " strike"]
    total_variance: Float[Array, "expiry strike"]
    wings: str = static(default="flat")

    @staticmethod
    def of_volatility(
        years: Float[Array, " expiry"],
        log_moneyness: Float[Array, " strike"],
        volatility: Float[Array, "expiry strike"],
        *,
        wings: str = "flat",
    ) -> "GridSurface":
        """Return the surface with this volatility at its nodes."""
        variance = volatility**2 * years[:, None]
        return GridSurface(
            years=years, log_moneyness=log_moneyness, total_variance=variance, wings=wings
        )

    @staticmethod
    def checked(
        years: ArrayLike,
        log_moneyness: ArrayLike,
        volatility: ArrayLike,
        *,
        wings: str = "flat",
        tolerance: float = 1e-9,
    ) -> "GridSurface":
        """Return the surface with this volatility at its nodes, on the host, after checking it.

        Args:
            years: `(expiry,)`.
            log_moneyness: `(strike,)`.
            volatility: `(expiry, strike)`.
            wings: see `GridSurface`.
            tolerance: an arbitrage worth no more than this is rounding, see `breaches`.

        Raises:
            ValueError: with every problem found: nodes that do not rise, a volatility that is not
                positive, an arbitrage between nodes; each with its strikes and expiry.
        """
        times, k = np.atleast_1d(np.asarray(years)), np.atleast_1d(np.asarray(log_moneyness))
        given = np.asarray(volatility)
        problems = _node_problems(times, k, given)
        if not problems:
            made = GridSurface.of_volatility(
                jnp.asarray(times), jnp.asarray(k), jnp.asarray(given), wings=wings
            )
            found = breaches(made.years, made.log_moneyness, made.total_variance,
                             tolerance=tolerance)  # fmt: skip
            if not found:
                return made
            problems = [described(breach) for breach in found]
        raise ValueError("\n".join(problems))

    def volatility(self, log_moneyness: ArrayLike, years: ArrayLike) -> Values:
        """Return the volatility; arguments broadcast. Expired options have the first expiry's."""
        k, t = jnp.broadcast_arrays(log_moneyness, years)
        within = jnp.clip(t, self.years[0], self.years[-1])
        row, down = bracket(within, self.years, beyond="flat")
        column, right = bracket(k, self.log_moneyness, beyond=self.wings)
        # A lone node is its own neighbour.
        below = jnp.minimum(row + 1, self.years.shape[0] - 1)
        beside = jnp.minimum(column + 1, self.log_moneyness.shape[0] - 1)
        w = self.total_variance
        upper = w[row, column] + right * (w[row, beside] - w[row, column])
        lower = w[below, column] + right * (w[below, beside] - w[below, column])
        variance = upper + down * (lower - upper)
        return safe_sqrt(variance / within)


def option_volatility(
    surface: GridSurface,
    strike: ArrayLike,
    forward: ArrayLike,
    years: ArrayLike,
    *,
    reference: ArrayLike,
    stickiness: ArrayLike,
) -> Values:
    """Return the volatility of options after the forward has moved from where the surface was set.

    The smile is read at `log(strike / forward) + stickiness log(forward / reference)`: it moves
    with the forward for 0 (sticky moneyness), stays with strikes for 1 (sticky strike), and moves
    against the forward for more; about 2 is what a local volatility does at short expiries.

    Args:
        surface: set at the forward `reference`.
        strike: positive.
        forward: of the moment, positive.
        years: to expiry.
        reference: forward at which the surface was set, positive.
        stickiness: the skew stickiness ratio.
    """
    strike, forward, years, reference, stickiness = jnp.broadcast_arrays(
        strike, forward, years, reference, stickiness
    )
    k = jnp.log(strike / forward) + stickiness * jnp.log(forward / reference)
    return surface.volatility(k, years)


def bucketed_vega(
    worth: Callable[[GridSurface], Float[Array, ""]], surface: GridSurface
) -> Float[Array, "expiry strike"]:
    """Return the derivative of a portfolio's worth by the volatility at each node.

    Args:
        worth: value of the portfolio on a surface; everything else is bound.
        surface: where the derivative is taken.
    """
    by_variance = jax.grad(worth)(surface).total_variance
    volatility = safe_sqrt(surface.total_variance / surface.years[:, None])
    return by_variance * 2.0 * volatility * surface.years[:, None]


def _node_problems(years: np.ndarray, k: np.ndarray, volatility: np.ndarray) -> list[str]:
    """Return which nodes of a surface are none."""
    if volatility.shape != (years.size, k.size):
        return [f"volatility: shape {volatility.shape}, expected {(years.size, k.size)}"]
    problems = []
    if not (np.all(np.isfinite(years)) and np.all(np.diff(years, prepend=0.0) > 0)):
        problems.append(f"years {years.tolist()}: expected positive numbers that rise")
    if not (np.all(np.isfinite(k)) and np.all(np.diff(k) > 0)):
        problems.append(f"log_moneyness {k.tolist()}: expected numbers that rise")
    for e, s in np.argwhere(~(np.isfinite(volatility) & (volatility > 0))):
        problems.append(
            f"volatility {volatility[e, s]:g} at {years[e]:.6g} years, strike {np.exp(k[s]):.6g} "
            "of the forward: expected a positive number"
        )
    return problems
