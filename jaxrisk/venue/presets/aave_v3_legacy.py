"""Aave v3.0 to v3.2, and the many forks of that code: the rules and the contracts' constants.

health = total collateral x mean threshold / D; a call repays up to 50 % of the debt in the called
asset, or all of it when health <= 0.95; seized = repaid (1 + bonus); any remainder may be left;
debt without collateral stays on the books.

Source: aave/aave-v3-core v3.0.2, LiquidationLogic, ValidationLogic, GenericLogic.
"""

import dataclasses
from collections.abc import Sequence
from typing import Unpack

import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.presets.aave_v3 import DEFAULT_DEPLOYMENT, aave_v3
from jaxrisk.venue.presets.aave_v3 import PRESET as CURRENT
from jaxrisk.venue.presets.asset_terms import Overrides
from jaxrisk.venue.presets.common import Common
from jaxrisk.venue.presets.preset import Preset
from jaxrisk.venue.recognition import NeverRecognised
from jaxrisk.venue.reserve_close import ReserveFractionClose
from jaxrisk.venue.venue import Venue
from jaxrisk.venue.waterfall import Residual

BASIS_POINT = 1e-4
"""Mean thresholds are rounded down to whole basis points."""

BASE_UNIT = 1e-8
"""USD; the values of single balances are rounded down to it."""


def close_rule(dtype: np.dtype | type | None = None) -> ReserveFractionClose:
    """Return the close factor with its contract constants."""
    number = lambda x: jnp.asarray(x, dtype or float)
    return ReserveFractionClose(fraction=number(0.5), full_below_health=number(0.95))


def aave_v3_legacy(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    name: str = "aave_v3_legacy",
    deployment: str = DEFAULT_DEPLOYMENT,
    overrides: Overrides | None = None,
    **common: Unpack[Common],
) -> Venue:
    """Return a pool of Aave v3.0 to v3.2, or of a fork, holding `accounts`.

    Nothing is ever written off, so funds never pay: what accounts owe beyond their collateral is
    the open shortfall of a scenario. The mean threshold is not rounded.

    Args:
        accounts: the book; its categories index the base category and then the deployment's
            e-modes, in order.
        assets: the system's assets, in order.
        name: of the venue.
        deployment: which shipped parameter table to start from. It is of a later version of the
            same pool; give a fork's own parameters as overrides.
        overrides: parameters by asset that replace or add to the table.
        **common: as in `Common`.

    Raises:
        ValueError: an asset with a position has no parameters, or one makes no sense.
    """
    venue = aave_v3(
        accounts, assets, name=name, deployment=deployment, overrides=overrides, **common
    )
    return dataclasses.replace(
        venue,
        close=close_rule(accounts.collateral.dtype),
        recognition=NeverRecognised(),
        residual=Residual.STANDING,
    )


PRESET = Preset(
    build=aave_v3_legacy,
    required=(),
    terms=CURRENT.terms,
    deployments=CURRENT.deployments,
    asset_options=CURRENT.asset_options,
)
