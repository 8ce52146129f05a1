"""The claims of a configuration: what is behind each, and the system in which they are assets."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxrisk.errors import ConfigError
from jaxrisk.run.claim_config import ClaimSection
from jaxrisk.run.config import Config
from jaxrisk.run.hints import expected_one_of
from jaxrisk.system.backing import AccountEquity, Backing, Deposits
from jaxrisk.system.claim_prices import Claim, Exit
from jaxrisk.system.claim_scope import with_claims
from jaxrisk.system.system import System
from jaxrisk.venue.venue import Pool


def put_claims(config: Config, system: System, account_ids: Sequence[tuple[str, ...]]) -> System:
    """Return the system with the claims of the configuration.

    Args:
        config: the configuration.
        system: its system without claims.
        account_ids: names of the accounts of each venue, in the order of its book.

    Raises:
        ConfigError: an unknown account or deposit, or claims that cannot be; every problem that
            can be found at once.
    """
    if not config.claims:
        return system
    claims, problems = [], []
    for name, section in config.claims.items():
        try:
            backing = _backing(section, system, account_ids)
        except ValueError as error:
            problems += [f"claims.{name}.{line}" for line in str(error).split("\n")]
            continue
        asset = system.assets.index(name)
        claims.append(Claim(backing=backing, asset=asset, exit=Exit(section.exit)))
    if problems:
        raise ConfigError(problems)
    units = [section.units for section in config.claims.values()]
    try:
        return with_claims(system, claims, units)
    except ValueError as error:
        raise ConfigError([f"claims.{line}" for line in str(error).split("\n")]) from error


def claim_texts(config: Config) -> list[str]:
    """Return what is assumed of claims, where there are any."""
    if not config.claims:
        return []
    ways = {
        "sold": "sold in a market of its own",
        "redeemed": "redeemed as far as its issuer can pay, and the rest waits",
        "shut": "neither sold nor redeemed",
    }
    own = ", ".join(f"{name} is {ways[claim.exit]}" for name, claim in config.claims.items())
    return [
        "claims follow what is behind them at the market's mid: prices at once and in every round "
        f"of a cascade, losses of deposits from the next step on; {own}"
    ]


def _backing(
    section: ClaimSection, system: System, account_ids: Sequence[tuple[str, ...]]
) -> Backing:
    """Return what is behind a claim.

    Raises:
        ValueError: lines that begin with the key that is wrong.
    """
    venues = [venue.name for venue in system.venues]
    if section.account is not None:
        assert section.venue is not None
        v = venues.index(section.venue)
        if section.account not in account_ids[v]:
            raise ValueError(f"account: {expected_one_of(section.account, account_ids[v])}")
        return AccountEquity(venue=v, account=account_ids[v].index(section.account))
    number = lambda x: jnp.asarray(x, system.market.price.dtype)
    names = list(section.deposits) or [section.venue]
    places = [_place(system, venues.index(str(name)), section.asset) for name in names]
    lent = {system.venues[v].accounts.debt_assets[row] for v, row in places}
    if len(lent) > 1:
        raise ValueError("deposits: expected venues that lend one asset, the same on all of them")
    supplied = [float(system.venues[v].pool[Pool.SUPPLIED, row]) for v, row in places]
    return Deposits(
        units=number(np.array(list(section.deposits.values()) or supplied)),
        idle=number(section.idle),
        places=tuple(places),
        idle_asset=lent.pop(),
    )


def _place(system: System, v: int, asset: str | None) -> tuple[int, int]:
    """Return the venue and the row of its debt assets that deposits in it stand in."""
    venue = system.venues[v]
    lent = [system.assets[a] for a in venue.accounts.debt_assets]
    if asset is None and len(lent) > 1:
        raise ValueError(f"asset: missing; {venue.name} lends {', '.join(lent)}")
    if asset is not None and asset not in lent:
        raise ValueError(f"asset: {expected_one_of(asset, lent)}")
    return v, lent.index(asset or lent[0])
