"""Fluid vaults of one collateral and one debt (type 1).

Accounts above the liquidation threshold are drawn down to it together, at a penalty; those above
the max limit are taken over whole and sold debt for collateral. Positions are kept in ticks of
0.15 %; a call must offer at least 10,000 smallest units and a billionth of the vault's debt.

Source: Instadapp/fluid-contracts-public, contracts/libraries/tickMath.sol and
contracts/protocols/vault/vaultTypesCommon/coreModule/main.sol.
"""

from collections.abc import Sequence
from typing import NamedTuple, Unpack

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.level_close import LevelBonus, LevelClose
from jaxrisk.venue.presets.asset_terms import (
    Overrides,
    completed_loan,
    isolated_pair,
    kinked_rate,
    opening_cash,
    within,
)
from jaxrisk.venue.presets.common import Common, composed
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.recognition import NeverRecognised
from jaxrisk.venue.venue import Venue
from jaxrisk.venue.water_level import Ticks, WaterLevel
from jaxrisk.venue.waterfall import Residual

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


class Vault(NamedTuple):
    """Limits of one kind of vault, as debt value per collateral value, and its penalty."""

    collateral_factor: float
    liquidation_threshold: float
    max_limit: float
    penalty: float | None = None


VAULTS: dict[str, Vault] = {
    "stable": Vault(0.90, 0.93, 0.95),
    "staked_ether": Vault(0.91, 0.93, 0.95, 0.01),
    "restaked_ether": Vault(0.94, 0.96, 0.97),
    "ether_stable": Vault(0.85, 0.88, 0.925, 0.02),
    "ether_stable_high": Vault(0.88, 0.91, 0.94, 0.02),
    "risky": Vault(0.77, 0.82, 0.90),
}
"""Kinds of vaults; where no penalty is stated, vaults of the kind differ in it and it is needed.

Source: payloads IGP34 to IGP96, Instadapp/fluid-governance bc3a0e8.
"""


def fluid(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    deployment: str | None = None,
    collateral: str | None = None,
    loan: str | None = None,
    liquidation_loan_to_value: float | None = None,
    max_limit: float | None = None,
    penalty: float | None = None,
    name: str = "fluid",
    overrides: Overrides | None = None,
    **common: Unpack[Common],
) -> Venue:
    """Return a Fluid vault holding `accounts`.

    In a round keepers draw every account above the threshold down to it; thresholds are not rounded
    to ticks. Nothing is ever written off, so funds never pay: what accounts owe beyond their
    collateral is the open shortfall of a scenario, which the protocol leaves to governance.

    Args:
        accounts: the book: exactly one collateral and one debt asset.
        assets: the system's assets, in order.
        deployment: kind of vault whose limits to start from; without one all three are needed.
        collateral: name of the collateral, to check the book against; not needed.
        loan: name of the loan asset, likewise.
        liquidation_loan_to_value: liquidation threshold.
        max_limit: debt per collateral above which accounts are taken over.
        penalty: collateral value handed over beyond the debt repaid, as a fraction of it.
        name: of the venue.
        overrides: for the loan asset what `LENT` names.
        **common: as in `Common`.

    Raises:
        ValueError: more than one collateral or debt asset, others than named, a limit is missing,
            or a value makes no sense.
    """
    _, borrowed = isolated_pair(name, accounts, assets, collateral, loan)
    vault = _vault(name, deployment, liquidation_loan_to_value, max_limit, penalty)
    assert vault.penalty is not None
    owed = completed_loan(borrowed, overrides)
    dtype = accounts.collateral.dtype
    number = lambda x: jnp.asarray(x, dtype)
    upper = number(vault.max_limit)
    return composed(
        accounts,
        name=name,
        collateral=CollateralWeights(
            liquidation_threshold=number([[vault.liquidation_threshold]]),
            loan_to_value=number([[vault.collateral_factor]]),
        ),
        close=LevelClose(absorption_threshold=upper),
        incentive=LevelBonus(penalty=number(vault.penalty), absorption_threshold=upper),
        recognition=NeverRecognised(),
        interest=kinked_rate(owed, dtype),
        cash=opening_cash(owed, accounts),
        residual=Residual.STANDING,
        **common,
    )


def _vault(
    name: str,
    deployment: str | None,
    threshold: float | None,
    upper: float | None,
    penalty: float | None,
) -> Vault:
    """Return the limits of a vault: those of its kind, replaced by what is given, and checked."""
    if deployment is None:
        shipped = Vault(threshold or 0.0, threshold or 0.0, upper or 0.0, penalty)
    elif deployment in VAULTS:
        shipped = VAULTS[deployment]
    else:
        raise ValueError(f"{name}: deployment = {deployment!r}: expected {', '.join(VAULTS)}")
    pick = lambda given, own: own if given is None else given
    pairs = {
        "liquidation_loan_to_value": threshold if deployment is None else 1.0,
        "max_limit": upper if deployment is None else 1.0,
        "penalty": pick(penalty, shipped.penalty),
    }
    missing = [key for key, value in pairs.items() if value is None]
    if missing:
        raise ValueError(f"{name}: also give {', '.join(missing)}")
    inside = {"open_low": True, "open_high": True}
    line = within(
        "liquidation_loan_to_value",
        pick(threshold, shipped.liquidation_threshold),
        0.0,
        1.0,
        **inside,
    )
    top = within("max_limit", pick(upper, shipped.max_limit), line, 1.0, open_high=True)
    extra = within("penalty", pick(penalty, shipped.penalty), 0.0, 1.0)
    if top * (1.0 + extra) >= 1.0:
        raise ValueError(
            f"{name}: max_limit {top:g} times 1 + penalty {extra:g} is not below 1: drawing an "
            "account down would make it weaker"
        )
    return Vault(min(shipped.collateral_factor, line), line, top, extra)


def _terms(
    overrides: Overrides,
    *,
    collateral: str,
    loan: str,
    deployment: str | None = None,
    liquidation_loan_to_value: float | None = None,
    **options: float,
) -> Terms:
    del overrides, loan, options
    vault = VAULTS.get(deployment or "")
    threshold = liquidation_loan_to_value or (vault.liquidation_threshold if vault else 0.0)
    return Terms({collateral: threshold}, {})


PRESET = Preset(
    build=fluid,
    required=("collateral", "loan"),
    terms=_terms,
    deployments=tuple(VAULTS),
    optional=("liquidation_loan_to_value", "max_limit", "penalty"),
)
