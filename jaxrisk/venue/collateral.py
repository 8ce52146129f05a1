"""What collateral is worth as backing."""

from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree


@pytree
class CollateralWeights:
    """Weights per risk category and collateral asset.

    Attributes:
        liquidation_threshold: `(category, collateral_asset)` weight that keeps an account from
            liquidation.
        loan_to_value: `(category, collateral_asset)` weight that limits new borrowing.
    """

    liquidation_threshold: Float[Array, "category collateral_asset"]
    loan_to_value: Float[Array, "category collateral_asset"]
