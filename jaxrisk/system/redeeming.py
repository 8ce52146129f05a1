"""Redemptions as a rule that acts: how much is redeemed, of whom, and what it brings.

Whoever can buy the stablecoin for less than the collateral a redemption pays out does so, until the
price is back or the fee eats the gain. Redeemers buy in the market, redeem, and sell what they get.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxrisk.market.liquidity import Liquidity
from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.prefix import amount_ahead
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.branch import Branch
from jaxrisk.venue.deposit_pool import RedemptionRules
from jaxrisk.venue.stability_pool import collateral_ratio

# A gain below this share of the price is not worth a redemption.
_SMALLEST_GAIN = 1e-5
_ITERATIONS = 8

Accounts = Float[Array, " account"]


@pytree
class Queue:
    """The accounts of a branch as redeemers meet them; leaves are `(account,)`.

    Attributes:
        payable: debt each account can be redeemed for.
        ahead: sum of `payable` over the accounts before it.
    """

    payable: Accounts
    ahead: Accounts

    def served(self, amount: Float[Array, ""]) -> Accounts:
        """Return what each account is redeemed for, first come, first served."""
        left = amount - self.ahead
        left = jnp.where(left > 0, left, jnp.zeros_like(left))
        return smaller(left, self.payable)


@pytree
class Redeemed:
    """What a redemption moves in one branch; leaves are `(account,)`.

    Attributes:
        repaid: debt taken off, burnt by the redeemer.
        seized: collateral the redeemer gets, in units.
        fee: collateral the protocol gets, in units.
        refund: collateral the owner of a closed account may claim, in units.
        emptied: whether the account is closed.
    """

    repaid: Accounts
    seized: Accounts
    fee: Accounts
    refund: Accounts
    emptied: Bool[Array, " account"]


@pytree
class Bid:
    """What redeemers would pay for a stablecoin: `worth - slope * amount` in all.

    Attributes:
        worth: of the collateral a first unit brings, numeraire, after the fee.
        slope: fall of that per unit redeemed, from the fee that rises.
        most: largest amount.
    """

    worth: Float[Array, ""]
    slope: Float[Array, ""]
    most: Float[Array, ""]


def queue_of(
    rules: RedemptionRules, branch: Branch, price: Float[Array, ""], shut: Bool[Array, ""]
) -> Queue:
    """Return whom redeemers meet, in order.

    Riskiest first after a shutdown, where the collateral pays the bonus too and bounds what can be
    redeemed; else in the order of the rules, passing over accounts below the lowest ratio.

    Args:
        rules: of the venue.
        branch: its accounts.
        price: of a unit of collateral in the stablecoin, as the venue sees it.
        shut: whether the branch is shut down.
    """
    collateral, debt = branch.collateral, branch.debt
    ratio = collateral_ratio(collateral, debt, jnp.broadcast_to(price, debt.shape))
    eligible = (debt > 0) & (ratio >= rules.lowest_ratio)
    payable = jnp.where(eligible, debt, jnp.zeros_like(debt))
    order = branch.rate if rules.by_rate else ratio
    if rules.shutdown_ratio is not None:
        urgent = smaller(collateral * price / (1.0 + rules.bonus), debt)
        payable = jnp.where(shut, urgent, payable)
        order = jnp.where(shut, ratio, order)
    return Queue(payable=payable, ahead=amount_ahead(payable, order))


def redeemed(
    rules: RedemptionRules,
    branch: Branch,
    queue: Queue,
    amount: Float[Array, ""],
    *,
    price: Float[Array, ""],
    fee_rate: Float[Array, ""],
    shut: Bool[Array, ""],
) -> Redeemed:
    """Return what redeeming `amount` of a branch moves.

    The rule of `jaxrisk.venue.redemption`, without its dormant accounts: an account that is left
    with little debt keeps its place at the head of the queue.

    Args:
        rules: of the venue.
        branch: its accounts.
        queue: from `queue_of`, of the same accounts.
        amount: of the stablecoin.
        price: of a unit of collateral in the stablecoin, as the venue sees it.
        fee_rate: fee as a fraction of the collateral redeemed.
        shut: whether the branch is shut down; then a bonus is paid instead.
    """
    repaid = queue.served(amount)
    bought = repaid / positive_or_one(price)
    fee = jnp.where(shut, jnp.zeros_like(bought), bought * fee_rate)
    seized = bought - fee
    if rules.shutdown_ratio is not None:
        seized = jnp.where(shut, bought * (1.0 + rules.bonus), seized)
    # To rounding: what a shut branch pays out is at most what an account has.
    seized = smaller(seized, branch.collateral)
    kept = jnp.zeros_like(fee) if rules.fee_stays else fee
    emptied, refund = jnp.zeros(repaid.shape, bool), jnp.zeros_like(repaid)
    if rules.closes:
        emptied = (repaid > 0) & (repaid >= branch.debt)
        refund = jnp.where(emptied, branch.collateral - seized - kept, refund)
    return Redeemed(repaid=repaid, seized=seized, fee=kept, refund=refund, emptied=emptied)


def amount_wanted(
    bid: Bid,
    liquidity: Liquidity,
    market: Market,
    asset: int,
    minimum_return: Float[Array, ""],
    prior: Float[Array, ""],
) -> Float[Array, ""]:
    """Return how much is redeemed until buying one more stablecoin brings nothing.

    The amount `a` at which `worth - slope a` is the market price after buying `prior + a`, times
    one plus the return that is asked for; the price rises by the impact law. Newton's method from
    above, on the log rise: the difference is concave in it, so no step overshoots.

    Args:
        bid: what a redemption brings.
        liquidity: of the market.
        market: before anything is bought in the round.
        asset: index of the stablecoin.
        minimum_return: per unit paid.
        prior: bought in the round by others.
    """
    law, depth, price = liquidity.law, liquidity.depth.now(market), market.mid[asset]
    everywhere = lambda x: jnp.broadcast_to(x, depth.shape)
    rise = lambda units: law.log_drop(everywhere(units * price), depth)[asset]
    units = lambda y: law.volume_for(everywhere(y), depth)[asset] / price
    paid = price * (1.0 + minimum_return)
    gain = lambda y: bid.worth - bid.slope * (units(y) - prior) - paid * jnp.exp(y)

    def closer(_: int, y: Float[Array, ""]) -> Float[Array, ""]:
        value, slope = jax.jvp(gain, (y,), (jnp.ones_like(y),))
        step = value / jnp.where(slope < 0, slope, -jnp.ones_like(slope))
        y = jnp.where(step > 0, y - step, y)
        return jnp.where(y > 0, y, jnp.zeros_like(y))

    highest = rise(prior + bid.most)
    y = lax.fori_loop(0, _ITERATIONS, closer, highest)
    enough = gain(highest) >= 0
    amount = jnp.where(enough, bid.most, units(y) - prior)
    amount = smaller(amount, bid.most)
    pays = (gain(rise(prior)) > _SMALLEST_GAIN * paid) & (amount > 0)
    return jnp.where(pays, amount, jnp.zeros_like(amount))
