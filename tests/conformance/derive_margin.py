"""Derive v2: the standard margin, as recorded."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.market.chain import OptionChain
from jaxrisk.venue.contingency import ConfidenceCharge, PegCharge
from jaxrisk.venue.expiry_payoff import PayoffMargin
from jaxrisk.venue.requirement import MarginState
from jaxrisk.venue.short_option import ShortOptionMargin
from jaxrisk.venue.standard_margin import (
    StandardHoldings,
    StandardMarket,
    StandardTerms,
    standard_margin,
)
from tests.conformance.comparison import Replay

WAD = 1e18
SECONDS_PER_YEAR = 365.0 * 86_400.0
ROUNDING = 1e-14
"""Error allowed as a share of all notional held: margins are differences of such sums."""


def natural(value: str | int) -> float:
    """Return an integer of the contract in natural units."""
    return int(value) / 10**18


class Chains:
    """Expiries of many cases, padded to one shape; a case is a list of expiries."""

    def __init__(self, cases: list[list[dict]]) -> None:
        self.cases = cases
        expiries = max((len(c) for c in cases), default=0)
        options = max((len(e["options"]) for c in cases for e in c), default=0)
        self.shape = (len(cases), max(expiries, 1), max(options, 1))

    def expiry(self, name: str, unit: int = 10**18, default: float = 0.0) -> jax.Array:
        """Return a field of every expiry."""
        values = np.full(self.shape[:2], default)
        for i, c in enumerate(self.cases):
            for k, e in enumerate(c):
                values[i, k] = int(e[name]) / unit
        return jnp.asarray(values)

    def option(self, name: str) -> jax.Array:
        """Return a field of every option; numbers in natural units."""
        values = np.zeros(self.shape, bool if name == "isCall" else float)
        for i, c in enumerate(self.cases):
            for k, e in enumerate(c):
                for n, o in enumerate(e["options"]):
                    values[i, k, n] = o[name] if name == "isCall" else natural(o[name])
        return jnp.asarray(values)

    def chain(self, forward: str, fixed: str | None, discount: str | None) -> OptionChain:
        """Return chains whose forward, fixed part and discount have these names."""
        one = jnp.ones(self.shape[:2])
        return OptionChain(
            years=self.expiry("secToExpiry", int(SECONDS_PER_YEAR)),
            forward=self.expiry(forward),
            fixed=self.expiry(fixed) if fixed else 0.0 * one,
            discount=self.expiry(discount, default=1.0) if discount else one,
            strike=self.option("strike"),
            volatility=self.option("vol"),
            is_call=self.option("isCall"),
        )

    def notional(self) -> np.ndarray:
        """Return the sum over options of amount times the larger of strike and forward."""
        total = np.zeros(len(self.cases))
        for i, c in enumerate(self.cases):
            for e in c:
                ahead = natural(e.get("forward", e.get("forwardVariablePortion", 0)))
                for o in e["options"]:
                    total[i] += abs(natural(o["amount"])) * max(natural(o["strike"]), ahead)
        return total


def _standard_terms(markets: list[dict], depeg: list[dict]) -> StandardTerms:
    column = lambda table, name: jnp.asarray([natural(m[table][name]) for m in markets])
    option = lambda name: column("optionParams", name)
    unsure = lambda name: ConfidenceCharge(
        threshold=column("oracleContingency", name), factor=column("oracleContingency", "OCFactor")
    )
    weight = column("baseParams", "marginFactor")
    rows = lambda initial, maintenance: jnp.stack([initial, maintenance], axis=1)
    return StandardTerms(
        option=ShortOptionMargin(
            highest=option("maxSpotReq"),
            lowest=option("minSpotReq"),
            call=option("mmCallSpotReq"),
            put=option("mmPutSpotReq"),
            put_of_mark=option("MMPutMtMReq"),
            put_cover=option("mmOffsetScale"),
        ),
        payoff=PayoffMargin(
            unpaired=rows(option("unpairedIMScale"), option("unpairedMMScale")),
        ),
        perpetual=rows(column("perpReq", "im"), column("perpReq", "mm")),
        collateral=rows(weight * column("baseParams", "IMScale"), weight),
        perpetual_confidence=unsure("perpThreshold"),
        option_confidence=unsure("optionThreshold"),
        collateral_confidence=unsure("baseThreshold"),
        peg=PegCharge(
            threshold=jnp.asarray([natural(d["threshold"]) for d in depeg]),
            factor=jnp.asarray([natural(d["depegFactor"]) for d in depeg]),
        ),
    )


def standard(header: dict, cases: list[dict]) -> Replay:
    """Replay the Standard Manager: margins by market, and of every short option alone."""
    del header
    replay = Replay(len(cases))
    owner = np.array([i for i, c in enumerate(cases) for _ in c["markets"]])
    markets = [m for c in cases for m in c["markets"]]
    chains = Chains([m["expiries"] for m in markets])
    column = lambda name: jnp.asarray([natural(m[name]) for m in markets])
    # A market without a perpetual position has no prices of it either.
    none = {"position": 0, "perpPrice": 0, "confidence": WAD, "unsettledAndUnrealizedCash": 0}
    perp = lambda name: jnp.asarray([natural((m["perp"] or none)[name]) for m in markets])
    chain = chains.chain("forward", None, None)
    sure = jnp.minimum(
        chains.expiry("forwardConfidence", default=1.0), chains.expiry("volConfidence", default=1.0)
    )
    prices = StandardMarket(
        spot=column("spot"),
        perpetual=perp("perpPrice"),
        currency=jnp.asarray([natural(cases[i]["stablePrice"]) for i in owner]),
        chain=chain,
        spot_confidence=column("spotConfidence"),
        perpetual_confidence=perp("confidence"),
        expiry_confidence=sure,
    )
    held = StandardHoldings(
        perpetual=perp("position")[:, None],
        earned=perp("unsettledAndUnrealizedCash")[:, None],
        collateral=column("basePosition")[:, None],
        options=chains.option("amount")[..., None],
    )
    terms = _standard_terms(markets, [cases[i]["depeg"] for i in owner])

    @jax.jit
    def run(terms: StandardTerms, prices: StandardMarket, held: StandardHoldings) -> tuple:
        alone = jax.vmap(
            lambda t, p, m: t.option.required(p.spot, p.chain.strike, p.chain.is_call, m)
        )
        mark = jax.vmap(OptionChain.marks)(prices.chain)
        return jax.vmap(standard_margin)(terms, prices, held), mark, alone(terms, prices, mark)

    state, mark, alone = run(terms, prices, held)
    gross = chains.notional() + np.abs(np.asarray(held.collateral[:, 0] * prices.spot))
    gross += np.abs(np.asarray(held.perpetual[:, 0] * prices.spot))
    _compare_standard(replay, cases, owner, state, gross)
    _compare_alone(replay, markets, owner, mark, alone)
    return replay


def _compare_standard(
    replay: Replay, cases: list[dict], owner: np.ndarray, state: MarginState, gross: np.ndarray
) -> None:
    cash = np.array([natural(c["cash"]) for c in cases])
    per_case = lambda values: np.bincount(owner, np.asarray(values), len(cases))
    slack = 2.0 + ROUNDING * (np.abs(cash) + per_case(gross)) * WAD
    for what, values in (
        ("initialMargin", state.surplus[:, 0, 0]),
        ("maintenanceMargin", state.surplus[:, 1, 0]),
        ("markToMarket", state.value[:, 0]),
    ):
        expected = [float(int(c[what])) for c in cases]
        actual = (per_case(values) + cash) * WAD
        replay.compare(what, np.arange(len(cases)), actual, expected, raw_units=slack)


def _compare_alone(
    replay: Replay, markets: list[dict], owner: np.ndarray, mark: jax.Array, alone: jax.Array
) -> None:
    rows = [
        (i, k, n, o)
        for i, m in enumerate(markets)
        for k, e in enumerate(m["expiries"])
        for n, o in enumerate(e["options"])
        if "mtm" in o
    ]
    at = tuple(np.array([r[j] for r in rows]) for j in range(3))
    amount = np.array([natural(o["amount"]) for *_, o in rows])
    strike = np.array([natural(o["strike"]) for *_, o in rows])
    per_unit = np.asarray(alone)
    for what, values in (
        ("mtm", np.asarray(mark)[at]),
        ("isolatedIM", per_unit[:, 0][at]),
        ("isolatedMM", per_unit[:, 1][at]),
    ):
        expected = [float(int(o[what])) for *_, o in rows]
        slack = 2.0 + ROUNDING * np.abs(amount) * strike * WAD
        replay.compare(what, owner[at[0]], amount * values * WAD, expected, raw_units=slack)


ADAPTERS = {"derive_srm": standard}
