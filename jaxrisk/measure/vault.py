"""What a share of a vault over several markets is worth at the end of each scenario."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.indexing import select
from jaxrisk.system.simulate import Outcome
from jaxrisk.system.system import Flow, System
from jaxrisk.venue.vault_share import VaultBook, VaultLoss, VaultShare
from jaxrisk.venue.venue import Pool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vault:
    """A vault that supplies several of the system's venues; its book was written at the opening.

    Attributes:
        name: of the vault.
        weights: `(venue,)` part of its assets supplied to each venue; the rest is idle.
        rule: how its share price follows its claims.
    """

    name: str
    weights: tuple[float, ...]
    rule: VaultShare


def vault_share_prices(
    system: System, outcome: Outcome, vault: Vault
) -> tuple[Float[Array, " scenario"], Float[Array, " scenario"]]:
    """Return the share price the vault states, and the one at what its claims are worth.

    Both are relative to the opening. A claim on a venue earns the suppliers' interest and loses
    what the venue makes suppliers bear; the second price also loses debt beyond collateral that
    nobody has recognised yet, all of it taken to fall on suppliers. The difference is what the
    first to leave take from the last. All is counted in the numeraire at the moment of each flow,
    over supplies at opening prices: exact where the price of the lent asset stands still.

    Args:
        system: what the scenarios started from.
        outcome: leading axis scenario.
        vault: the vault.
    """
    weights = jnp.asarray(vault.weights, outcome.price.dtype)
    supplied = jnp.stack(
        [
            jnp.sum(v.pool[Pool.SUPPLIED] * select(system.market.mid, v.accounts.debt_assets))
            for v in system.venues
        ]
    )
    flow = lambda entry: outcome.flows[:, entry, :]
    earned = flow(Flow.INTEREST) - flow(Flow.RESERVE_INTEREST) - flow(Flow.RESIDUAL)
    change = (earned / positive_or_one(supplied)[None, :]) * weights[None, :]
    hidden = (outcome.shortfall / positive_or_one(supplied)[None, :]) * weights[None, :]
    worth = 1.0 + jnp.sum(change, axis=1)
    one = jnp.ones_like(worth)
    opening = VaultBook(shares=one, last_assets=one, lost_assets=jnp.zeros_like(worth))
    at_once = dataclasses.replace(vault.rule, loss=VaultLoss.RECOGNISED)
    stated, _ = vault.rule.accrue(opening, worth)
    marked, _ = at_once.accrue(opening, worth - jnp.sum(hidden, axis=1))
    return vault.rule.share_price(stated), at_once.share_price(marked)
