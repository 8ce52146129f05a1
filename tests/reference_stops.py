"""Independent reference of holders who sell by themselves: scalar loops over accounts.

    stop         what an account holds is worth no more than a part of its opening value: all goes.
    margin call  it is worth less than a multiple of what it owes: so much goes that it is worth the
                 target multiple again.

All sell at one mean price an asset. What an account brings repays its debt, at the round's mid; the
rest is its holder's. What is owed beyond that by an account sold out is lost.
"""

import dataclasses

import numpy as np

from tests.reference_market import World, move, sell


@dataclasses.dataclass
class Holders:
    """Units held `(asset, account)` and owed, opening values, levels, and flows so far."""

    held: np.ndarray
    owed: np.ndarray
    opening: np.ndarray
    loss: float
    margin: float
    target: float
    flows: dict[str, float] = dataclasses.field(default_factory=dict)

    def book(self, name: str, amount: float) -> None:
        self.flows[name] = self.flows.get(name, 0.0) + amount


def part(holders: Holders, n: int, mids: np.ndarray) -> float:
    """Return the part of its assets that an account sells."""
    worth, debt = float(holders.held[:, n] @ mids), float(holders.owed[:, n] @ mids)
    if worth <= 0:
        return 0.0
    if worth < (1.0 - holders.loss) * float(holders.held[:, n] @ holders.opening):
        return 1.0
    if worth < holders.margin * debt:
        return min((holders.target * debt - worth) / (holders.target - 1.0) / worth, 1.0)
    return 0.0


def step(world: World, holders: Holders, log_return: np.ndarray, years: float, rounds: int) -> None:
    """Play one step of the holders alone, in place."""
    move(world, log_return, years)
    for _ in range(rounds):
        mids = np.array([world.mid(a) for a in range(len(world.price))])
        parts = np.array([part(holders, n, mids) for n in range(holders.held.shape[1])])
        received = sell(world, holders.held @ parts, list(mids))
        for n, share in enumerate(parts):
            units = share * holders.held[:, n]
            debt, brought = float(holders.owed[:, n] @ mids), float(units @ received)
            repaid = min(brought, debt)
            lost = debt - repaid if share >= 1.0 else 0.0
            holders.held[:, n] -= units
            holders.owed[:, n] *= 1.0 - (repaid + lost) / debt if debt > 0 else 1.0
            for name, amount in (
                ("liquidated", float(units @ mids)),
                ("proceeds", brought),
                ("keeper_paid", brought),
                ("repaid", repaid),
                ("refund", brought - repaid),
                ("bad_debt", lost),
            ):
                holders.book(name, amount)
