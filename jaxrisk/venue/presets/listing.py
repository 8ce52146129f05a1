"""What a preset of contracts starts from: the contracts that accounts hold, and common options."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from jaxrisk.market.contract import Contracts, is_perpetual, table
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.close_out import CloseOut
from jaxrisk.venue.deleverage_ranking import LeveredGain
from jaxrisk.venue.haircut import Slice, TieredHaircut
from jaxrisk.venue.margin_accounts import Behind, MarginAccounts
from jaxrisk.venue.margin_tiers import Bracket
from jaxrisk.venue.posted_collateral import PostedCollateral
from jaxrisk.venue.presets.instruments import Instrument, instrument
from jaxrisk.venue.presets.margin_venue import Custody, margin_venue
from jaxrisk.venue.venue import Venue

BEHIND = {behind.value: behind for behind in Behind}


class Traded(TypedDict):
    """Arguments of every venue of contracts about what is traded there.

    Attributes:
        instruments: names of the contracts, in the order of the positions.
        prices: opening price of each asset, numeraire.
        settlement: the asset that contracts are quoted and settled in.
    """

    instruments: Sequence[str]
    prices: Mapping[str, float]
    settlement: str


class MarginOptions(Traded, Custody, total=False):
    """Arguments that every preset of contracts takes and hands on to `listed`.

    Attributes:
        name: of the venue.
        overrides: parameters by underlying, as the preset says, and by asset that is posted as
            collateral `POSTED_OPTIONS`: `collateral_weight`, for holdings worth more than
            `collateral_2_from` in the settlement currency `collateral_2_weight`, likewise
            `collateral_3_`.
        symbols: by underlying the name of its contract in tables of margin tiers.
        brackets: by underlying the margin tiers of its contract.
        collateral_allowance: what an account may owe before collateral is sold, in the
            settlement currency; 0 where not given.
        collateral_buffer: sold beyond what is owed, as a fraction of it; 0.02 where not given.
    """

    name: str
    overrides: Mapping[str, Mapping[str, float]] | None
    symbols: Mapping[str, str]
    brackets: Mapping[str, Sequence[Bracket]]
    collateral_allowance: float
    collateral_buffer: float


POSTED = ("collateral_allowance", "collateral_buffer")
_SLICE = ("from", "weight")
POSTED_OPTIONS = (
    "collateral_weight",
    *(f"collateral_{k}_{what}" for k in (2, 3) for what in _SLICE),
)


class ClosingOptions(MarginOptions, total=False):
    """Arguments of every venue of contracts without an exchange's own rules, see `Closing`."""

    trigger: float
    target: float
    largest: float
    fee: float
    behind: str


@dataclasses.dataclass(frozen=True)
class Closing:
    """Options of generic venues: who is called, how much is closed, who pays in the end.

    Attributes:
        trigger: multiple of the maintenance margin below which an account is called.
        target: multiple of it that closing is to restore.
        largest: largest share of a position closed in a round.
        fee: of the notional closed, to the insurance fund.
        behind: winners, positions or nobody: who bears what the fund does not.
    """

    trigger: float = 1.0
    target: float = 1.1
    largest: float = 1.0
    fee: float = 0.005
    behind: str = "winners"

    @staticmethod
    def checked(name: str, options: Mapping[str, Any]) -> "Closing":
        """Return the options, those not given at their defaults.

        Raises:
            ValueError: one is out of range.
        """
        made = Closing(**{key: value for key, value in options.items() if key in CLOSING})
        problems = []
        if not made.trigger > 0:
            problems.append(f"trigger {made.trigger:g}: expected a positive number")
        if not made.target >= made.trigger:
            problems.append(f"target {made.target:g}: expected at least trigger")
        if not 0 < made.largest <= 1:
            problems.append(f"largest {made.largest:g}: expected a fraction in (0, 1]")
        if not 0 <= made.fee < 1:
            problems.append(f"fee {made.fee:g}: expected a fraction in [0, 1)")
        if made.behind not in BEHIND:
            problems.append(f"behind {made.behind!r}: expected one of {', '.join(BEHIND)}")
        if problems:
            raise ValueError("; ".join(f"{name}: {p}" for p in problems))
        return made


CLOSING = tuple(field.name for field in dataclasses.fields(Closing))


def check_bounds(name: str, **options: tuple[float, float, float]) -> None:
    """Check options given as (value, least, largest), both ends allowed.

    Raises:
        ValueError: one lies outside of its bounds.
    """
    problems = [
        f"{name}: {option} {value:g}: expected "
        + (f"a number in [{least:g}, {most:g}]" if most < math.inf else f"at least {least:g}")
        for option, (value, least, most) in options.items()
        if not least <= value <= most
    ]
    if problems:
        raise ValueError("; ".join(problems))


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a preset of contracts starts from, checked.

    Attributes:
        name: of the venue.
        accounts: the book; its dtype is that of everything.
        instruments: names of the contracts, in the order of the positions.
        rows: the contracts.
        underlying: place of each one's underlying among the assets.
        forward: opening price of each underlying, as its contract quotes it.
        settlement: name of the settlement currency.
        money: its opening price, numeraire.
        overrides: parameters by asset.
        symbols: names of contracts in tables of margin tiers, by underlying.
        brackets: margin tiers by underlying.
        posted: collateral beyond the settlement currency; `None` where there is none.
        custody: arguments of `margin_venue`.
    """

    name: str
    accounts: Accounts
    instruments: tuple[str, ...]
    rows: tuple[Instrument, ...]
    underlying: tuple[int, ...]
    forward: np.ndarray
    settlement: str
    money: float
    overrides: Mapping[str, Mapping[str, float]]
    symbols: Mapping[str, str]
    brackets: Mapping[str, Sequence[Bracket]]
    posted: PostedCollateral | None
    custody: Custody

    @property
    def dtype(self) -> Any:
        """Floating-point type of the book."""
        return self.accounts.collateral.dtype

    @property
    def contracts(self) -> Contracts:
        """Terms of all contracts."""
        joined = table([row.terms for row in self.rows])
        return jax.tree.map(lambda x: x.astype(self.dtype), joined)

    def array(self, values: ArrayLike) -> Array:
        """Return numbers in the type of the book."""
        return jnp.asarray(np.asarray(values, np.float64), self.dtype)

    def each(self, value: float) -> Array:
        """Return the same number for every contract."""
        return self.array([value] * len(self.rows))

    def check_perpetuals(self) -> None:
        """Check that all contracts are perpetuals.

        Raises:
            ValueError: one is an option, or ends.
        """
        rows = list(zip(self.instruments, self.rows, strict=True))
        options = [name for name, row in rows if row.is_option]
        futures = [
            name for name, row in rows if not (row.is_option or bool(is_perpetual(row.terms)[0]))
        ]
        for held, kind in ((options, "an option"), (futures, "a future")):
            if held:
                raise ValueError(
                    f"{self.name}: {', '.join(held)}: {kind}; this venue has perpetuals only"
                )

    def with_contracts(self, terms: Sequence[Contracts]) -> "Listing":
        """Return the listing with contracts of other terms.

        Those that are settled in their underlying are quoted in the numeraire.

        Args:
            terms: of each contract, a table of one row.

        Raises:
            ValueError: a contract settled in its underlying is on another asset than the
                settlement currency.
        """
        coins = [bool(row.inverse[0] > 0 or row.coin_quoted[0] > 0) for row in terms]
        for row, coin in zip(self.rows, coins, strict=True):
            if coin and row.underlying != self.settlement:
                raise ValueError(
                    f"{self.name}: {row.underlying}: its contract is settled in {row.underlying}; "
                    f"expected contracts on {self.settlement} alone"
                )
        rows = zip(self.rows, terms, strict=True)
        return dataclasses.replace(
            self,
            rows=tuple(dataclasses.replace(row, terms=own) for row, own in rows),
            forward=np.where(coins, self.forward * self.money, self.forward),
        )

    def parameters(self, known: Sequence[str], *, needed: bool = True) -> list[Any]:
        """Return the parameters of each contract's underlying.

        Args:
            known: names of parameters.
            needed: whether the first must be given.

        Raises:
            ValueError: one is not known, or the first is missing.
        """
        found = [self.overrides.get(row.underlying, {}) for row in self.rows]
        for row, given in zip(self.rows, found, strict=True):
            if unknown := sorted(set(given) - {*known, *POSTED_OPTIONS}):
                raise ValueError(
                    f"{self.name}: {row.underlying}: no such parameter {', '.join(unknown)}; "
                    f"there are {', '.join(known)}"
                )
            if needed and known[0] not in given:
                raise ValueError(f"{self.name}: {row.underlying}: {known[0]} is missing")
        return found

    def venue(self, *, volatility: ArrayLike = 1.0, **slots: Any) -> Venue:
        """Return the venue.

        Args:
            volatility: implied at the opening, of options.
            **slots: of `MarginAccounts`: at least `requirement`, `close` and `ranking`.
        """
        slot = MarginAccounts(
            contracts=self.contracts,
            opening_forward=self.array(self.forward),
            opening_volatility=self.array(np.broadcast_to(volatility, self.forward.shape)),
            underlying=self.underlying,
            posted=self.posted,
            **slots,
        )
        return margin_venue(self.accounts, slot, name=self.name, **self.custody)

    def closed_by(self, options: ClosingOptions, **slots: Any) -> Venue:
        """Return the generic venue whose options say how accounts are closed.

        Args:
            options: of the preset.
            **slots: as in `venue`, without `close`, `ranking` and `behind`.
        """
        closing = Closing.checked(self.name, options)
        return self.venue(
            close=CloseOut(
                trigger=self.array(closing.trigger),
                target=self.array(closing.target),
                largest=self.array(closing.largest),
                fee=self.array(closing.fee),
                forfeit=self.array(0.0),
            ),
            ranking=LeveredGain(),
            behind=BEHIND[closing.behind],
            **slots,
        )


def listed(
    name: str,
    accounts: Accounts,
    assets: Sequence[str],
    options: MarginOptions,
    kind: type = MarginOptions,
) -> Listing:
    """Return the contracts that a preset's accounts hold.

    Args:
        name: of the venue where `options` say none.
        accounts: the book.
        assets: the system's assets, in order.
        options: of the preset.
        kind: which options it takes.

    Raises:
        ValueError: an unknown option, contract or asset.
    """
    name = options.get("name", name)
    if unknown := sorted(set(options) - set(get_type_hints(kind))):
        raise ValueError(f"{name}: no such option {', '.join(unknown)}")
    rows = tuple(instrument(each) for each in options["instruments"])
    settlement, prices = options["settlement"], options["prices"]
    absent = sorted({settlement, *(row.underlying for row in rows)} - set(prices))
    if absent:
        raise ValueError(f"{name}: {', '.join(absent)}: no such asset")
    overrides = options.get("overrides") or {}
    given: Any = {key: value for key, value in options.items() if key in _CUSTODY}
    return Listing(
        name=name,
        accounts=accounts,
        instruments=tuple(options["instruments"]),
        rows=rows,
        underlying=tuple(list(assets).index(row.underlying) for row in rows),
        forward=np.array([prices[row.underlying] / prices[settlement] for row in rows]),
        settlement=settlement,
        money=prices[settlement],
        overrides=overrides,
        symbols=options.get("symbols", {}),
        brackets=options.get("brackets", {}),
        posted=_posted(name, accounts, assets, overrides, options),
        custody=given,
    )


def _posted(
    name: str,
    accounts: Accounts,
    assets: Sequence[str],
    overrides: Mapping[str, Mapping[str, float]],
    options: MarginOptions,
) -> PostedCollateral | None:
    """Return what collateral beyond the settlement currency counts for, checked."""
    allowance, buffer = options.get(POSTED[0], 0.0), options.get(POSTED[1], 0.02)
    check_bounds(name, **{POSTED[0]: (allowance, 0.0, math.inf), POSTED[1]: (buffer, 0.0, 1.0)})
    held = [assets[i] for i in accounts.collateral_assets[1:]]
    if not held:
        return None
    try:
        slices = {asset: _slices(asset, overrides.get(asset, {})) for asset in held}
        haircut = TieredHaircut.from_slices(slices, accounts.collateral.dtype)
    except ValueError as error:
        lines = str(error).split("\n")
        raise ValueError("\n".join(f"{name}: {line}" for line in lines)) from error
    number = lambda x: jnp.asarray(x, accounts.collateral.dtype)
    return PostedCollateral(haircut=haircut, allowance=number(allowance), buffer=number(buffer))


def _slices(asset: str, given: Mapping[str, float]) -> list[Slice]:
    """Return the slices of an asset.

    Raises:
        ValueError: its weight is missing, or one of the two numbers of a further slice.
    """
    key = f"assets.{asset}.options."
    if "collateral_weight" not in given:
        raise ValueError(
            f"{key}collateral_weight: missing; accounts post {asset}, of which a unit backs "
            "positions for this share of its worth"
        )
    rows = [Slice(0.0, given["collateral_weight"])]
    for k in (2, 3):
        there = [f"collateral_{k}_{what}" for what in _SLICE if f"collateral_{k}_{what}" in given]
        if len(there) == 1:
            (absent,) = {f"collateral_{k}_{what}" for what in _SLICE} - set(there)
            raise ValueError(f"{key}{absent}: missing; {there[0]} goes with it")
        if there:
            rows.append(Slice(given[f"collateral_{k}_from"], given[f"collateral_{k}_weight"]))
    return rows


_CUSTODY = tuple(get_type_hints(Custody))
