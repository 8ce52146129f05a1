"""Independent reference of single calls: one account, plain Python, one small class a protocol.

Written from the protocols' own statements (`docs/venues`), in values at the prices the venue sees:
C collateral, D debt, W weighted collateral, h = W / D, 1 + b collateral handed over per unit of
debt repaid. A protocol says what one maximal call closes, at what bonus, what it keeps of it, and
whether it recognises debt that is left without collateral. A rational keeper never pays more for
collateral than it is worth at the bonus.
"""

import math
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Account:
    """An account as a whole: C, D and W."""

    collateral: float
    debt: float
    weighted: float

    @property
    def health(self) -> float:
        """Return W / D, infinite without debt."""
        return self.weighted / self.debt if self.debt > 0 else math.inf


@dataclass(frozen=True)
class Called:
    """What a keeper calls of an account: one pair, or everything in proportion.

    Attributes:
        account: the whole account.
        collateral: value of the called collateral.
        debt: value of the called debt.
        weight: threshold of the called collateral, the mean by value of several.
        credit: 1 + b of the called collateral, the mean by what they pay for of several.
    """

    account: Account
    collateral: float
    debt: float
    weight: float
    credit: float

    def paid_for(self, repaid: float) -> "Close":
        """Return s = x (1 + b), or all of the collateral for what it pays for."""
        if repaid * self.credit >= self.collateral:
            return Close(self.collateral / self.credit, self.collateral)
        return Close(repaid, repaid * self.credit)


@dataclass(frozen=True)
class Close:
    """What one call moves; `charge` goes to the protocol and `refund` to the borrower."""

    repaid: float
    seized: float
    charge: float = 0.0
    refund: float = 0.0

    @property
    def paid(self) -> float:
        """Return what the keeper pays."""
        return self.repaid + self.charge + self.refund


NOTHING = Close(0.0, 0.0)


class Protocol:
    """What protocols have in common: a stated bonus of which they keep a share.

    Attributes:
        whole: whether accounts are sold whole, whatever pair a keeper would choose.
    """

    whole: ClassVar[bool] = False

    def look(self, accounts: list[Account]) -> None:
        """Take note of the whole book before calls are made on it."""

    def bonus(self, stated: float, account: Account) -> float:
        """Return b of a collateral at the account's present state."""
        return stated

    def largest_bonus(self, stated: float) -> float:
        """Return the most b can be."""
        return stated

    def close(self, called: Called) -> Close:
        """Return the largest call on an account with W < D."""
        raise NotImplementedError

    def kept(self, seized: float, bonus_share: float, share: float) -> float:
        """Return the protocol's part of what is seized: its share of the bonus in it.

        Args:
            seized: amount, in any unit.
            bonus_share: part of what is seized that is bonus.
            share: the protocol's.
        """
        return seized * bonus_share * share

    def recognises(self, account: Account) -> bool:
        """Return whether debt left by a call that takes the last collateral is written off."""
        return True


class MorphoBlue(Protocol):
    """Everything in one call."""

    def close(self, called: Called) -> Close:
        return called.paid_for(called.debt)


@dataclass
class MorphoPreLiquidation(Protocol):
    """A part that grows with D / C, at a bonus that grows with it; everything above `upper`."""

    lower: float
    upper: float
    factors: tuple[float, float]
    credits: tuple[float, float]

    def _within(self, account: Account, ends: tuple[float, float]) -> float:
        ratio = account.debt / account.collateral if account.collateral > 0 else math.inf
        progress = min((ratio - self.lower) / (self.upper - self.lower), 1.0)
        return ends[0] + progress * (ends[1] - ends[0])

    def bonus(self, stated: float, account: Account) -> float:
        above = account.debt > self.upper * account.collateral
        return stated if above else self._within(account, self.credits) - 1.0

    def largest_bonus(self, stated: float) -> float:
        return max(stated, self.credits[1] - 1.0)

    def close(self, called: Called) -> Close:
        if called.debt > self.upper * called.collateral:
            return called.paid_for(called.debt)
        factor = min(self._within(called.account, self.factors), 1.0)
        return called.paid_for(factor * called.debt)


@dataclass
class AaveV3(Protocol):
    """Half of all debt, or all of the called debt where h <= 0.95 or either side is small.

    A call that empties neither side must leave 1,000 USD on both.
    """

    close_factor: float = 0.5
    full_below_health: float = 0.95
    small: float = 2e3
    leftover: float = 1e3

    def close(self, called: Called) -> Close:
        account, credit = called.account, called.credit
        repay = called.debt
        is_large = called.collateral >= self.small and called.debt >= self.small
        if is_large and account.health > self.full_below_health:
            repay = min(called.debt, self.close_factor * account.debt)
        if repay < called.debt and repay * credit < called.collateral:
            limit = min(called.debt - self.leftover, (called.collateral - self.leftover) / credit)
            repay = min(repay, max(limit, 0.0))
        close = called.paid_for(repay)
        if close.repaid < called.debt and close.seized < called.collateral:
            # A request lowered to the limit is at the limit but for rounding.
            least = self.leftover * (1.0 - 1e-12)
            left = min(called.debt - close.repaid, called.collateral - close.seized)
            return NOTHING if left < least else close
        return close


@dataclass
class AaveV3Legacy(Protocol):
    """Half of the called debt, or all of it where h <= 0.95; debt without collateral stays."""

    close_factor: float = 0.5
    full_below_health: float = 0.95

    def close(self, called: Called) -> Close:
        is_weak = called.account.health <= self.full_below_health
        return called.paid_for(called.debt * (1.0 if is_weak else self.close_factor))

    def recognises(self, account: Account) -> bool:
        return False


@dataclass
class AaveV4(Protocol):
    """What restores h = target, at a bonus linear in h; 1,000 USD left on a side empties it."""

    target: float
    health_for_maximum: float
    minimum_share: float
    leftover: float = 1e3

    def bonus(self, stated: float, account: Account) -> float:
        if account.health <= self.health_for_maximum:
            return stated
        least = self.minimum_share * stated
        depth = (1.0 - min(account.health, 1.0)) / (1.0 - self.health_for_maximum)
        return least + (stated - least) * depth

    def close(self, called: Called) -> Close:
        account, gain = called.account, self.target - called.credit * called.weight
        repay = called.debt
        if gain > 0:
            repay = min(repay, (self.target * account.debt - account.weighted) / gain)
        if called.debt - repay < self.leftover:
            repay = called.debt
        if repay < called.debt and called.collateral - repay * called.credit < self.leftover:
            return Close(called.collateral / called.credit, called.collateral)
        return called.paid_for(repay)


@dataclass
class CompoundV2(Protocol):
    """A share of the called debt; the protocol keeps a share of all that is seized."""

    close_factor: float = 0.5

    def close(self, called: Called) -> Close:
        return called.paid_for(self.close_factor * called.debt)

    def kept(self, seized: float, bonus_share: float, share: float) -> float:
        return seized * share

    def recognises(self, account: Account) -> bool:
        return False


@dataclass
class EulerV2(Protocol):
    """Everything, at a discount of 1 - h up to a maximum; small debts are not socialised."""

    maximum_discount: float
    minimum_socialised: float = 0.0

    def bonus(self, stated: float, account: Account) -> float:
        return 1.0 / max(account.health, 1.0 - self.maximum_discount) - 1.0

    def largest_bonus(self, stated: float) -> float:
        return 1.0 / (1.0 - self.maximum_discount) - 1.0

    def close(self, called: Called) -> Close:
        return called.paid_for(called.debt)

    def recognises(self, account: Account) -> bool:
        return account.debt >= self.minimum_socialised


@dataclass
class SiloV2(Protocol):
    """What restores D / C = target, or all of D where that is over 90 % of it or out of reach.

    Where all must be repaid, C < D (1 + b) is all there is for it: a smaller bonus, and no part of
    the debt may be repaid alone. There is no refund: what is not seized stays the borrower's.
    """

    target: float
    whole_above: float = 0.9

    def close(self, called: Called) -> Close:
        debt, collateral, credit = called.debt, called.collateral, called.credit
        if debt >= collateral:
            return called.paid_for(debt)
        room = 1.0 - self.target * credit
        partial = (debt - self.target * collateral) / room if room > 0 else math.inf
        if partial <= self.whole_above * debt:
            return Close(partial, partial * credit)
        return Close(debt, min(debt * credit, collateral))

    def recognises(self, account: Account) -> bool:
        return False


@dataclass
class GearboxV3(Protocol):
    """The account is sold for (1 - premium) C: its debt first, then a fee on C, then a refund."""

    premium: float
    fee: float
    whole: ClassVar[bool] = True

    def bonus(self, stated: float, account: Account) -> float:
        return 1.0 / (1.0 - self.premium) - 1.0

    def close(self, called: Called) -> Close:
        price = (1.0 - self.premium) * called.collateral
        repaid = min(price, called.debt)
        charge = min(price - repaid, self.fee * called.collateral)
        return Close(repaid, called.collateral, charge, price - repaid - charge)


@dataclass
class Fluid(Protocol):
    """A level of debt per collateral falls to a threshold and draws all above it down to it.

    Accounts above the max limit are taken over whole and sold together, debt for collateral, if
    together they are worth more than they owe; until then they stay.
    """

    level: float
    max_limit: float
    penalty: float
    sells_absorbed: bool = False

    def look(self, accounts: list[Account]) -> None:
        taken = [a for a in accounts if self._is_absorbed(a)]
        self.sells_absorbed = sum(a.collateral for a in taken) > sum(a.debt for a in taken)

    def _is_absorbed(self, account: Account) -> bool:
        return account.debt > self.max_limit * account.collateral

    def largest_bonus(self, stated: float) -> float:
        return max(self.penalty, 1.0 / self.max_limit - 1.0)

    def close(self, called: Called) -> Close:
        if self._is_absorbed(called.account):
            sold = self.sells_absorbed
            return Close(called.debt, called.collateral) if sold else NOTHING
        credit = 1.0 + self.penalty
        drawn = (called.debt - self.level * called.collateral) / (1.0 - credit * self.level)
        return Close(drawn, drawn * credit)

    def recognises(self, account: Account) -> bool:
        return False
