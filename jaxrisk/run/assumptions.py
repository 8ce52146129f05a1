"""What a run takes for granted, in words: how prices, owners, keepers and venues behave in it."""

from collections.abc import Sequence

from jaxrisk.run.build_claims import claim_texts
from jaxrisk.run.build_oracle import oracle_text
from jaxrisk.run.config import Config
from jaxrisk.venue.band_conversion import BandConversion
from jaxrisk.venue.deposit_pool import DepositPool
from jaxrisk.venue.lender_auctions import LenderAuctions
from jaxrisk.venue.margin_accounts import MarginAccounts
from jaxrisk.venue.stop_orders import StopOrders
from jaxrisk.venue.takeover import AbsorbedStock, AuctionedLots
from jaxrisk.venue.venue import Venue

_DRIFT = {
    "gbm": "; expected returns are zero",
    "jump_diffusion": "; expected returns are zero",
    "bootstrap": "; returns keep the mean of the history",
}

_EXECUTION_NOTES = {
    StopOrders: "holders sell at any price, all of an asset mix in proportion; nobody calls them",
    AbsorbedStock: "accounts are absorbed at once, and the stock is sold later",
    AuctionedLots: "accounts are seized at once up to the ceilings, lots sold as their ask falls",
    DepositPool: "deposits pay for liquidations at once and neither come nor go; depositors sell a "
    "stated share of what they get at almost any price and hold the rest",
    LenderAuctions: "lenders leave their deposits where they are; loans that those do not back are "
    "kicked once the market is below their neutral price",
    BandConversion: "outsiders trade the bands to the market price in every round; what they sell "
    "back moves no price",
    MarginAccounts: "contracts are closed by market orders that sell and buy what they hedge into, "
    "at any price; whoever stands outside of the book pays and is paid in cash, and is never "
    "deleveraged; deleveraging closes at bankruptcy prices, and where market orders cost more than "
    "an account has it takes unrealised profit",
}


def assumptions(config: Config, venues: Sequence[Venue]) -> tuple[str, ...]:
    """Return what a run takes for granted, a sentence each.

    Args:
        config: of the run.
        venues: as built.
    """
    impact = config.impact
    executions = [
        f"{venue.name}: {_EXECUTION_NOTES[type(venue.execution)]}"
        for venue in venues
        if type(venue.execution) in _EXECUTION_NOTES
    ]
    executions += [
        f"{name}: staked coverage is slashed as soon as there is a deficit, and stakers stay"
        for name, section in config.venues.items()
        if section.coverage
    ]
    return (
        f"prices: {config.market.model.replace('_', ' ')}, steps of {config.run.step_hours:g} h"
        + _DRIFT.get(config.market.model, ""),
        "oracles: " + ", ".join(f"{name} {oracle_text(v)}" for name, v in config.venues.items()),
        f"forced sales: {impact.kind.replace('_', ' ')} impact, {impact.permanent_share:.0%} of it "
        f"permanent, the rest fades with a half-life of {impact.half_life_hours:g} h; depth falls "
        "with volatility and with the forced flow",
        _keeper_note(config),
        _owner_note(config),
        *_halt_notes(config),
        "suppliers do not withdraw; collateral earns no interest",
        *claim_texts(config),
        "caps and ceilings do not act, for nobody opens anything; frozen reserves and governance "
        "actions are not modelled",
        *executions,
    )


def _owner_note(config: Config) -> str:
    if not config.policies:
        return "account holders do nothing: no top-ups, no repayments, no new positions"
    kinds = [f"{own.kind.replace('_', ' ')} on {own.venue}" for own in config.policies.values()]
    return (
        f"account holders, before keepers: {', '.join(dict.fromkeys(kinds))}; debt is drawn and "
        "repaid at market prices, and nobody else opens or closes anything"
    )


def _halt_notes(config: Config) -> list[str]:
    halts = config.halts
    notes = [
        f"{name} stops for {own.steps} steps once a price moves by {own.move:.0%} within one"
        for name, own in halts.venues.items()
    ]
    if halts.market_move is not None:
        move = f"its price moves by {halts.market_move:.0%} within one"
        notes.append(f"a market closes for {halts.market_steps} steps once {move}")
    return notes


def _keeper_note(config: Config) -> str:
    keeper = config.keeper
    parts = [f"keepers: {keeper.policy.replace('_', ' ')}", f"{keeper.cost_usd:g} USD a call"]
    if keeper.congestion > 0:
        parts.append(f"{keeper.congestion:.0%} dearer with every other call of the step")
    if keeper.capital_usd is not None:
        half_life = f"a half-life of {keeper.capital_half_life_hours:g} h"
        parts.append(f"{keeper.capital_usd:g} USD of capital that comes back with {half_life}")
    if keeper.latency_steps:
        parts.append(f"calls only after {keeper.latency_steps} steps in which they were possible")
    return ", ".join(parts) + "; calls are rationed to what can be sold without a loss"
