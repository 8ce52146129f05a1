"""Umbrella: staked coverage of deficits of Aave v3 pools, with the contracts' constants.

Source: aave-dao/aave-umbrella, Umbrella, UmbrellaConfiguration, StakeToken.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrisk.venue.staked_coverage import StakedCoverage

MINIMUM_STAKE = 1e6
"""What a slash leaves staked, in raw units of the staked asset: `MIN_ASSETS_REMAINING`."""

VIRTUAL_AMOUNT = 1.0
"""Virtual assets and shares behind the worth of a stake share, in raw units (ERC-4626)."""


class Stake(NamedTuple):
    """One stake, for the deficit in one asset.

    Attributes:
        stake: units staked.
        asset: of the stake, which is paid in when it is slashed; where not given, the stake is
            deposits of the covered asset in the pool, in units of that asset.
        offset: deficit it does not cover, in units of the covered asset.
        fee: slashed on top, fraction of what is covered.
        slashable: largest share of the stake that may ever be slashed.
    """

    stake: float
    asset: str | None = None
    offset: float = 0.0
    fee: float = 0.0
    slashable: float = 1.0


def coverage_funds(
    stakes: Mapping[str, Mapping[str, Any]],
    assets: Sequence[str],
    debt_assets: Sequence[int],
    supplied: Sequence[float],
    dtype: Any,
) -> tuple[list[str], list[float], list[StakedCoverage]]:
    """Return names, units and rules of the funds that stakes are, in the order given.

    Args:
        stakes: terms by covered asset, names as in `Stake`.
        assets: the system's assets, in order.
        debt_assets: of the venue, indices into `assets`.
        supplied: units of each debt asset that the pool owes to suppliers.
        dtype: of the numbers.

    Raises:
        ValueError: naming every stake that makes no sense.
    """
    owed = [assets[i] for i in debt_assets]
    problems, names, units, rules = [], [], [], []
    for covered, terms in stakes.items():
        unknown = sorted(set(terms) - set(Stake._fields))
        if unknown or "stake" not in terms:
            what = f"no such term {', '.join(unknown)}" if unknown else "give the units staked"
            problems.append(f"coverage.{covered}: {what}")
            continue
        stake = Stake(**terms)
        found = _problems(covered, stake, assets, dict(zip(owed, supplied, strict=True)))
        problems += [f"coverage.{covered}{text}" for text in found]
        if found:
            continue
        number = lambda x: jnp.asarray(x, dtype)
        names.append(f"staker coverage ({covered})")
        units.append(stake.stake)
        rules.append(
            StakedCoverage(
                offset=number(stake.offset),
                fee=number(stake.fee),
                kept=number((1.0 - stake.slashable) * stake.stake),
                row=owed.index(covered),
                covered=debt_assets[owed.index(covered)],
                staked=assets.index(stake.asset or covered),
                pool_share=stake.asset is None,
            )
        )
    if problems:
        raise ValueError("; ".join(problems))
    return names, units, rules


def _problems(
    covered: str, stake: Stake, assets: Sequence[str], supplied: Mapping[str, float]
) -> list[str]:
    """Return what is wrong with one stake, each as it follows its name."""
    if covered not in supplied:
        return [": the book owes none of it, so this stake would never pay; drop it"]
    problems = [
        f".{key} = {value:g}: expected 0 or more"
        for key, value in (("stake", stake.stake), ("offset", stake.offset))
        if not value >= 0.0
    ]
    problems += [
        f".{key} = {value:g}: expected 0 to 1"
        for key, value in (("fee", stake.fee), ("slashable", stake.slashable))
        if not 0.0 <= value <= 1.0
    ]
    if stake.asset is not None and stake.asset not in assets:
        problems.append(f".asset: no asset {stake.asset}")
    if stake.asset is None and stake.stake > supplied[covered]:
        problems.append(
            f".stake = {stake.stake:g} is more than the {supplied[covered]:g} supplied to this "
            f"pool, of which it is a part; raise available_liquidity of {covered}, or name the "
            "staked asset if the stake is not deposits of the pool"
        )
    return problems
