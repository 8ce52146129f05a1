"""Vaults over markets: share prices at the end of scenarios."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.errors import ConfigError
from jaxrisk.measure.vault import Vault, vault_share_prices
from jaxrisk.run.load import load_config
from jaxrisk.system.simulate import Outcome
from jaxrisk.system.system import Flow
from jaxrisk.venue.vault_share import VaultLoss, VaultShare
from jaxrisk.venue.venue import Pool
from tests import systems
from tests.helpers import assert_close
from tests.test_examples import ROOT

SUPPLIED = (4.0e5, 1.0e5)


@pytest.fixture(scope="module")
def system():
    """Two venues whose suppliers hold claims of known value."""
    made = systems.random_system(1)
    venues = []
    for venue, worth in zip(made.venues, SUPPLIED, strict=True):
        price = np.asarray(made.market.mid)[list(venue.accounts.debt_assets)]
        row = jnp.zeros(len(price)).at[-1].set(worth / price[-1])
        venues.append(dataclasses.replace(venue, pool=venue.pool.at[Pool.SUPPLIED].set(row)))
    return dataclasses.replace(made, venues=tuple(venues))


def vault(loss, fee=0.0, weights=(0.5, 0.3)):
    number = lambda x: jnp.asarray(x, jnp.float64)
    rule = VaultShare(
        fee=number(fee), virtual_assets=number(0.0), virtual_shares=number(0.0), loss=loss
    )
    return Vault(name="vault", weights=weights, rule=rule)


def outcome(*, interest=(0.0, 0.0), residual=(0.0, 0.0), shortfall=(0.0, 0.0)):
    flows = np.zeros((1, len(Flow), 2))
    flows[0, Flow.INTEREST], flows[0, Flow.RESIDUAL] = interest, residual
    flows[0, Flow.RESERVE_INTEREST] = np.array(interest) * 0.1
    zero = jnp.zeros(1)
    return Outcome(
        flows=jnp.asarray(flows),
        paid=jnp.zeros((1, 2, 2)),
        shortfall=jnp.asarray([shortfall]),
        unsold=jnp.zeros((1, 2)),
        price=jnp.ones((1, 3)),
        rounds=zero,
        unconverged=zero,
        conservation_error=zero,
        overrun=zero,
    )


def prices(system, loss, *, fee=0.0, **flows):
    stated, marked = vault_share_prices(system, outcome(**flows), vault(loss, fee))
    return float(stated[0]), float(marked[0])


@pytest.mark.parametrize("loss", VaultLoss)
def test_interest_less_the_fee_goes_to_holders(system, loss):
    stated, marked = prices(system, loss, fee=0.2, interest=(4e3, 2e3))
    earned = 0.9 * (0.5 * 4e3 / SUPPLIED[0] + 0.3 * 2e3 / SUPPLIED[1])
    assert_close([stated, marked], [1.0 + 0.8 * earned] * 2, rtol=1e-9, atol=0.0)


def test_a_recognised_loss_lowers_the_price_at_once_and_a_held_one_does_not(system):
    lost = 1.0 - 0.3 * 2e4 / SUPPLIED[1]
    at_once = prices(system, VaultLoss.RECOGNISED, residual=(0.0, 2e4))
    held = prices(system, VaultLoss.HELD, residual=(0.0, 2e4))
    assert_close(at_once, [lost, lost], rtol=1e-12, atol=0.0)
    assert_close(held, [1.0, lost], rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("loss", VaultLoss)
def test_what_nobody_has_recognised_yet_is_in_the_marked_price_only(system, loss):
    stated, marked = prices(system, loss, shortfall=(4e4, 0.0))
    assert stated == 1.0
    assert_close(marked, 1.0 - 0.5 * 0.1, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("vaults.usdc.markets.dollar=0.5", "add up to at most 1"),
        ("vaults.usdc.markets.doller=0.01", "did you mean dollar"),
        ("vaults.usdc.fee=10", "did you mean 0.1"),
        ("venues.staked.oracle=deviation", "oracle_deviation"),
    ],
)
def test_a_bad_vault_or_oracle_is_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(ROOT / "configs" / "morpho_vault.toml", [override])
