"""The [owners], [policies.*] and [halts] sections: what holders do, and when all stops."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from jaxrisk.run.fields import (
    Count,
    FractionInside,
    FractionOrZero,
    NonNegative,
    Positive,
    Problem,
    Section,
    raise_problems,
)

Kind = Literal["top_up", "deleverage", "band", "withdraw", "unwind"]

KEYS_OF: Mapping[str, tuple[str, ...]] = {
    "top_up": ("below", "target"),
    "deleverage": ("below", "target", "largest_discount"),
    "band": ("lowest", "highest", "target"),
    "withdraw": ("keep",),
    "unwind": ("largest",),
}
"""The numbers each kind of policy needs, and the only ones it takes."""

GIVERS = ("withdraw", "unwind")
"""Kinds in which an account gives where another one of its owner needs cash."""


class OwnersSection(Section):
    """[owners]: cash of those who hold the accounts, for policies that need some."""

    wallet_usd: NonNegative = 0.0
    """Cash of each owner, USD."""
    wallet_of_debt: NonNegative = 0.0
    """Further cash, as a fraction of what the owner's accounts owe at the opening."""
    wallets: dict[str, NonNegative] = Field(default_factory=dict)
    """Cash of single owners instead of that, USD, by the name in the position table."""


class PolicySection(Section):
    """[policies.NAME]: what owners do with accounts on a venue; played in the order of the file."""

    venue: str
    """Where the accounts are."""
    category: str | None = None
    """Their e-mode category, "" for none; default all."""
    kind: Kind
    """What is done: see docs/run.md."""
    below: Positive | None = None
    """Health factor below which owners top up or deleverage."""
    target: Positive | None = None
    """Health factor afterwards; of a band, collateral over debt."""
    largest_discount: FractionInside | None = None
    """Slippage at which owners who deleverage stop selling, fraction."""
    lowest: Positive | None = None
    """Collateral over debt below which a band sells."""
    highest: Positive | None = None
    """Collateral over debt above which a band borrows and buys."""
    keep: Positive | None = None
    """Health factor that an account keeps which gives free collateral."""
    largest: FractionOrZero | None = None
    """Part of an account that may be wound down in a step for another one."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        keys = KEYS_OF[self.kind]
        problems: list[Problem] = [
            ((key,), f'missing; needed by kind = "{self.kind}"')
            for key in keys
            if getattr(self, key) is None
        ]
        every = {key for keys in KEYS_OF.values() for key in keys}
        problems += [
            ((key,), f'not a key of kind = "{self.kind}", which takes {", ".join(keys)}; drop it')
            for key in sorted(every - set(keys))
            if getattr(self, key) is not None
        ]
        raise_problems(problems)
        raise_problems(self._misplaced())
        return self

    def _misplaced(self) -> list[Problem]:
        """Return what is wrong between numbers that are there."""
        target, lowest, highest = self.target, self.lowest, self.highest
        if lowest is not None and highest is not None and target is not None:
            if lowest > highest:
                text = f"expected at most highest ({highest:g}); are the two swapped?"
                return [(("lowest",), text)]
            if not lowest <= target <= highest:
                return [(("target",), f"expected a number in [{lowest:g}, {highest:g}], the band")]
            if target <= 1:
                return [(("target",), "expected collateral over debt above 1: 1.5 for 150 %")]
        elif self.below is not None and target is not None and target < self.below:
            text = f"expected at least below ({self.below:g}); are the two swapped?"
            return [(("target",), text)]
        return []


class VenueHaltSection(Section):
    """[halts.venues.NAME]: when a venue stops."""

    move: FractionInside
    """Fall of a price within a step, or rise as large in logs, beyond which it stops, fraction."""
    steps: Count
    """Steps that are lost."""


class HaltsSection(Section):
    """[halts]: circuit breakers of markets, and of venues."""

    market_move: FractionInside | None = None
    """Fall of a price within a step, or rise as large in logs, that closes its market, fraction."""
    market_steps: Count | None = None
    """Steps for which the market is closed."""
    venues: dict[str, VenueHaltSection] = Field(default_factory=dict)
    """Breakers of venues, on all prices they deal with."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.market_move is None) != (self.market_steps is None):
            missing = "market_steps" if self.market_steps is None else "market_move"
            raise_problems([((missing,), "missing; market_move and market_steps go together")])
        return self
