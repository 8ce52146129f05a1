"""From a table of contracts to chains of options: what rules of whole portfolios look at."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.chain import OptionChain
from jaxrisk.market.contract import Contracts, Quotes
from jaxrisk.numerics.pytree import pytree, static

PerContract = Float[Array, "contract account"]


@pytree
class ChainPlaces:
    """Where the contracts on one underlying stand in a chain.

    An expiry holds what ends at one time; contracts without an end stand in the first of all, which
    has no time left. Indices are of contracts, -1 in padding.

    Attributes:
        options: by expiry.
        futures: by expiry: futures, and perpetuals in the first.
    """

    options: tuple[tuple[int, ...], ...] = static()
    futures: tuple[tuple[int, ...], ...] = static()

    @staticmethod
    def of(contracts: Contracts, rows: Sequence[int]) -> "ChainPlaces":
        """Return the places of the contracts at `rows`, which are on one underlying; on the host.

        Raises:
            ValueError: there is none.
        """
        if not rows:
            raise ValueError("no contract: a chain needs one")
        ends, kind = np.asarray(contracts.expiry), np.asarray(contracts.option)
        by_end: dict[float, tuple[list[int], list[int]]] = {}
        for row in sorted(rows, key=lambda i: float(ends[i])):
            held = by_end.setdefault(float(ends[row]), ([], []))
            held[0 if kind[row] != 0 else 1].append(row)
        options, futures = zip(*by_end.values(), strict=True)
        return ChainPlaces(options=_padded(options), futures=_padded(futures))

    @property
    def first(self) -> np.ndarray:
        """A contract of each expiry: all of them have the forward and the time in common."""
        pairs = zip(self.options, self.futures, strict=True)
        return np.array([max(options[0], futures[0]) for options, futures in pairs])

    def chain(self, contracts: Contracts, quotes: Quotes) -> OptionChain:
        """Return the chain at the market's quotes; forwards are those that contracts quote."""
        at, there = _indices(self.options)
        zero = jnp.zeros(at.shape, contracts.strike.dtype)
        ends = contracts.expiry[self.first]
        years = ends - quotes.time
        years = jnp.where((ends > 0) & (years > 0), years, jnp.zeros_like(years))
        return OptionChain(
            years=years,
            forward=quotes.forward[self.first],
            fixed=jnp.zeros_like(years),
            discount=jnp.ones_like(years),
            strike=jnp.where(there, contracts.strike[at], zero),
            volatility=jnp.where(there, quotes.volatility[at], zero),
            is_call=jnp.where(there, contracts.option[at], zero) > 0,
        )

    def of_options(self, amount: PerContract) -> Float[Array, "expiry option account"]:
        """Return an amount of each option, 0 in padding."""
        at, there = _indices(self.options)
        return jnp.where(there[:, :, None], amount[at], jnp.zeros_like(amount[at]))

    def of_futures(self, amount: PerContract) -> Float[Array, "expiry account"]:
        """Return an amount of all futures of each expiry."""
        at, there = _indices(self.futures)
        return jnp.sum(jnp.where(there[:, :, None], amount[at], jnp.zeros_like(amount[at])), axis=1)


def _padded(rows: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Return rows of one length, at least 1."""
    longest = max(1, *(len(row) for row in rows))
    return tuple((*row, *(-1 for _ in range(longest - len(row)))) for row in rows)


def _indices(rows: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return indices, those of padding at 0, and which are none."""
    at = np.asarray(rows)
    return np.where(at >= 0, at, 0), at >= 0
