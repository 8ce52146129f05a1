"""Claims between layers: published clearings, all sets of defaults, look-through, derivatives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.system.claims import look_through, value_claims
from tests.claim_graphs import banks, graph, greatest_clearing, random_network
from tests.helpers import assert_close

ONE = jnp.ones(1)
PAIR = jnp.array([1.7, 1.0])
RING = [(0, 1, 4.0), (1, 2, 3.0), (2, 0, 2.0)]
SEEDS = st.integers(0, 10**6)
value = jax.jit(value_claims)
through = jax.jit(look_through)


def ring(recovery=None):
    """Three banks after a loss of a tenth of (20, 20, 10)."""
    return banks([18.0, 18.0, 9.0], [17.0, 18.0, 8.0], RING, recovery)


def test_a_ring_of_banks_clears_as_eisenberg_and_noe():
    # 1 owes 21 and has 18 + 2: it pays 20; the others have 18 + 4 * 20/21 for 21, and 9 + 3.
    found = value(ring(), ONE)
    assert bool(found.converged)
    assert_close(found.rate, [20.0 / 21.0, 1.0, 1.0], rtol=1e-14, atol=0.0)
    assert_close(found.equity, [-1.0, 18.0 + 80.0 / 21.0 - 21.0, 2.0], rtol=1e-13, atol=0.0)


def test_costs_of_default_take_a_second_bank_down():
    # Rogers and Veraart with a = b = 1/2: 1 pays 10 of 21; 2 has 18 + 40/21 < 21 and pays half.
    found = value(ring((0.5, 0.5)), ONE)
    second = (18.0 + 4.0 * 10.0 / 21.0) / 2.0
    assert_close(found.rate, [10.0 / 21.0, second / 21.0, 1.0], rtol=1e-14, atol=0.0)
    assert_close(found.rate * ring().issued, [10.0, 9.952381, 10.0], rtol=0.0, atol=5e-7)


def test_of_two_solutions_it_is_the_greatest():
    # Each owes the other 1 and has 0.3: both may pay, and with costs both may default.
    pair = banks([0.3, 0.3], [0.0, 0.0], [(0, 1, 1.0), (1, 0, 1.0)], (0.5, 0.5))
    assert_close(value(pair, ONE).rate, [1.0, 1.0], rtol=0.0, atol=0.0)
    # With nothing but each other's debt both still pay.
    bare = banks([0.0, 0.0], [0.0, 0.0], [(0, 1, 0.1), (1, 0, 0.1)], (0.0, 0.0))
    assert_close(value(bare, ONE).rate, [1.0, 1.0], rtol=0.0, atol=0.0)


def test_nobody_defaults_for_a_rounding():
    # 3 * 0.1 is more than 0.3 in floating point, and default here costs everything.
    g = graph(
        [("note", "bank", "promise", 3.0)],
        [("note", "dollar", 0.1)],
        [("bank", "dollar", 0.3)],
        recovery={"bank": (0.0, 0.0)},
    )
    found = value(g, ONE)
    assert float(found.equity[0]) < 0.0
    assert found.rate.tolist() == [1.0]


@given(seed=SEEDS)
def test_of_all_sets_of_defaults_that_clear_it_is_the_one_with_the_greatest_prices(seed):
    for recovery in (None, (0.7, 0.4)):
        g = random_network(seed, recovery=recovery)
        found = value(g, PAIR)
        assert bool(found.converged)
        assert_close(found.price, greatest_clearing(g, np.asarray(PAIR)), rtol=1e-11, atol=1e-12)


@given(seed=SEEDS)
def test_what_holders_get_is_what_there_is(seed):
    # Without costs nothing vanishes: claims are worth the assets of all layers, and equity that
    # nobody holds is counted by the share.
    g = random_network(seed)
    found = value(g, PAIR)
    outside = g.issued - g.held_claims.sum(axis=0)
    total = float((g.held_assets @ PAIR).sum())
    assert_close((outside * found.price).sum(), total, rtol=1e-11, atol=0.0)


@given(seed=SEEDS)
def test_exposures_of_a_layer_add_up_to_its_equity(seed):
    g = random_network(seed)
    exposure, equity = through(g, PAIR), value(g, PAIR).equity
    assert_close(exposure.sum(axis=1), equity, rtol=1e-9, atol=1e-9)
    h = 1e-6
    up, down = (value(g, PAIR * jnp.array([np.exp(s * h), 1.0])).equity for s in (1, -1))
    assert_close(exposure[:, 0], (up - down) / (2 * h), rtol=1e-6, atol=1e-6)


def test_a_bailout_dollar_saves_the_threat_index():
    # d(sum of unpaid)/de_i = -[(I - Pi_DD)^-1 1]_i for who defaults (Demange 2018), 0 for others.
    own = np.array([1.0, 2.0, 3.0, 40.0])
    owing = [(0, 1, 5.0), (1, 2, 6.0), (2, 0, 4.0), (1, 3, 3.0), (3, 0, 1.0)]
    g = banks(own, [3.0, 2.0, 9.0, 5.0], owing)
    owed = np.asarray(g.issued)
    relative = np.zeros((4, 4))
    for d, c, x in owing:
        relative[d, c] = x / owed[d]
    unpaid = lambda held: jnp.sum(
        owed * (1.0 - value_claims(dataclasses.replace(g, held_assets=held), ONE).rate)
    )
    failed = np.asarray(value(g, ONE).rate) < 1.0
    assert failed.tolist() == [True, True, True, False]
    index = np.zeros(4)
    index[:3] = np.linalg.solve(np.eye(3) - relative[:3, :3], np.ones(3))
    assert_close(jax.grad(unpaid)(g.held_assets)[:, 0], -index, rtol=1e-12, atol=1e-14)


def tower():
    """A staked token, deposited in a pool, whose receipt is in a vault with another pool's."""
    return graph(
        [
            ("staked", "staking", "promise", 100.0),
            ("receipt", "pool", "promise", 80.0),
            ("loan", "borrower", "promise", 9_000.0),
            ("vault share", "vault", "share", 50.0),
        ],
        [
            ("staked", "ether", 1.2),
            ("receipt", "staked", 1.0),
            ("loan", "dollar", 1.0),
            ("vault share", "staked", 1.0),
        ],
        [
            ("staking", "ether", 120.0),
            ("pool", "staked", 78.0),
            ("pool", "loan", 9_000.0),
            ("borrower", "ether", 5.0),
            ("vault", "receipt", 60.0),
            ("vault", "dollar", 100.0),
        ],
        ("ether", "dollar"),
    )


def test_a_loss_goes_up_the_tower():
    price = jnp.array([2_000.0, 1.0])
    whole = value(tower(), price)
    assert whole.rate.tolist()[:3] == [1.0, 1.0, 1.0]
    # A staked token of 2,400 dollars; the vault has 60 of them and 100 dollars for 50 shares.
    assert_close(whole.rate[3], (60.0 + 100.0 / 2_400.0) / 50.0, rtol=1e-14, atol=0.0)
    # Ether at 1,000: the borrower has 5,000 of 9,000; the pool owes 80 * 1,200 and has 78 * 1,200.
    fallen = value(tower(), price.at[0].set(1_000.0))
    assert_close(fallen.rate[2], 5.0 / 9.0, rtol=1e-14, atol=0.0)
    assert fallen.rate[1] == 1.0
    # A tenth of the stake is slashed: a staked token is worth 1.08 ether and the pool owes those.
    slashed = dataclasses.replace(tower(), held_assets=tower().held_assets.at[0, 0].set(108.0))
    found = value(slashed, price.at[0].set(1_000.0))
    assert_close(found.rate[0], 0.9, rtol=1e-14, atol=0.0)
    assert_close(found.price[1], 1_080.0, rtol=1e-14, atol=0.0)
    # And without the borrower's ether the pool is short: 78 of 80.
    broke = dataclasses.replace(slashed, held_assets=slashed.held_assets.at[2, 0].set(0.0))
    found = value(broke, price)
    assert_close(found.rate[1], 78.0 / 80.0, rtol=1e-14, atol=0.0)
    vault = (60.0 * 78.0 / 80.0 * 2_160.0 + 100.0) / 50.0
    assert_close(found.price[3], vault, rtol=1e-14, atol=0.0)


def test_a_debt_in_a_claim_that_has_fallen_is_valued_as_it_stands():
    # A owes a staked token besides what A and B owe each other. At 1,200 dollars the token would
    # break A, and with it B and, all value being lost in default, A for good; it is worth 900.
    claims = [
        ("staked", "staking", "promise", 1.0),
        ("short", "A", "promise", 1.0),
        ("debt A", "A", "promise", 1_000.0),
        ("debt B", "B", "promise", 1_000.0),
    ]
    underlying = [
        ("staked", "ether", 1.2),
        ("short", "staked", 1.0),
        ("debt A", "dollar", 1.0),
        ("debt B", "dollar", 1.0),
    ]
    holdings = [
        ("staking", "ether", 0.9),
        ("A", "dollar", 950.0),
        ("A", "debt B", 1_000.0),
        ("B", "dollar", 50.0),
        ("B", "debt A", 1_000.0),
    ]
    lost = {"A": (0.0, 0.0), "B": (0.0, 0.0)}
    g = graph(claims, underlying, holdings, ("ether", "dollar"), recovery=lost)
    found = value(g, jnp.array([1_000.0, 1.0]))
    assert_close(found.rate, [0.75, 1.0, 1.0, 1.0], rtol=1e-13, atol=0.0)
    assert g.stage == (0, 1, 1, 1)
    broken = value(g, jnp.array([1_100.0, 1.0]))
    assert_close(broken.rate, [0.75, 0.0, 0.0, 0.0], rtol=1e-13, atol=0.0)


def test_many_markets_at_once_are_those_one_by_one():
    g = random_network(7)
    prices = jnp.stack([jnp.linspace(0.3, 2.5, 6), jnp.ones(6)], axis=1)
    batch = jax.jit(jax.vmap(value_claims, in_axes=(None, 0)))(g, prices)
    single = [value(g, p).price for p in prices]
    assert_close(batch.price, np.stack(single), rtol=1e-12, atol=1e-13)
    assert batch.converged.all()


def test_a_tower_stands_in_what_is_below_it():
    price = jnp.array([2_000.0, 1.0])
    exposure = through(tower(), price)
    # The vault: 60 receipts of a staked token of 1.2 ether, and 100 dollars.
    assert_close(exposure[3], [60.0 * 1.2 * 2_000.0, 100.0], rtol=1e-12, atol=1e-9)
    # The pool owes 80 staked tokens and has 78, and a loan that is paid in dollars.
    assert_close(exposure[1], [-2.0 * 2_400.0, 9_000.0], rtol=1e-12, atol=1e-9)
    # With its borrower in default, the pool holds five ether in the place of dollars.
    low = through(tower(), price.at[0].set(1_000.0))
    assert_close(low[1], [-2.0 * 1_200.0 + 5.0 * 1_000.0, 0.0], rtol=1e-12, atol=1e-9)


def test_the_smallest_graphs():
    lone = graph(
        [("share", "vault", "share", 4.0)], [("share", "dollar", 1.0)], [("vault", "dollar", 6.0)]
    )
    assert_close(value(lone, ONE).rate, [1.5], rtol=0.0, atol=0.0)
    empty = graph(
        [("receipt", "pool", "promise", 4.0)],
        [("receipt", "dollar", 1.0)],
        [("fan", "receipt", 1.0)],
    )
    found = value(empty, ONE)
    assert (found.rate.tolist(), found.equity.tolist()) == ([0.0], [-4.0, 0.0])
    assert np.isfinite(np.asarray(through(empty, ONE))).all()


def test_shares_in_each_other_are_worth_what_outsiders_have():
    # Each holds 3/4 of the other's shares and a dollar: x = 1 + 3/4 x, so 4 dollars a vault.
    ring = graph(
        [(f"share {i}", f"vault {i}", "share", 10.0) for i in range(2)],
        [(f"share {i}", "dollar", 1.0) for i in range(2)],
        [(f"vault {i}", f"share {1 - i}", 7.5) for i in range(2)]
        + [(f"vault {i}", "dollar", 1.0) for i in range(2)],
    )
    found = value(ring, ONE)
    assert_close(found.equity, [4.0, 4.0], rtol=1e-13, atol=0.0)
    cut = value_claims(ring, ONE, limit=1)
    assert bool(found.converged)
    # The first guess is the solution, where nothing is owed.
    assert bool(cut.converged)


def test_a_bound_that_was_too_small_is_said():
    chain = banks([0.0, 1.0, 2.0], [9.0, 9.0, 9.0], [(0, 1, 9.0), (1, 2, 9.0), (2, 0, 9.0)])
    assert not bool(value_claims(chain, ONE, limit=2).converged)
    assert bool(value_claims(chain, ONE).converged)


CLAIM = ("note", "bank", "promise", 5.0)
BAD = {
    "unknown instrument": (
        [CLAIM],
        [("note", "dollar", 1.0)],
        [("bank", "euro", 1.0)],
        "'euro' is neither an asset nor a claim",
    ),
    "negative amount": (
        [CLAIM],
        [("note", "dollar", 1.0)],
        [("bank", "dollar", -1.0)],
        r"holdings row 0: amount -1\.0",
    ),
    "nothing outstanding": (
        [("note", "bank", "promise", 0.0)],
        [("note", "dollar", 1.0)],
        [("bank", "dollar", 1.0)],
        "nothing of 'note' is outstanding",
    ),
    "kind": (
        [("note", "bank", "bond", 5.0)],
        [("note", "dollar", 1.0)],
        [],
        "kind 'bond' must be 'promise' or 'share'",
    ),
    "no underlying": ([CLAIM], [], [], "claim 'note' has no underlying"),
    "no such claim": (
        [CLAIM],
        [("note", "dollar", 1.0), ("bill", "dollar", 1.0)],
        [],
        "'bill' is no claim",
    ),
    "two shares": (
        [("a", "bank", "share", 1.0), ("b", "bank", "share", 1.0)],
        [("a", "dollar", 1.0), ("b", "dollar", 1.0)],
        [],
        "'bank' issues 2 kinds of shares",
    ),
    "name taken": (
        [("dollar", "bank", "share", 1.0)],
        [("dollar", "dollar", 1.0)],
        [],
        "'dollar' names more than one",
    ),
    "more held than there are": (
        [CLAIM],
        [("note", "dollar", 1.0)],
        [("ann", "note", 3.0), ("ben", "note", 3.0)],
        "6 are held and only 5 are outstanding",
    ),
    "wholly owned by each other": (
        [("a", "vault A", "share", 2.0), ("b", "vault B", "share", 3.0)],
        [("a", "dollar", 1.0), ("b", "dollar", 1.0)],
        [("vault A", "b", 3.0), ("vault B", "a", 2.0), ("vault A", "dollar", 1.0)],
        "a -> b -> a: these shares are wholly owned",
    ),
    "its own owner": (
        [("a", "vault A", "share", 2.0)],
        [("a", "dollar", 1.0)],
        [("vault A", "a", 2.0)],
        "a -> a: these shares are wholly owned",
    ),
    "owed in each other": (
        [("a", "A", "promise", 1.0), ("b", "B", "share", 1.0)],
        [("a", "b", 1.0), ("b", "dollar", 1.0)],
        [("B", "a", 0.5), ("A", "dollar", 1.0)],
        "a -> b -> a: units of 'b' are owed by an issuer on whose claims it depends",
    ),
}


@pytest.mark.parametrize(
    ("claims", "underlying", "holdings", "message"), BAD.values(), ids=list(BAD)
)
def test_a_table_that_makes_no_sense_is_refused(claims, underlying, holdings, message):
    with pytest.raises(ValueError, match=message):
        graph(claims, underlying, holdings)


def test_every_problem_is_listed_and_a_bad_recovery_is_one():
    with pytest.raises(ValueError, match="euro") as refusal:
        graph(
            [CLAIM],
            [("note", "dollar", np.nan)],
            [("bank", "euro", 1.0)],
            recovery={"bank": (1.5, 0.5), "bnak": (1.0, 1.0)},
        )
    assert len(str(refusal.value).splitlines()) == 4


def test_precision_is_that_of_the_graph():
    g = graph([CLAIM], [("note", "dollar", 1.0)], [("bank", "dollar", 2.0)], dtype=np.float32)
    found = value(g, jnp.ones(1, jnp.float32))
    assert found.price.dtype == np.float32
    assert bool(found.converged)
    assert_close(found.rate, [0.4], rtol=1e-6, atol=0.0)
