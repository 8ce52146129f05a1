"""Derive v2: option prices, cash interest, funding and portfolio auctions, as recorded."""

from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.market.black import black_greeks, black_price
from jaxrisk.venue.auction_price import TwoPhaseDecrease
from jaxrisk.venue.funding import PerpetualPositions, PremiumFunding, impact_premium
from jaxrisk.venue.portfolio_auction import (
    Margined,
    PortfolioAuction,
    PortfolioAuctionTerms,
    PortfolioBid,
    PortfolioRefusal,
    asking_price,
    bid,
    buffer_margin,
    largest_share,
    opening_fee,
    recovered,
)
from jaxrisk.venue.presets.derive import GrowthRefusal, cash_growth, cash_utilisation
from jaxrisk.venue.slope_rate import SlopeRate
from tests.conformance.comparison import RAW_UNITS, Replay, reason

WAD = 1e18
SECONDS_PER_YEAR = 365.0 * 86_400.0
HOURS_PER_YEAR = 8760.0
# The contract's own distribution function, with 18 decimals, is this far off times the forward.
ROUNDING = 1e-15


def _column(cases: list[dict], name: str) -> np.ndarray:
    """Return integers of the contract as floats in natural units."""
    return np.array([int(c[name]) / 10**18 for c in cases])


def _raw(cases: list[dict], name: str) -> np.ndarray:
    return np.array([float(int(c[name])) for c in cases])


def black76(header: dict, cases: list[dict]) -> Replay:
    """Replay `pricesAndDelta`: discounted call, put, and the call's delta."""
    del header
    replay = Replay(len(cases))
    column = lambda name: np.array([float(c[name]) for c in cases])
    option = (
        jnp.asarray(column("fwdPrice")),
        jnp.asarray(column("strikePrice")),
        jnp.asarray(column("timeToExpirySec") / SECONDS_PER_YEAR),
        jnp.asarray(column("volatility") / 1e18),
    )
    discount = column("discount") / 1e18

    @jax.jit
    def run(forward: jax.Array, strike: jax.Array, years: jax.Array, sigma: jax.Array) -> tuple:
        call, put = (black_price(forward, strike, years, sigma, sign) for sign in (1.0, -1.0))
        return call, put, 1e18 * black_greeks(forward, strike, years, sigma, 1.0).delta

    indices = np.arange(len(cases))
    raw_units = RAW_UNITS + ROUNDING * np.maximum(column("fwdPrice"), column("strikePrice"))
    call, put, delta = (discount * np.asarray(result) for result in run(*option))
    replay.compare("call", indices, call, column("call"), raw_units=raw_units)
    replay.compare("put", indices, put, column("put"), raw_units=raw_units)
    replay.compare("callDelta", indices, delta, column("callDelta"), raw_units=ROUNDING * 1e18)
    return replay


def interest(header: dict, cases: list[dict]) -> Replay:
    """Replay `getUtilRate`, `getBorrowRate` and `getBorrowInterestFactor`."""
    del header
    replay = Replay(len(cases))
    column = lambda name: jnp.asarray(_column(cases, name))
    curve = SlopeRate(
        base=column("minRate"),
        slope_below=column("rateMultiplier"),
        slope_above=column("highRateMultiplier"),
        kink=column("optimalUtil"),
    )
    years = jnp.asarray([int(c["elapsed"]) / SECONDS_PER_YEAR for c in cases])

    @jax.jit
    def run(curve: SlopeRate, supply: jax.Array, borrowed: jax.Array) -> tuple:
        use = cash_utilisation(supply, borrowed)
        rate = curve.borrow_rate(use)
        return use, rate, *cash_growth(rate, years)

    use, rate, growth, refusal = run(curve, column("supply"), column("borrows"))
    every = np.arange(len(cases))
    for what, actual in (("util", use), ("borrowRate", rate)):
        replay.compare(what, every, np.asarray(actual) * WAD, _raw(cases, what))
    factors = [c["interestFactor"] for c in cases]
    known = {"": GrowthRefusal.NONE, "Panic:0x11": GrowthRefusal.UNDERFLOW}
    texts = [f.partition("revert:")[2] for f in factors]
    replay.compare_labels(
        "refusal",
        every,
        [GrowthRefusal(int(r)) for r in refusal],
        [reason(known, t) for t in texts],
    )
    done = np.flatnonzero([not t for t in texts])
    replay.compare(
        "interestFactor", done, np.asarray(growth)[done] * WAD, [float(factors[i]) for i in done]
    )
    return replay


def _play_funding(rule: PremiumFunding, steps: dict) -> dict:
    """Return what one perpetual and its accounts do over the recorded steps."""
    accounts = steps["change"].shape[-1]
    zero = jnp.zeros((1, accounts))
    opening = PerpetualPositions(size=zero, mark=zero, paid=zero, settled=zero)

    def play(carry: tuple, step: dict) -> tuple:
        positions, paid, waiting = carry
        mark = step["mark"][None]
        rate = rule.rate(impact_premium(step["index"], step["bid"], step["ask"]))
        # The whole time since the last trade is charged at the rate and index of the next.
        waiting = waiting + step["years"]
        now = paid + rate * waiting * step["index"]
        before = positions.cash(mark, now[None])
        after = positions.traded(step["change"][None], mark, now[None])
        positions = jax.tree.map(lambda a, b: jnp.where(step["trades"], a, b), after, positions)
        paid = jnp.where(step["trades"], now, paid)
        waiting = jnp.where(step["trades"], 0.0, waiting)
        shown = {"rate": rate, "paid": paid, "before": before[0]}
        shown |= {"size": positions.size[0], "after": positions.cash(mark, now[None])[0]}
        return (positions, paid, waiting), shown

    return jax.lax.scan(play, (opening, jnp.zeros(()), jnp.zeros(())), steps)[1]


def funding(header: dict, cases: list[dict]) -> Replay:
    """Replay sequences of trades: rate, cumulated funding and cash of every account."""
    del header
    replay = Replay(len(cases))
    length = max(len(c["steps"]) for c in cases)
    accounts = max(len(s["cashBefore"]) for c in cases for s in c["steps"])
    steps = {k: np.ones((len(cases), length)) for k in ("index", "mark", "bid", "ask")}
    steps |= {
        "years": np.zeros((len(cases), length)),
        "trades": np.zeros((len(cases), length), bool),
    }
    change = np.zeros((len(cases), length, accounts))
    names = {"index": "spot", "mark": "perpPrice", "bid": "impactBid", "ask": "impactAsk"}
    for i, c in enumerate(cases):
        for k, s in enumerate(c["steps"]):
            for here, there in names.items():
                steps[here][i, k] = int(s[there]) / 10**18
            steps["years"][i, k] = int(s["dt"]) / SECONDS_PER_YEAR
            if "trade" in s:
                moved = int(s["trade"]["size"]) / 10**18
                steps["trades"][i, k] = True
                change[i, k, s["trade"]["fromAcc"]] -= moved
                change[i, k, s["trade"]["toAcc"]] += moved
    rule = PremiumFunding(
        period=jnp.asarray(_column(cases, "convergencePeriodHours") / HOURS_PER_YEAR),
        interest=jnp.asarray(_column(cases, "staticRate") * HOURS_PER_YEAR),
        cap=jnp.asarray(_column(cases, "maxAbsRatePerHour") * HOURS_PER_YEAR),
    )
    shown = jax.jit(jax.vmap(_play_funding))(
        rule, jax.tree.map(jnp.asarray, {**steps, "change": change})
    )
    shown = {k: np.asarray(v) for k, v in shown.items()}
    # A premium is a small difference of prices, cash a sum of such differences: errors scale with
    # the price, and with the notional traded so far.
    price = steps["mark"].max(1, keepdims=True) + 0.0 * steps["mark"]
    gross = np.abs(change).sum(2).cumsum(1) * price
    slack = {"rate": np.full_like(price, 1e3), "paid": 2.0 + 1e-14 * price * WAD}
    _compare_funding(replay, cases, shown, slack | {"cash": 2.0 + 1e-14 * gross * WAD})
    return replay


def _compare_funding(replay: Replay, cases: list[dict], shown: dict, slack: dict) -> None:
    per_step = (
        ("rate", "fundingRatePerHour", 1.0 / HOURS_PER_YEAR),
        ("paid", "aggregatedFunding", 1.0),
    )
    per_account = (("before", "cashBefore"), ("after", "cashAfter"), ("size", "positionsBefore"))
    rows = [(i, k, s) for i, c in enumerate(cases) for k, s in enumerate(c["steps"])]
    where = np.array([i for i, _, _ in rows])
    at = (where, np.array([k for _, k, _ in rows]))
    for here, there, scale in per_step:
        expected = [float(int(s[there])) for _, _, s in rows]
        replay.compare(
            there, where, shown[here][at] * scale * WAD, expected, raw_units=slack[here][at]
        )
    for here, there in per_account:
        held = shown[here][at]
        if here == "size":
            held = np.where(at[1][:, None] > 0, shown[here][at[0], at[1] - 1], 0.0)
        expected = np.array([[float(int(v)) for v in s[there]] for _, _, s in rows])
        for a in range(expected.shape[1]):
            replay.compare(
                f"{there}[{a}]", where, held[:, a] * WAD, expected[:, a],
                raw_units=slack["cash"][at],
            )  # fmt: skip


def _auction_terms(cases: list[dict]) -> PortfolioAuctionTerms:
    settings = [c["params"] for c in cases]
    share = lambda name: jnp.asarray(_column(settings, name))
    seconds = lambda name: jnp.asarray([float(s[name]) for s in settings])
    return PortfolioAuctionTerms(
        price=TwoPhaseDecrease(
            start=share("startingMtMPercentage"),
            turn=share("fastAuctionCutoffPercentage"),
            fast=seconds("fastAuctionLength"),
            slow=seconds("slowAuctionLength"),
        ),
        insolvent_duration=seconds("insolventAuctionLength"),
        fee=share("liquidatorFeeRate"),
        buffer=share("bufferMarginPercentage"),
        whole_below=jnp.asarray(_column(cases, "mtmCutoff")),
    )


AUCTION_REVERTS = {
    "": PortfolioRefusal.NONE,
    "DA_AccountIsAboveMaintenanceMargin()": PortfolioRefusal.HEALTHY,
    "DA_InvalidPercentage()": PortfolioRefusal.INVALID_SHARE,
    "DA_AuctionShouldBeTerminated()": PortfolioRefusal.RECOVERED,
    "DA_SolventAuctionEnded()": PortfolioRefusal.ENDED,
}


def auction(header: dict, cases: list[dict]) -> Replay:
    """Replay starts, prices, limits and bids of auctions, solvent and insolvent."""
    del header
    replay = Replay(len(cases))
    column = lambda name: jnp.asarray(_column(cases, name))
    terms = _auction_terms(cases)
    state = PortfolioAuction(
        elapsed=jnp.asarray([float(c["elapsed"]) for c in cases]),
        reserved=column("reservedCash"),
        insolvent=jnp.asarray([c["insolvent"] for c in cases]),
    )

    @jax.jit
    def run(account: Margined, start: Margined, wanted: jax.Array, fund: jax.Array) -> tuple:
        shown = {
            "liquidationFee": opening_fee(terms, start)[0],
            "discount": terms.price.fraction(state.elapsed),
            "bidPrice": asking_price(terms, account, state),
            "bufferMargin": buffer_margin(terms, account),
            "maxProportion": largest_share(terms, account, state),
        }
        ended = recovered(terms, account, state)
        return shown, ended, bid(terms, account, state, wanted, fund=fund)

    account = Margined(margin=column("MM"), value=column("MtM"))
    start = Margined(margin=column("startMM"), value=column("startMtM"))
    shown, ended, done = run(account, start, column("percentIn"), jnp.asarray(_fund_left(cases)))
    every = np.arange(len(cases))
    replay.compare_labels(
        "canTerminate", every, list(map(bool, ended)), [c["status"]["canTerminate"] for c in cases]
    )
    # Prices and margins are differences of values: their error scales with these.
    scale = np.abs(np.asarray(account.value)) + np.abs(np.asarray(account.margin))
    for what, actual in shown.items():
        rows = [c["status"] if what == "bufferMargin" else c for c in cases]
        there = np.array([i for i in every if what in rows[i]], int)
        expected = _raw([rows[i] for i in there], what)
        slack = 2.0 + 1e-14 * scale[there] * WAD
        replay.compare(what, there, np.asarray(actual)[there] * WAD, expected, raw_units=slack)
    _compare_bids(replay, cases, done, scale)
    return replay


def _fund_left(cases: list[dict]) -> list[float]:
    """Return what earlier bids of the same auction left in the fund."""
    paid: defaultdict[int, int] = defaultdict(int)
    left = {}
    for i in sorted(range(len(cases)), key=lambda i: cases[i]["step"]):
        case = cases[i]
        left[i] = (int(case["smBalance"]) - paid[case["system"]]) / 10**18
        paid[case["system"]] += int(case.get("smPaid", 0))
    return [left[i] for i in range(len(cases))]


def _compare_bids(replay: Replay, cases: list[dict], done: PortfolioBid, scale: np.ndarray) -> None:
    every = np.arange(len(cases))
    replay.compare_labels(
        "refusal",
        every,
        [PortfolioRefusal(int(r)) for r in done.refusal],
        [reason(AUCTION_REVERTS, c.get("revertReason", "")) for c in cases],
    )
    went = np.flatnonzero([not c["reverted"] for c in cases])
    ends = np.asarray(done.ends)
    replay.compare_labels(
        "auctionLiveAfter", went, [not ends[i] for i in went],
        [cases[i]["auctionLiveAfter"] for i in went],
    )  # fmt: skip
    for what, actual in (
        ("finalPercentage", done.share),
        ("cashFromBidder", done.from_bidder),
        ("cashToBidder", done.to_bidder),
        ("smPaid", done.from_fund),
        ("socializedLoss", done.socialised),
    ):
        there = np.array([i for i in went if what in cases[i]], int)
        replay.compare(
            what, there, np.asarray(actual)[there] * WAD, _raw([cases[i] for i in there], what),
            raw_units=2.0 + 1e-14 * scale[there] * WAD,
        )  # fmt: skip


ADAPTERS = {
    "derive_black76": black76,
    "derive_irm": interest,
    "derive_perp_funding": funding,
    "derive_dutch_auction": auction,
}
