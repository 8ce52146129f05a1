"""Fluid vaults of one collateral and one debt (type 1).

Positions are kept in ticks of 0.15 %; a call must offer at least 10,000 smallest units and a
billionth of the vault's debt.

Source: Instadapp/fluid-contracts-public, contracts/libraries/tickMath.sol and
contracts/protocols/vault/vaultTypesCommon/coreModule/main.sol.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.venue.water_level import Ticks, WaterLevel

SPACING = 0.0015
MINIMUM_UNITS = 1e4
MINIMUM_SHARE = 1e-9


def vault_rule(
    *,
    liquidation_threshold: Float[Array, "*vault"],
    absorption_threshold: Float[Array, "*vault"],
    penalty: Float[Array, "*vault"],
    debt_unit: float = 1.0,
    collateral_unit: float = 1.0,
) -> WaterLevel:
    """Return the rule of vaults; one set of coefficients a vault.

    Args:
        liquidation_threshold: debt value per collateral value at which drawing down ends.
        absorption_threshold: the "liquidation max limit", above which positions are taken over.
        penalty: collateral value handed over beyond the debt repaid, as a fraction of it.
        debt_unit: smallest unit of the debt token, in the unit amounts are stated in.
        collateral_unit: smallest unit of the collateral token, likewise.
    """
    like = lambda x: jnp.full_like(penalty, x)
    return WaterLevel(
        liquidation_threshold=liquidation_threshold,
        absorption_threshold=absorption_threshold,
        penalty=penalty,
        ticks=Ticks(spacing=like(SPACING), origin=like(debt_unit / collateral_unit)),
        minimum_amount=like(MINIMUM_UNITS * debt_unit),
        minimum_share=like(MINIMUM_SHARE),
    )
