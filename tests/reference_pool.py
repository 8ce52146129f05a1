"""Independent float64 reference of pools and redemptions: scalar loops, one account at a time.

Written from the protocols' descriptions, for one branch:

    liquidation  the least covered account first, never the best covered one. Deposits pay, then the
                 others get debt and collateral in proportion to their collateral. In recovery mode
                 an account above the minimum is closed only if the deposits pay all of it, and only
                 while the system, after those before it, is still below the critical ratio.
    redemption   the stablecoin is bought until its price is what a redemption brings after a fee
                 that rises with the amount; accounts are redeemed in order.

An account that does not fit what the pool has left waits, and so do those behind it, for the next
round.
"""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass
class Result:
    """What liquidations leave and moved."""

    collateral: np.ndarray
    debt: np.ndarray
    repaid: float = 0.0
    seized: float = 0.0
    fee: float = 0.0
    refund: float = 0.0
    closed: int = 0


def _hand_on(result: Result, gone: set[int], debt: float, collateral: float) -> None:
    """Give debt and collateral to the accounts that are left, in proportion to collateral."""
    weight = result.collateral.copy()
    weight[list(gone)] = 0.0
    total = weight.sum()
    if total > 0:
        result.debt = result.debt + debt * weight / total
        result.collateral = result.collateral + collateral * weight / total


def recovery_liquidations(
    collateral: np.ndarray,
    debt: np.ndarray,
    price: float,
    pool: float,
    *,
    minimum: float = 1.1,
    critical: float = 1.5,
    fee: float = 0.005,
) -> Result:
    """Return all liquidations of a round under the rules with a recovery mode."""
    result = Result(collateral.copy(), debt.copy())
    open_accounts = [n for n in range(len(debt)) if debt[n] > 0]
    ratio = {n: collateral[n] * price / debt[n] for n in open_accounts}
    best = max(ratio.values(), default=math.inf)
    whole = collateral[debt > 0].sum() * price / debt.sum() if debt.sum() > 0 else math.inf
    owed, held, left = debt.sum(), collateral.sum(), pool
    gone: set[int] = set()
    debt_on = collateral_on = 0.0
    for n in sorted(open_accounts, key=lambda n: (ratio[n], n)):
        if ratio[n] >= best:
            continue
        if ratio[n] < minimum:
            pays = 0.0 if whole < critical and ratio[n] <= 1 else min(debt[n], left)
            wanted = 0.0 if whole < critical and ratio[n] <= 1 else debt[n]
            taken = collateral[n]
        elif whole < critical and ratio[n] < whole and debt[n] <= pool:
            wanted, pays = debt[n], debt[n]
            now = held * price / owed if owed > 0 else math.inf
            if debt[n] > left or now >= critical or ratio[n] >= now:
                left = max(left - wanted, 0.0)
                continue
            taken = minimum * debt[n] / price
        else:
            continue
        left = max(left - wanted, 0.0)
        caller = fee * taken
        share = pays / debt[n]
        result.repaid += pays
        result.seized += (taken - caller) * share
        result.fee += caller
        result.refund += collateral[n] - taken
        debt_on += debt[n] - pays
        collateral_on += (taken - caller) * (1 - share)
        owed -= pays
        held -= caller + (taken - caller) * share + collateral[n] - taken
        gone.add(n)
    return _close(result, gone, debt_on, collateral_on)


def penalty_liquidations(
    collateral: np.ndarray,
    debt: np.ndarray,
    price: float,
    pool: float,
    *,
    minimum: float,
    pool_penalty: float,
    peer_penalty: float,
    fee: float = 0.005,
    cap: float = 2.0,
) -> Result:
    """Return all liquidations of a round under the rules with penalties."""
    result = Result(collateral.copy(), debt.copy())
    infinite = lambda n: collateral[n] * price / debt[n] if debt[n] > 0 else math.inf
    ratio = {n: infinite(n) for n in range(len(debt)) if collateral[n] > 0}
    best = max(ratio.values(), default=math.inf)
    gone: set[int] = set()
    debt_on = collateral_on = 0.0
    left = pool
    for n in sorted(ratio, key=lambda n: (ratio[n], n)):
        if ratio[n] >= minimum or ratio[n] >= best:
            continue
        pays = min(debt[n], left)
        left -= pays
        part = collateral[n] * pays / debt[n]
        caller = min(fee * part, cap)
        seized = min(part - caller, pays * (1 + pool_penalty) / price)
        rest = collateral[n] - caller - seized
        handed = debt[n] - pays
        given = min(rest, handed * (1 + peer_penalty) / price) if handed > 0 else 0.0
        result.repaid += pays
        result.seized += seized
        result.fee += caller
        result.refund += rest - given
        debt_on += handed
        collateral_on += given
        gone.add(n)
    return _close(result, gone, debt_on, collateral_on)


def _close(result: Result, gone: set[int], debt_on: float, collateral_on: float) -> Result:
    result.closed = len(gone)
    _hand_on(result, gone, debt_on, collateral_on)
    for n in gone:
        result.collateral[n] = result.debt[n] = 0.0
    return result


def redemption_amount(
    price: float,
    depth: float,
    coefficient: float,
    *,
    worth: float,
    floor: float,
    slope: float,
    most: float,
) -> float:
    """Return the amount at which the price after buying it is what redeeming it brings.

    Args:
        price: of the stablecoin.
        depth: of its market, numeraire.
        coefficient: of the square-root law.
        worth: of the collateral that a unit redeems, without a fee.
        floor: fee rate before the redemption.
        slope: rise of the fee rate per unit redeemed.
        most: largest amount.
    """
    after = lambda a: price * math.exp(coefficient * math.sqrt(a * price / depth))
    gain = lambda a: worth * (1.0 - min(floor + slope * a, 1.0)) - after(a)
    if gain(0.0) <= 1e-5 * price:
        return 0.0
    if gain(most) >= 0:
        return most
    low, high = 0.0, most
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if gain(middle) > 0 else (low, middle)
    return low


def redeem(
    collateral: np.ndarray,
    debt: np.ndarray,
    order: list[float],
    amount: float,
    *,
    price: float,
    lowest: float,
    paid_out: float,
    fee_leaves: float,
    closes: bool,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return collateral and debt after a redemption, and the collateral redeemers got.

    Args:
        collateral: of each account.
        debt: likewise.
        order: lowest first.
        amount: redeemed.
        price: of a unit of collateral in the stablecoin.
        lowest: ratio below which an account is passed over.
        paid_out: collateral value redeemers get for a unit.
        fee_leaves: collateral value of a unit that goes to the protocol.
        closes: whether an account without debt is closed.
    """
    collateral, debt, got = collateral.copy(), debt.copy(), 0.0
    for n in sorted(range(len(debt)), key=lambda n: (order[n], n)):
        if debt[n] <= 0 or collateral[n] * price / debt[n] < lowest:
            continue
        lot = min(amount, debt[n])
        amount -= lot
        debt[n] -= lot
        collateral[n] -= lot * (paid_out + fee_leaves) / price
        got += lot * paid_out / price
        if closes and lot > 0 and debt[n] == 0:
            collateral[n] = 0.0
    return collateral, debt, got
