"""Who bids in auctions by bids, and what they raise: by quadrature, by sampling, by the record."""

import dataclasses
import runpy
from datetime import UTC, datetime

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrisk import root_key
from jaxrisk.errors import DataError
from jaxrisk.numerics.keys import scenario_key
from jaxrisk.run.auction_history import auction_totals, read_auctions, recorded_sale
from jaxrisk.venue.bid_sale import SeizedLots, expected_sale, sampled_sale
from jaxrisk.venue.participation import AuctionConditions, KeeperParticipation, log_likelihood
from jaxrisk.venue.presets import maker_flip
from tests.conftest import ROOT
from tests.helpers import assert_close

COUNT = 4
RECORD = "data/lending/maker_black_thursday/eth_a_flip_auctions_2019_11_2020_04.parquet"
HEADER = (
    "id,lot,best_price_ethdai,lastbid_timestamp,lastbid_osm_price_ethusd,san_price_ethusd,"
    "san_price_daiusd,gasPrice_GWei\n"
)

law = maker_flip.keeper_participation
array = lambda *values: jnp.array(values)


def conditions(**changes) -> AuctionConditions:
    calm = AuctionConditions(
        gas_price=array(100.0, 200.0, 300.0, 150.0),
        open_auctions=array(1.0, 80.0, 400.0, 200.0),
        market_over_oracle=array(1.0, 0.95, 1.02, 0.9),
        hours_known=array(0.0, 1.0, 5.0, 30.0),
        lot_value=array(7_000.0, 5_000.0, 200.0, 6_500.0),
        bidding_seconds=jnp.full(COUNT, 600.0),
    )
    return dataclasses.replace(calm, **changes)


def lots() -> SeizedLots:
    return SeizedLots(
        lot=array(50.0, 50.0, 2.0, 50.0),
        price=array(140.0, 100.0, 100.0, 130.0),
        debt=array(5_000.0, 5_500.0, 120.0, 7_000.0),
        target=array(5_650.0, 6_215.0, 135.6, 7_910.0),
    )


def test_an_auction_nobody_comes_to_is_as_likely_as_no_arrival_of_a_poisson_process():
    own = dataclasses.replace(law(), base=jnp.log(0.5), backlog=jnp.array(0.0))
    quiet = dataclasses.replace(
        conditions(), **{n: jnp.ones(COUNT) for n in ("open_auctions", "market_over_oracle")},
        gas_price=jnp.full(COUNT, 100.0), hours_known=jnp.zeros(COUNT),
        lot_value=jnp.full(COUNT, 1_000.0), bidding_seconds=array(600.0, 1_200.0, 300.0, 21_600.0),
    )  # fmt: skip
    expected = np.exp(-0.5 * np.array([1.0, 2.0, 0.5, 36.0]))
    assert_close(own.unbid_probability(quiet), expected, rtol=1e-12, atol=0.0)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.05, 30.0), st.floats(-1.0, 1.0))
def test_what_is_raised_is_the_integral_over_offers(keenness, fading):
    """Independent: mean of min(offer, target) by the midpoint rule over quantiles of the offer."""
    own = dataclasses.replace(law(), keenness=jnp.array(keenness), fading=jnp.array(fading))
    sale, put_up, seen = expected_sale(own, conditions(), lots()), lots(), conditions()
    power = keenness * (1.0 + np.asarray(seen.hours_known)) ** fading
    quantile = (np.arange(200_000) + 0.5) / 200_000
    value = np.asarray(put_up.lot * put_up.price)
    offers = value[:, None] * quantile ** (1.0 / power[:, None])
    paid = np.minimum(offers, np.asarray(put_up.target)[:, None]).mean(axis=1)
    nobody = np.asarray(own.unbid_probability(seen))
    assert_close(sale.raised, (1.0 - nobody) * paid, rtol=1e-4, atol=1e-3)
    assert_close(sale.unbid_lot, nobody * np.asarray(put_up.lot), rtol=1e-12, atol=0.0)


def test_samples_played_by_the_rules_have_the_expected_mean():
    own = dataclasses.replace(law(), base=jnp.array(8.0))
    rules, samples = maker_flip.bid_rules(), 20_000
    keys = jax.vmap(lambda i: scenario_key(root_key(3), i))(jnp.arange(samples))
    draw = jax.jit(jax.vmap(lambda key: sampled_sale(own, conditions(), lots(), rules, key)))
    drawn, expected = draw(keys), expected_sale(own, conditions(), lots())
    for name in ("unbid", "unbid_lot", "raised"):
        values = np.asarray(getattr(drawn, name))
        mean, error = values.mean(axis=0), values.std(axis=0) / np.sqrt(samples)
        off = abs(mean - np.asarray(getattr(expected, name)))
        assert (off <= 4.5 * error + 1e-6).all(), name
    assert (np.asarray(drawn.raised) <= np.asarray(lots().target) * (1 + 1e-12)).all()


@pytest.mark.parametrize(
    ("name", "value"), [("gas_price", 400.0), ("open_auctions", 900.0), ("market_over_oracle", 0.7)]
)
def test_congestion_crowds_and_falling_prices_keep_bidders_away(name, value):
    before = expected_sale(law(), conditions(), lots())
    after = expected_sale(law(), conditions(**{name: jnp.full(COUNT, value)}), lots())
    assert (after.unbid >= before.unbid).all()
    assert (after.unbid > before.unbid).any()


def test_zero_bid_quantity_is_differentiable_in_every_parameter_of_presence():
    total = lambda own: expected_sale(own, conditions(), lots()).unbid_lot.sum()
    slope = jax.grad(total)(law())
    for name in ("base", "gas", "backlog", "price", "experience", "size"):
        shift = lambda h, name=name: dataclasses.replace(law(), **{name: getattr(law(), name) + h})
        bump = (total(shift(1e-5)) - total(shift(-1e-5))) / 2e-5
        assert abs(bump) > 1e-6
        assert_close(getattr(slope, name), bump, rtol=1e-6, atol=1e-8)


def test_likelihood_is_finite_where_nobody_came_and_has_a_finite_slope():
    value, slope = jax.value_and_grad(log_likelihood)(
        law(), conditions(), unbid=array(True, False, True, False),
        share=array(1e-6, 0.9, 1e-6, 0.2), weight=jnp.ones(COUNT),
    )  # fmt: skip
    assert np.isfinite(value)
    assert all(np.isfinite(leaf) for leaf in jax.tree.leaves(slope))


def record(shared):
    return read_auctions(
        shared / RECORD,
        liquidation_ratio=maker_flip.LIQUIDATION_RATIO,
        penalty=maker_flip.PENALTY,
        bidding_seconds=maker_flip.BIDDING_SECONDS,
    )


def event(history):
    return history.between(datetime(2020, 3, 12, tzinfo=UTC), datetime(2020, 3, 14, tzinfo=UTC))


def test_the_record_of_march_2020_agrees_with_what_was_published(shared):
    """Published (Whiterabbit, March 2020): 36 % without a bid, 8.32 MUSD, 5.67 M DAI."""
    history = record(shared)
    real = auction_totals(history, recorded_sale(history), event(history))
    assert real.auctions == 4_094
    assert real.unbid_auctions == 1_461
    assert_close(real.unbid_lot, 62_842.93, rtol=1e-6, atol=0.0)
    assert_close(real.unbid_usd, 8.32e6, rtol=0.01, atol=0.0)
    assert_close(real.deficit, 5.67e6, rtol=0.05, atol=0.0)


def test_the_law_reproduces_march_2020(shared):
    history, where = record(shared), event(record(shared))
    sale = expected_sale(law(), history.conditions, history.lots)
    real = auction_totals(history, recorded_sale(history), where)
    told = auction_totals(history, sale, where)
    assert_close(told.unbid_share, real.unbid_share, rtol=0.0, atol=0.03)
    assert_close(told.unbid_lot, real.unbid_lot, rtol=0.01, atol=0.0)
    assert_close(told.unbid_usd, real.unbid_usd, rtol=0.01, atol=0.0)
    assert_close(told.deficit, real.deficit, rtol=0.02, atol=0.0)
    # Outside these two days nothing went for nothing, and the law says so.
    calm = auction_totals(history, sale, ~where)
    assert calm.auctions == 771
    assert calm.unbid_auctions < 0.1


def test_the_parameters_are_those_of_maximum_likelihood(shared):
    history = record(shared)
    weight = history.lots.lot / history.lots.lot.sum()
    slope = jax.grad(log_likelihood)(
        law(), history.conditions, unbid=jnp.asarray(history.unbid),
        share=jnp.asarray(history.share), weight=weight,
    )  # fmt: skip
    assert all(abs(leaf) < 1e-3 for leaf in jax.tree.leaves(slope)), slope
    # The negative control: the same slope one hundredth off is not zero.
    off = dataclasses.replace(law(), gas=law().gas * 1.01)
    wrong = jax.grad(log_likelihood)(
        off, history.conditions, unbid=jnp.asarray(history.unbid),
        share=jnp.asarray(history.share), weight=weight,
    )  # fmt: skip
    assert max(abs(leaf) for leaf in jax.tree.leaves(wrong)) > 1e-3


def test_a_law_fitted_to_every_other_auction_tells_the_rest(shared):
    """Newton steps from the shipped law on odd ids; compared on even ids."""
    history = record(shared)
    odd = history.auction_id % 2 == 1
    names = [field.name for field in dataclasses.fields(KeeperParticipation)]
    weight = jnp.where(odd, history.lots.lot, 0.0) / history.lots.lot.sum()

    def loss(vector):
        own = KeeperParticipation(**dict(zip(names, vector, strict=True)))
        return -log_likelihood(
            own, history.conditions, unbid=jnp.asarray(history.unbid),
            share=jnp.asarray(history.share), weight=weight,
        )  # fmt: skip

    vector = jnp.array([getattr(law(), name) for name in names])
    step = jax.jit(lambda x: x - jnp.linalg.solve(jax.hessian(loss)(x), jax.grad(loss)(x)))
    for _ in range(4):
        vector = step(vector)
    assert abs(jax.grad(loss)(vector)).max() < 1e-8
    fitted = KeeperParticipation(**dict(zip(names, vector, strict=True)))
    where = event(history) & ~odd
    told = auction_totals(history, expected_sale(fitted, history.conditions, history.lots), where)
    real = auction_totals(history, recorded_sale(history), where)
    assert_close(told.unbid_lot, real.unbid_lot, rtol=0.01, atol=0.0)
    assert_close(told.deficit, real.deficit, rtol=0.02, atol=0.0)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ("1,50,100,1583971200,120,110,1.0,\n", "no auction has a price of inclusion"),
        ("1,-50,100,1583971200,120,110,1.0,50\n", ":2: lot: -50: expected a number above 0"),
        ("1,50,100,1583971200,120,110,0,50\n", "san_price_daiusd: 0: expected a number above 0"),
        ("1,50,x,1583971200,120,110,1.0,50\n", "best_price_ethdai"),
        ("1,50,100,1583971200,120,110,1.0,fast\n", "gasPrice_GWei"),
    ],
)
def test_a_record_that_cannot_be_used_is_refused_by_line(tmp_path, rows, text):
    path = tmp_path / "auctions.csv"
    path.write_text(HEADER + rows, encoding="utf-8")
    with pytest.raises(DataError, match=text):
        read_auctions(path, liquidation_ratio=1.5, penalty=0.13, bidding_seconds=600.0)


def test_an_auction_without_a_recorded_price_of_inclusion_takes_the_nearest(tmp_path):
    path = tmp_path / "auctions.csv"
    rows = [
        "1,50,100,1000000,120,110,1.0,50",
        "2,50,100,1000100,120,110,1.0,70",
        "3,50,100,1010000,120,110,1.0,",
        "4,50,0.001,1012000,120,110,1.0,90",
        "5,50,100,1019200,120,110,1.0,10",
    ]
    path.write_text(HEADER + "\n".join(rows) + "\n", encoding="utf-8")
    history = read_auctions(path, liquidation_ratio=1.5, penalty=0.13, bidding_seconds=600.0)
    assert history.conditions.gas_price.tolist() == [60.0, 60.0, 90.0, 90.0, 10.0]
    assert history.conditions.open_auctions.tolist() == [2.0, 2.0, 1.0, 1.0, 1.0]
    assert history.conditions.hours_known.tolist() == [0.0, 0.0, 0.0, 0.0, 2.0]
    assert history.unbid.tolist() == [False, False, False, True, False]


@pytest.mark.slow
def test_the_example_prints_the_record_beside_the_law(shared, capsys):
    path = ROOT / "docs/examples/black_thursday.py"
    runpy.run_path(str(path))["main"](shared / RECORD)
    lines = {line[:34].strip(): line[34:].split() for line in capsys.readouterr().out.splitlines()}
    assert lines["recorded"] == ["1,461", "35.7%", "62,843", "8.28", "5.45"]
    assert lines["published"] == ["36%", "8.32", "5.67"]
    expected, sampled = lines["expected by the law"], lines["mean of 200 samples"]
    number = lambda text: float(text.replace(",", ""))
    assert_close(number(sampled[2]), number(expected[2]), rtol=0.01, atol=0.0)
