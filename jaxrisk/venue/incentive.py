"""At what price the borrower is closed, and the protocol's share of it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree


@pytree
class UniformBonus:
    """One bonus for all collateral.

    Attributes:
        bonus: discount granted to the liquidator, as a fraction of debt repaid.
        fee_share: protocol's share of the bonus, in [0, 1].
    """

    bonus: Float[Array, ""]
    fee_share: Float[Array, ""]


@pytree
class AssetBonus:
    """A bonus per risk category and collateral asset.

    Attributes:
        bonus: `(category, collateral_asset)` fraction of debt repaid.
        fee_share: `(collateral_asset,)` protocol's share of the bonus.
    """

    bonus: Float[Array, "category collateral_asset"]
    fee_share: Float[Array, " collateral_asset"]


Incentive = UniformBonus | AssetBonus


def bonus_table(incentive: Incentive, categories: int, held: int) -> Array:
    """Return the bonus as `(category, collateral_asset)`, whatever the kind."""
    if isinstance(incentive, UniformBonus):
        return jnp.broadcast_to(incentive.bonus[None, None], (categories, held))
    return incentive.bonus


def fee_table(incentive: Incentive, held: int) -> Array:
    """Return the protocol's share of the bonus as `(collateral_asset,)`."""
    return jnp.broadcast_to(incentive.fee_share, (held,))


def incentive_factor(
    loan_to_value: Float[Array, "..."], *, cursor: float, maximum: float
) -> Float[Array, "..."]:
    """Return `min(maximum, 1 / (1 - cursor * (1 - loan_to_value)))`: 1 + bonus.

    Source: Morpho Blue `liquidationIncentiveFactor` (cursor 0.3, maximum 1.15).
    """
    factor = 1.0 / (1.0 - cursor * (1.0 - loan_to_value))
    return jnp.where(factor < maximum, factor, jnp.full_like(factor, maximum))
