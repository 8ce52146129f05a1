"""Contracts: what a perpetual, a future or an option is worth at a quoted price.

One formula values all of them. A contract is quoted at a price `q`: a perpetual or a future at the
price of its underlying, an option at its premium. A unit of it is then worth, in its settlement
currency,

    multiplier u(q),    u(q) = q,  or  -1 / q  for inverse contracts,

up to a constant that is paid on entry, so a position of `size` bought at `entry` has gained
`size multiplier (u(q) - u(entry))`. What that is in the numeraire depends on the settlement
currency:

| kind | multiplier | settlement currency |
|---|---|---|
| linear | units of the underlying in a contract | the currency of the quote |
| inverse | face of a contract in the currency of the quote | the underlying |
| quanto | units of the settlement currency a point is worth | any other |
| option | units of the underlying in a contract | that of its quote |

Kinds are coefficients, so rows of all kinds stand side by side: the contract axis comes first, and
behind it there may be one of accounts. Sizes are signed. All times are in years.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxrisk.market.black import black_price
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree

Rows = Float[Array, " contract"]


@pytree
class Contracts:
    """Terms of contracts; every leaf is `(contract,)`.

    Attributes:
        multiplier: settlement currency a unit is worth for each unit of `u(q)`; see above.
        inverse: 1 where the contract pays by the inverse of its price, else 0.
        option: 1 for calls, -1 for puts, 0 for perpetuals and futures.
        coin_quoted: 1 for options quoted and settled in their underlying, else 0.
        strike: of options; positive everywhere.
        expiry: of options and futures, in years from time 0; 0 for perpetuals.
    """

    multiplier: Rows
    inverse: Rows
    option: Rows
    coin_quoted: Rows
    strike: Rows
    expiry: Rows


@pytree
class Quotes:
    """What the market says at one moment.

    Attributes:
        forward: `(contract,)` price of the underlying: of options and futures for delivery at
            expiry, of perpetuals their own mark price; positive.
        volatility: `(contract,)` implied, of options; not read elsewhere.
        settlement: `(contract,)` worth of a unit of the settlement currency, in the numeraire.
        time: years since time 0.
    """

    forward: Rows
    volatility: Rows
    settlement: Rows
    time: Float[Array, ""]


def mark_price(contracts: Contracts, quotes: Quotes) -> Rows:
    """Return the price at which each contract is quoted.

    That of an option is its Black-76 value on the forward, over the forward where it is quoted in
    its underlying; that of any other contract is `quotes.forward`.
    """
    years = contracts.expiry - quotes.time
    premium = black_price(
        quotes.forward, contracts.strike, years, quotes.volatility, contracts.option
    )
    unit = jnp.where(contracts.coin_quoted > 0, quotes.forward, jnp.ones_like(quotes.forward))
    return jnp.where(contracts.option == 0, quotes.forward, premium / unit)


def settlement_value(
    contracts: Contracts, price: Float[Array, "contract ..."]
) -> Float[Array, "contract ..."]:
    """Return what a unit is worth at a quoted price, in the settlement currency: `multiplier u(q)`.

    Args:
        contracts: their terms.
        price: `(contract, ...)` as quoted; positive where the contract is inverse, but for
            places that hold none.
    """
    inverse = _beside(contracts.inverse, price)
    u = jnp.where(inverse > 0, -1.0 / positive_or_one(price), price)
    return _beside(contracts.multiplier, price) * u


def value(contracts: Contracts, quotes: Quotes) -> Rows:
    """Return what a unit of each contract is worth at the market's quotes, in the numeraire.

    Differences of it are profits. Itself it is a claim only for options; the worth of a future
    or a perpetual is to be set against that of its entry price, see `profit`.
    """
    return quotes.settlement * settlement_value(contracts, mark_price(contracts, quotes))


def profit(
    contracts: Contracts,
    quotes: Quotes,
    size: Float[Array, "contract ..."],
    entry: Float[Array, "contract ..."],
) -> Float[Array, "contract ..."]:
    """Return the unrealised profit of positions at the market's quotes, in the numeraire.

    Args:
        contracts: their terms.
        quotes: the market.
        size: `(contract, ...)` contracts held, negative where sold.
        entry: `(contract, ...)` price they were entered at, as quoted; may be 0 where `size` is.
    """
    return profit_between(
        entry,
        _beside(mark_price(contracts, quotes), entry),
        size,
        _beside(contracts.multiplier, entry),
        inverse=_beside(contracts.inverse, entry),
        settlement=_beside(quotes.settlement, entry),
    )


def profit_between(
    entry: Float[Array, "..."],
    mark: Float[Array, "..."],
    size: Float[Array, "..."],
    multiplier: Float[Array, "..."],
    *,
    inverse: Float[Array, "..."] | float = 0.0,
    settlement: Float[Array, "..."] | float = 1.0,
) -> Float[Array, "..."]:
    """Return the profit of a position between two quoted prices, in the numeraire.

    `size multiplier settlement (mark - entry)`, over `mark entry` where the contract is inverse.

    Args:
        entry: price it was entered at.
        mark: price it is valued at.
        size: contracts held, negative where sold.
        multiplier: see the table above.
        inverse: 1 where the contract pays by the inverse of its price, else 0.
        settlement: worth of a unit of the settlement currency in the numeraire; 1 leaves the
            profit in the settlement currency. Of a quanto contract it is the quanto rate.
    """
    # One difference and one product: -1/mark + 1/entry would cancel.
    scale = jnp.where(jnp.asarray(inverse) > 0, mark * entry, jnp.ones_like(mark * entry))
    return size * multiplier * settlement * ((mark - entry) / positive_or_one(scale))


def perpetual(multiplier: float, *, inverse: bool = False) -> Contracts:
    """Return one perpetual or future: linear or quanto, or inverse.

    Args:
        multiplier: see the table above.
        inverse: whether it pays by the inverse of its price.

    Raises:
        ValueError: the multiplier is not positive and finite.
    """
    return _row(multiplier, inverse=float(inverse))


def future(multiplier: float, expiry: float, *, inverse: bool = False) -> Contracts:
    """Return one dated future: a perpetual that ends, without funding.

    Args:
        multiplier: see the table above.
        expiry: in years from time 0.
        inverse: whether it pays by the inverse of its price.

    Raises:
        ValueError: the multiplier or the expiry is not positive and finite.
    """
    if not expiry > 0:
        raise ValueError(f"expiry {expiry!r} must be positive")
    return _row(multiplier, inverse=float(inverse), expiry=expiry)


def is_perpetual(contracts: Contracts) -> Bool[Array, " contract"]:
    """Return which contracts have no end."""
    return (contracts.option == 0) & (contracts.expiry == 0)


def european_option(
    strike: float,
    expiry: float,
    *,
    call: bool,
    multiplier: float = 1.0,
    coin_quoted: bool = False,
) -> Contracts:
    """Return one European option.

    Args:
        strike: in the currency of the forward.
        expiry: years from time 0.
        call: a call, or else a put.
        multiplier: units of the underlying in a contract.
        coin_quoted: whether it is quoted and settled in its underlying.

    Raises:
        ValueError: strike or multiplier is not positive and finite, or expiry not finite.
    """
    return _row(
        multiplier,
        option=1.0 if call else -1.0,
        coin_quoted=float(coin_quoted),
        strike=strike,
        expiry=expiry,
    )


def table(rows: Sequence[Contracts]) -> Contracts:
    """Return the rows one after the other, as one table."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *rows)


def _row(
    multiplier: float,
    *,
    inverse: float = 0.0,
    option: float = 0.0,
    coin_quoted: float = 0.0,
    strike: float = 1.0,
    expiry: float = 0.0,
) -> Contracts:
    for name, number in (("multiplier", multiplier), ("strike", strike)):
        if not (np.isfinite(number) and number > 0):
            raise ValueError(f"{name} {number!r} must be positive and finite")
    if not np.isfinite(expiry):
        raise ValueError(f"expiry {expiry!r} must be finite")
    one = lambda x: jnp.asarray([x], float)
    return Contracts(
        multiplier=one(multiplier),
        inverse=one(inverse),
        option=one(option),
        coin_quoted=one(coin_quoted),
        strike=one(strike),
        expiry=one(expiry),
    )


def _beside(rows: Rows, values: Float[Array, "contract ..."]) -> Float[Array, "contract ..."]:
    """Return `rows` with as many axes as `values`, so that it stands beside each account."""
    return jnp.reshape(rows, rows.shape + (1,) * (values.ndim - rows.ndim))
