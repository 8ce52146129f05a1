"""Margin tiers of an exchange's contracts: as a configuration says, from a table, or as shipped."""

import math
from collections.abc import Callable, Mapping, Sequence

from jaxrisk.venue.margin_tiers import Bracket, MarginTiers, SlabTiers
from jaxrisk.venue.presets.listing import POSTED, POSTED_OPTIONS, Listing
from jaxrisk.venue.presets.margin_venue import no_terms
from jaxrisk.venue.presets.preset import Preset
from jaxrisk.venue.venue import Venue

_TIER = ("from", "maintenance_margin")
TIER_OPTIONS = (
    "maintenance_margin",
    *(f"tier_{k}_{what}" for k in (2, 3) for what in _TIER),
)
HOURS_A_YEAR = 8760.0


def exchange_preset(
    build: Callable[..., Venue],
    *,
    required: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
    asset_options: tuple[str, ...] = (),
) -> Preset:
    """Return the preset of an exchange with what all of them take.

    Args:
        build: the preset's function.
        required: further options it cannot do without.
        optional: further options.
        asset_options: further parameters by asset.
    """
    return Preset(
        build=build,
        required=("settlement", *required),
        terms=no_terms,
        optional=("haircut", *optional, *POSTED),
        asset_options=(*TIER_OPTIONS, *asset_options, *POSTED_OPTIONS),
        contracts=True,
        tiers=True,
    )


def marginal_tiers(
    listing: Listing,
    shipped: Mapping[str, Sequence[Bracket]] | None = None,
    *,
    initial_multiple: float = 2.0,
) -> MarginTiers:
    """Return marginal tiers of all contracts, see `brackets_of`."""
    tables = brackets_of(listing, shipped or {}, initial_multiple)
    try:
        return MarginTiers.from_brackets(tables, listing.dtype)
    except ValueError as error:
        raise _named(listing, error) from error


def slab_tiers(
    listing: Listing, shipped: Mapping[str, Sequence[Bracket]], *, by_count: bool
) -> SlabTiers:
    """Return slab tiers of all contracts, see `brackets_of`; bounds by count or by notional."""
    tables = {
        name: [row._replace(deduction=None) for row in rows]
        for name, rows in brackets_of(listing, shipped, 2.0).items()
    }
    try:
        return SlabTiers.from_brackets(tables, listing.dtype, by_count=by_count)
    except ValueError as error:
        raise _named(listing, error) from error


def _named(listing: Listing, error: ValueError) -> ValueError:
    return ValueError("\n".join(f"{listing.name}: {line}" for line in str(error).split("\n")))


def brackets_of(
    listing: Listing,
    shipped: Mapping[str, Sequence[Bracket]],
    initial_multiple: float,
    further: Sequence[str] = (),
) -> dict[str, list[Bracket]]:
    """Return the brackets of each contract.

    Its own parameters come first, then the table that was read, then what is shipped.

    Args:
        listing: contracts.
        shipped: by name of the contract.
        initial_multiple: initial over maintenance margin where parameters say the latter alone.
        further: parameters by asset that say something else.

    Raises:
        ValueError: there are none of a contract, or parameters that do not fit together.
    """
    tables: dict[str, list[Bracket]] = {}
    parameters = listing.parameters((*TIER_OPTIONS, *further), needed=False)
    for contract, row, given in zip(listing.instruments, listing.rows, parameters, strict=True):
        symbol = listing.symbols.get(row.underlying, row.underlying)
        if any(key in given for key in TIER_OPTIONS):
            tables[contract] = _stated(listing.name, row.underlying, given, initial_multiple)
        elif row.underlying in listing.brackets:
            tables[contract] = list(listing.brackets[row.underlying])
        elif symbol in shipped:
            tables[contract] = list(shipped[symbol])
        else:
            place = f"{listing.name}: assets.{row.underlying}."
            known = f", set {place[len(listing.name) + 2 :]}symbol to one of " if shipped else ""
            raise ValueError(
                f"{place}options.maintenance_margin: missing; give it{known}{', '.join(shipped)} "
                "or name a table in margin_tiers"
            )
    return tables


def _stated(
    name: str, asset: str, given: Mapping[str, float], initial_multiple: float
) -> list[Bracket]:
    """Return brackets from parameters."""
    key = f"{name}: assets.{asset}.options."
    if "maintenance_margin" not in given:
        raise ValueError(f"{key}maintenance_margin: missing for the first tier")
    lower, rates = [0.0], [given["maintenance_margin"]]
    for k in (2, 3):
        absent = [f"tier_{k}_{what}" for what in _TIER if f"tier_{k}_{what}" not in given]
        if len(absent) == 1:
            raise ValueError(f"{key}{absent[0]}: missing for tier {k}")
        if not absent:
            lower.append(given[f"tier_{k}_from"])
            rates.append(given[f"tier_{k}_maintenance_margin"])
    return [
        Bracket(low, high, rate, max(1.0, 1.0 / (initial_multiple * rate)) if rate > 0 else 1.0)
        for low, high, rate in zip(lower, [*lower[1:], math.inf], rates, strict=True)
    ]
