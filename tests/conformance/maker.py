"""Maker: auctions of collateral, stability fee, surplus and debt books, as the contracts ran."""

import dataclasses
from collections.abc import Mapping
from enum import IntEnum

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.auction import (
    Auction,
    AuctionRefusal,
    AuctionStart,
    AuctionTerms,
    Vault,
    auction_room,
    buy,
    is_stale,
    restart,
    start_auction,
)
from jaxrisk.venue.auction_price import ExponentialDecrease, LinearDecrease, StairstepDecrease
from jaxrisk.venue.bid_auction import (
    BidAuction,
    BidRefusal,
    BidRules,
    lower_lot,
    raise_bid,
    reopen,
    settle,
)
from jaxrisk.venue.stability_fee import StabilityFee
from jaxrisk.venue.surplus import (
    SurplusBook,
    SurplusRefusal,
    SurplusRules,
    add_surplus,
    end_surplus_auction,
    net,
    net_auctioned,
    queue_debt,
    receive_bid,
    release_debt,
    start_debt_auction,
    start_surplus_auction,
)
from tests.conformance.comparison import Replay, ordered_value

WAD, RAY, RAD = 10**18, 10**27, 10**45
CURVES = ("LinearDecrease", "StairstepExponentialDecrease", "ExponentialDecrease")


def _column(cases: list[dict], name: str, unit: int = 1, default: int = 0) -> np.ndarray:
    """Return integers as floats in natural units; the division of integers rounds once."""
    return np.array([int(c.get(name, default)) / unit for c in cases])


def _verdict(table: Mapping[str, IntEnum], reason: str) -> str:
    """Return the refusal that a recorded reason stands for; a reason not known matches none."""
    if not reason:
        return "NONE"
    return table[reason].name if reason in table else reason


def _fraction(kind: np.ndarray, parameters: list[dict], elapsed: np.ndarray) -> jax.Array:
    """Return what is left of the opening price, by the curve of each auction."""
    cut = jnp.asarray(_column(parameters, "cut", RAY, RAY))
    tau = jnp.asarray(_column(parameters, "tau", 1, 1))
    step = jnp.asarray(_column(parameters, "step", 1, 1))
    curves = (
        LinearDecrease(duration=tau),
        StairstepDecrease(cut=cut, step=step),
        ExponentialDecrease(cut=cut),
    )

    @jax.jit
    def run(elapsed: jax.Array) -> jax.Array:
        return jnp.stack([curve.fraction(elapsed) for curve in curves])

    row = np.array([CURVES.index(k) for k in kind])
    return run(jnp.asarray(elapsed))[row, np.arange(len(kind))]


def _price_slack(top: np.ndarray, elapsed: np.ndarray) -> np.ndarray:
    # Contracts raise to a power in 27 digits, rounding at every squaring: as the power becomes
    # small that is an absolute error of about one unit a squaring, times the opening price.
    return 2.0 + 2.0 * np.log2(elapsed + 2.0) * top / RAY


def curves(header: dict, cases: list[dict]) -> Replay:
    """Replay `price(top, dur)` of the three curves."""
    del header
    replay = Replay(len(cases))
    top, elapsed = _column(cases, "top"), _column(cases, "dur")
    fraction = _fraction(np.array([c["kind"] for c in cases]), cases, elapsed)
    replay.compare(
        "price", np.arange(len(cases)), top * np.asarray(fraction), _column(cases, "price"),
        raw_units=_price_slack(top, elapsed),
    )  # fmt: skip
    return replay


def _terms(cases: list[dict]) -> AuctionTerms:
    read = lambda name, unit: jnp.asarray(_column(cases, name, unit))
    chop = np.array([(int(c.get("chop", WAD)) - WAD) / WAD for c in cases])
    return AuctionTerms(
        penalty=jnp.asarray(chop),
        minimum_debt=read("dust", RAD),
        ceiling=read("hole", RAD),
        opening_factor=read("buf", RAY),
        maximum_duration=read("tail", 1),
        price_floor=read("cusp", RAY),
        reward=read("tip", RAD),
        reward_share=read("chip", WAD),
        minimum_target=read("chost", RAD),
    )


BARK_REVERTS = {
    "Error:Dog/not-unsafe": AuctionRefusal.HEALTHY,
    "Error:Dog/dusty-auction-from-partial-liquidation": AuctionRefusal.DUST,
    "Error:Dog/liquidation-limit-hit": AuctionRefusal.NO_ROOM,
    # Room for less than one unit of debt or collateral.
    "Error:Dog/null-auction": AuctionRefusal.NO_ROOM,
}


def bark(header: dict, cases: list[dict]) -> Replay:
    """Replay `Dog.bark` with the `Clipper.kick` it ends in."""
    del header
    replay = Replay(len(cases))
    read = lambda name, unit: jnp.asarray(_column(cases, name, unit))
    rate = read("rate", RAY)
    vault = Vault(
        collateral=read("ink", WAD),
        debt=read("art", WAD) * rate,
        backing=read("ink", WAD) * read("spot", RAY),
        collateral_unit=jnp.full_like(rate, 1 / WAD),
        debt_unit=rate / WAD,
    )
    # What is left under a ceiling can be a few units of 1e-45, which only integers tell from none.
    left = lambda ceiling, used: jnp.asarray(
        [(int(c[ceiling]) - int(c[used])) / RAD for c in cases]
    )

    @jax.jit
    def run(terms: AuctionTerms, vault: Vault, price: jax.Array, left: jax.Array) -> AuctionStart:
        used = jnp.zeros_like(left)
        room = auction_room(terms, outstanding=used, global_outstanding=used, global_ceiling=left)
        return start_auction(terms, vault, oracle_price=price, room=room)

    terms = dataclasses.replace(_terms(cases), ceiling=left("hole", "dirt"))
    start = run(terms, vault, read("pip", WAD), left("Hole", "Dirt"))
    indices = np.arange(len(cases))
    recorded = [_verdict(BARK_REVERTS, c.get("revertReason", "")) for c in cases]
    replay.compare_labels(
        "refusal",
        indices,
        [AuctionRefusal(int(r)).name for r in start.refusal],
        recorded,
    )
    done = np.flatnonzero([not c["reverted"] for c in cases])
    repaid, seized, target = (np.asarray(x) for x in (start.repaid, start.seized, start.target))
    debt, collateral = np.asarray(vault.debt), np.asarray(vault.collateral)
    scale = np.asarray(rate)
    # A remainder is a difference: its error scales with what it was taken from.
    for what, actual, unit, base in (
        ("dink", seized, WAD, 0.0 * debt),
        ("lot", seized, WAD, 0.0 * debt),
        ("dart", repaid / scale, WAD, 0.0 * debt),
        ("due", repaid, RAD, 0.0 * debt),
        ("tab", target, RAD, 0.0 * debt),
        ("top", np.asarray(start.opening_price), RAY, 0.0 * debt),
        ("keeperCoin", np.asarray(start.reward), RAD, 0.0 * debt),
        ("inkAfter", collateral - seized, WAD, collateral),
        ("artAfter", (debt - repaid) / scale, WAD, debt / scale),
    ):
        replay.compare(
            what, done, actual[done], [int(cases[i][what]) / unit for i in done],
            raw_units=2.0 / unit + 1e-12 * base[done],
        )  # fmt: skip
    # Only the first seizure of a system starts from empty books.
    first = np.array([i for i in done if cases[i]["step"] == 0], dtype=int)
    booked = repaid + np.asarray(start.reward)
    sin = _column(cases, "vowSinAfter", RAD)
    replay.compare("vowSin", first, booked[first], sin[first], raw_units=2.0 / RAD)
    return replay


TAKE_REVERTS = {
    "Error:Clipper/needs-reset": AuctionRefusal.STALE,
    "Error:Clipper/no-partial-purchase": AuctionRefusal.DUST,
    "Error:Clipper/cannot-reset": AuctionRefusal.NOT_STALE,
}


def take_redo(header: dict, cases: list[dict]) -> Replay:
    """Replay `Clipper.take` and `Clipper.redo`."""
    del header
    replay = Replay(len(cases))
    read = lambda name, unit: jnp.asarray(_column(cases, name, unit))
    terms = _terms(cases)
    auction = Auction(
        target=read("tab", RAD),
        lot=read("lot", WAD),
        opening_price=read("top", RAY),
        elapsed=read("elapsed", 1),
    )
    fraction = _fraction(
        np.array([c["calc"] for c in cases]),
        [c["calcParams"] for c in cases],
        _column(cases, "elapsed"),
    )
    asked = (str(c.get("amt", "max")) for c in cases)
    wanted = [
        np.inf if a == "max" else ordered_value(int(a), int(c["lot"]), 1 / WAD)
        for a, c in zip(asked, cases, strict=True)
    ]

    @jax.jit
    def run(auction: Auction, fraction: jax.Array, wanted: jax.Array, price: jax.Array) -> tuple:
        return (
            is_stale(terms, auction, fraction),
            buy(terms, auction, fraction, wanted),
            restart(terms, auction, fraction, price),
        )

    stale, bought, again = run(auction, fraction, jnp.asarray(wanted), read("pip", WAD))
    indices = np.arange(len(cases))
    top, elapsed = _column(cases, "top"), _column(cases, "elapsed")
    replay.compare(
        "price", indices, top * np.asarray(fraction), _column(cases, "price"),
        raw_units=_price_slack(top, elapsed),
    )  # fmt: skip
    replay.compare_labels("needsRedo", indices, list(stale), [c["needsRedo"] for c in cases])
    recorded = [_verdict(TAKE_REVERTS, c.get("revertReason", "")) for c in cases]
    is_take = np.array([c["kind"] == "take" for c in cases])
    refusal = np.where(is_take, np.asarray(bought.refusal), np.asarray(again.refusal))
    replay.compare_labels(
        "refusal", indices, [AuctionRefusal(int(r)).name for r in refusal],
        recorded,
    )  # fmt: skip
    _compare_purchases(replay, cases, auction, bought)
    redone = np.array([i for i in indices if not is_take[i] and not cases[i].get("reverted")], int)
    for what, actual, unit in (
        ("newTop", again.opening_price, RAY),
        ("keeperCoin", again.reward, RAD),
    ):
        expected = _column(cases, what, unit)
        replay.compare(
            what, redone, np.asarray(actual)[redone], expected[redone], raw_units=2.0 / unit
        )
    return replay


def _compare_purchases(replay: Replay, cases: list[dict], auction: Auction, bought: object) -> None:
    done = np.array(
        [i for i, c in enumerate(cases) if c["kind"] == "take" and not c["reverted"]], int
    )
    part = lambda name: np.asarray(getattr(bought, name))
    # The recorded end of an auction says what was left of either side before it was closed.
    for what, actual, unit, base in (
        ("owe", part("repaid"), RAD, auction.target),
        ("tabAfter", part("target") + part("bad_debt"), RAD, auction.target),
        ("lotAfter", part("lot") + part("refund"), WAD, auction.lot),
    ):
        # A remainder is a difference: its error scales with what it was taken from.
        slack = 2.0 / unit + 1e-12 * np.asarray(base)
        replay.compare(
            what, done, actual[done], _column(cases, what, unit)[done], raw_units=slack[done]
        )
    ended = {
        "lot_exhausted_tab_left(bad debt)": (True, False),
        "tab_paid_lot_returned": (False, True),
    }
    labels = [
        (bool(b), bool(r)) for b, r in zip(part("bad_debt") > 0, part("refund") > 0, strict=True)
    ]
    replay.compare_labels(
        "end", done, [labels[i] for i in done],
        [ended.get(cases[i]["branch"], (False, False)) for i in done],
    )  # fmt: skip


def drip(header: dict, cases: list[dict]) -> Replay:
    """Replay `Jug.drip`: the rate accumulator of a collateral type."""
    del header
    replay = Replay(len(cases))
    # The excess over one is exact in integers and would not be in floating point.
    excess = [(int(c["duty"]) + int(c["base"]) - RAY) / RAY for c in cases]
    fee = StabilityFee(per_second=jnp.asarray(excess))
    growth = jax.jit(StabilityFee.growth)(fee, jnp.asarray(_column(cases, "dt")))
    after = _column(cases, "rateBefore") * np.asarray(growth)
    replay.compare("rateAfter", np.arange(len(cases)), after, _column(cases, "rateAfter"))
    return replay


BOOK_REVERTS = {
    "Vow/insufficient-surplus": SurplusRefusal.INSUFFICIENT_SURPLUS,
    "Vow/insufficient-debt": SurplusRefusal.INSUFFICIENT_DEBT,
    "Vow/not-enough-ash": SurplusRefusal.INSUFFICIENT_DEBT,
    "Vow/wait-not-finished": SurplusRefusal.STILL_WAITING,
    "Vow/surplus-not-zero": SurplusRefusal.SURPLUS_LEFT,
    "Vow/debt-not-zero": SurplusRefusal.DEBT_LEFT,
    "Flapper/over-lid": SurplusRefusal.OVER_LIMIT,
}
BID_REVERTS = {
    "already-finished-tic": BidRefusal.BID_EXPIRED,
    "already-finished-end": BidRefusal.ENDED,
    "insufficient-increase": BidRefusal.TOO_SMALL_A_STEP,
    "bid-not-higher": BidRefusal.TOO_SMALL_A_STEP,
    "insufficient-decrease": BidRefusal.TOO_SMALL_A_STEP,
    "lot-not-lower": BidRefusal.TOO_SMALL_A_STEP,
    "not-finished": BidRefusal.NOT_FINISHED,
    "bid-already-placed": BidRefusal.HAS_BID,
}
BOOK_ACTIONS = ("surplus", "bark_debt", "flog", "heal", "kiss", "flop", "flap")
BID_ACTIONS = ("tend", "dent", "deal_flap", "deal_flop", "tick_flop")


def books(header: dict, cases: list[dict]) -> Replay:
    """Replay the books of `Vow` and the bids of `Flapper` and `Flopper`, one action a case."""
    del header
    replay = Replay(len(cases))
    action = np.array([c["action"] for c in cases])
    arguments = [c["args"] for c in cases]
    book, rules = _book(cases, "before"), _surplus_rules(cases)
    now = jnp.asarray(_column(cases, "timestamp"))
    amount = jnp.asarray(_column(arguments, "rad", RAD))
    era = jnp.asarray(_column(arguments, "era"))
    auction, bid_rules, offer = _bids(cases)

    @jax.jit
    def run(book: SurplusBook, auction: BidAuction) -> tuple:
        accepted = jnp.zeros(now.shape, jnp.int32)
        booked = (
            (add_surplus(book, amount), accepted),
            queue_debt(book, amount, now),
            release_debt(rules, book, era, now),
            net(book, amount),
            net_auctioned(book, amount),
            start_debt_auction(rules, book),
            start_surplus_auction(rules, book),
        )
        won = settle(auction, now)
        bids = (
            raise_bid(bid_rules, auction, offer[0], now),
            lower_lot(bid_rules, auction, offer[1], now),
            (auction, won),
            (auction, won),
            reopen(bid_rules, auction, now),
        )
        paid, sold = receive_bid(book, auction.bid), end_surplus_auction(book, auction.lot)
        return booked, bids, paid, sold

    booked, bids, paid, sold = run(book, auction)
    names = BOOK_ACTIONS + BID_ACTIONS
    row = np.array([names.index(a) for a in action])
    refusal = np.stack([np.asarray(r) for _, r in booked + bids])[row, np.arange(len(cases))]
    _compare_verdicts(replay, cases, refusal)
    # What bids do to the books: the first bid of a debt auction pays, a sold surplus lot leaves.
    first = np.isinf(np.asarray(auction.expires)) & (refusal == 0)
    outcomes = [state for state, _ in booked] + [book] * len(BID_ACTIONS)
    chosen = np.where((action == "dent") & first, len(outcomes), row)
    chosen = np.where((action == "deal_flap") & (refusal == 0), len(outcomes) + 1, chosen)
    _compare_books(replay, cases, [*outcomes, paid, sold], chosen)
    _compare_tokens(replay, cases, auction, refusal)
    ticked = np.flatnonzero((action == "tick_flop") & (refusal == 0))
    larger = np.asarray(bids[-1][0].lot)
    replay.compare(
        "lotAfter", ticked, larger[ticked], _column(arguments, "lotAfter", WAD)[ticked],
        raw_units=2.0 / WAD,
    )  # fmt: skip
    return replay


def _book(cases: list[dict], when: str) -> SurplusBook:
    slots = 1 + max(len(c[when]["queue"]) for c in cases)
    queued, eras = np.zeros((slots, len(cases))), np.zeros((slots, len(cases)))
    free = np.zeros(len(cases))
    for n, case in enumerate(cases):
        state = case[when]
        free[n] = (int(state["sin"]) - int(state["Sin"]) - int(state["Ash"])) / RAD
        for k, (era, held) in enumerate(state["queue"].items()):
            queued[k, n], eras[k, n] = int(held) / RAD, int(era)
    states = [c[when] for c in cases]
    read = lambda name: jnp.asarray(_column(states, name, RAD))
    return SurplusBook(
        surplus=read("dai"),
        free_debt=jnp.asarray(free),
        auctioned_debt=read("Ash"),
        queued=jnp.asarray(queued),
        queued_at=jnp.asarray(eras),
        auctioned_surplus=read("flapFill"),
    )


def _surplus_rules(cases: list[dict]) -> SurplusRules:
    settings = [c["params"] for c in cases]
    read = lambda name, unit: jnp.asarray(_column(settings, name, unit))
    return SurplusRules(
        wait=read("wait", 1),
        surplus_lot=read("bump", RAD),
        surplus_buffer=read("hump", RAD),
        surplus_limit=jnp.asarray(_column(cases, "lid", RAD)),
        debt_lot=read("sump", RAD),
    )


def _bids(cases: list[dict]) -> tuple[BidAuction, BidRules, tuple[jax.Array, jax.Array]]:
    """Return auctions and rules in natural units: stablecoin in rad, tokens in wad."""
    arguments = [c["args"] for c in cases]
    auctions = [a.get("auction", {}) for a in arguments]
    is_debt = np.array([c["action"] in ("dent", "deal_flop", "tick_flop") for c in cases])
    pick = lambda name, debt_unit, surplus_unit: np.where(
        is_debt, _column(auctions, name, debt_unit), _column(auctions, name, surplus_unit)
    )
    expires = _column(auctions, "tic")
    auction = BidAuction(
        bid=jnp.asarray(pick("bid", RAD, WAD)),
        lot=jnp.asarray(pick("lot", WAD, RAD)),
        expires=jnp.asarray(np.where(expires > 0, expires, np.inf)),
        ends=jnp.asarray(_column(auctions, "end")),
    )
    # Durations are not recorded: nothing recorded depends on them.
    day = jnp.asarray(86_400.0)
    rules = BidRules(
        step=jnp.asarray(_column(arguments, "beg", WAD, WAD)),
        bid_duration=day,
        duration=day,
        restart_factor=jnp.asarray(_column(arguments, "pad", WAD, WAD)),
    )
    bid, lot = (jnp.asarray(_column(arguments, name, WAD)) for name in ("bid", "lot"))
    return auction, rules, (bid, lot)


def _compare_verdicts(replay: Replay, cases: list[dict], refusal: np.ndarray) -> None:
    actual, expected = [], []
    for number, case in zip(refusal, cases, strict=True):
        of_books = case["action"] in BOOK_ACTIONS
        actual.append((SurplusRefusal if of_books else BidRefusal)(int(number)).name)
        reason = case.get("revertReason", "")
        table = BOOK_REVERTS if of_books else BID_REVERTS
        expected.append(_verdict(table, reason if of_books else reason.partition("/")[2]))
    replay.compare_labels("refusal", np.arange(len(cases)), actual, expected)


def _compare_books(
    replay: Replay, cases: list[dict], outcomes: list[SurplusBook], chosen: np.ndarray
) -> None:
    indices = np.arange(len(cases))
    states = [c["after"] for c in cases]
    parts = {
        "dai": lambda b: b.surplus,
        "sin": lambda b: b.debt(),
        "Sin": lambda b: b.queued.sum(0),
        "Ash": lambda b: b.auctioned_debt,
        "flapFill": lambda b: b.auctioned_surplus,
    }
    for what, part in parts.items():
        actual = np.stack([np.asarray(part(b)) for b in outcomes])[chosen, indices]
        replay.compare(
            f"after.{what}", indices, actual, _column(states, what, RAD), raw_units=2.0 / RAD
        )
    queues = []
    for k, n in enumerate(chosen):
        held, era = np.asarray(outcomes[n].queued[:, k]), np.asarray(outcomes[n].queued_at[:, k])
        queues.append({int(e): float(h) for h, e in zip(held, era, strict=True) if h > 0})
    recorded = [{int(e): int(h) / RAD for e, h in s["queue"].items() if int(h) > 0} for s in states]
    replay.compare_labels("after.queue", indices, queues, recorded)


def _compare_tokens(
    replay: Replay, cases: list[dict], auction: BidAuction, refusal: np.ndarray
) -> None:
    """Governance tokens: what a buyer of surplus pays is burnt, what covers debt is minted."""
    action = np.array([c["action"] for c in cases])
    burnt = np.where((action == "deal_flap") & (refusal == 0), np.asarray(auction.bid), 0.0)
    minted = np.where((action == "deal_flop") & (refusal == 0), np.asarray(auction.lot), 0.0)
    after = [int(c["after"]["gemSupply"]) - int(c["before"]["gemSupply"]) for c in cases]
    change = np.array([n / WAD for n in after])
    replay.compare("gemSupply", np.arange(len(cases)), minted - burnt, change, raw_units=2.0 / WAD)


ADAPTERS = {
    "maker_abacus_curves": curves,
    "maker_bark": bark,
    "maker_take_redo": take_redo,
    "maker_jug_drip": drip,
    "maker_vow_flap_flop": books,
}
