"""Reading graphs of claims from tables, with every problem of the tables reported at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrisk.system.claim_order import circular_promises, closed_ownership, valuation_stages

KINDS = ("promise", "share")

Table = Mapping[str, Any]


def read_claims(
    claims: Table,
    underlying: Table,
    holdings: Table,
    *,
    assets: Sequence[str],
    recovery: Mapping[str, tuple[float, float]],
    dtype: np.dtype | type | None,
) -> dict[str, Any]:
    """Return the fields of the graph that three long tables describe.

    Arguments and errors as in `ClaimGraph.from_table`.
    """
    names = [str(c) for c in claims["claim"]]
    issuers, holders = [str(i) for i in claims["issuer"]], [str(h) for h in holdings["layer"]]
    layers = list(dict.fromkeys([*issuers, *holders]))
    problems = _name_problems(claims, underlying, holdings, assets, names)
    problems += _amount_problems(claims, underlying, holdings)
    problems += _recovery_problems(recovery, layers)
    if problems:
        raise ValueError("\n".join(problems))
    issued = np.asarray(claims["amount"], np.float64)
    share = np.array([str(k) == "share" for k in claims["kind"]], bool)
    issuer = np.zeros((len(layers), len(names)))
    issuer[[layers.index(i) for i in issuers], np.arange(len(names))] = 1.0
    held = _matrix(holdings, "layer", layers, [*assets, *names])
    quoted = _matrix(underlying, "claim", names, [*assets, *names])
    held_assets, held_claims = np.split(held, [len(assets)], axis=1)
    quoted_assets, quoted_claims = np.split(quoted, [len(assets)], axis=1)
    stage = _stages(names, issuer, issued, share, held_claims, quoted_claims)
    ways = [recovery.get(layer, (1.0, 1.0)) for layer in layers]
    number = lambda x: jnp.asarray(x, dtype or float)
    return {
        "held_assets": number(held_assets),
        "held_claims": number(held_claims),
        "issuer": number(issuer),
        "issued": number(issued),
        "underlying_assets": number(quoted_assets),
        "underlying_claims": number(quoted_claims),
        "share": jnp.asarray(share),
        "asset_recovery": number([a for a, _ in ways]),
        "claim_recovery": number([c for _, c in ways]),
        "stage": stage,
        "assets": tuple(assets),
        "claims": tuple(names),
        "layers": tuple(layers),
    }


def _stages(
    names: list[str],
    issuer: np.ndarray,
    issued: np.ndarray,
    share: np.ndarray,
    held: np.ndarray,
    quoted: np.ndarray,
) -> tuple[int, ...]:
    """Return the order of valuation of claims that have one."""
    problems = _excess_problems(held, issued, names)
    by_issuer = issuer.T @ held
    holds = by_issuer > 0
    # All claims of an issuer depend on what any promise of it is in. Shares promise nothing.
    owes_in = (issuer.T @ issuer @ np.where(share[:, None], 0.0, quoted)) > 0
    both = share[:, None] & share[None, :]
    problems += _cycle_problems(names, holds, owes_in, np.where(both, by_issuer / issued, 0.0))
    if problems:
        raise ValueError("\n".join(problems))
    return tuple(valuation_stages(holds, owes_in).tolist())


def _matrix(
    table: Table, row_column: str, rows: Sequence[str], columns: Sequence[str]
) -> np.ndarray:
    """Return the amounts of a long table as a matrix."""
    matrix = np.zeros((len(rows), len(columns)))
    at_row = [rows.index(str(r)) for r in table[row_column]]
    at_column = [columns.index(str(c)) for c in table["instrument"]]
    np.add.at(matrix, (at_row, at_column), np.asarray(table["amount"], np.float64))
    return matrix


def _name_problems(
    claims: Table, underlying: Table, holdings: Table, assets: Sequence[str], names: Sequence[str]
) -> list[str]:
    known = {*assets, *names}
    twice = sorted({n for n in [*names, *assets] if [*names, *assets].count(n) > 1})
    problems = [f"{n!r} names more than one claim or asset" for n in twice]
    problems += [
        f"claims row {i}: kind {str(k)!r} must be 'promise' or 'share'"
        for i, k in enumerate(claims["kind"])
        if str(k) not in KINDS
    ]
    for what, table in (("underlying", underlying), ("holdings", holdings)):
        problems += [
            f"{what} row {i}: {str(n)!r} is neither an asset nor a claim"
            for i, n in enumerate(table["instrument"])
            if str(n) not in known
        ]
    problems += [
        f"underlying row {i}: {str(n)!r} is no claim; the claims are {', '.join(names)}"
        for i, n in enumerate(underlying["claim"])
        if str(n) not in names
    ]
    described = {str(n) for n in underlying["claim"]}
    problems += [f"claim {n!r} has no underlying" for n in names if n not in described]
    shares = [str(i) for i, k in zip(claims["issuer"], claims["kind"], strict=True) if k == "share"]
    problems += [
        f"layer {layer!r} issues {shares.count(layer)} kinds of shares; it may issue one"
        for layer in sorted(set(shares))
        if shares.count(layer) > 1
    ]
    return problems


def _amount_problems(claims: Table, underlying: Table, holdings: Table) -> list[str]:
    problems = []
    for what, table in (("claims", claims), ("underlying", underlying), ("holdings", holdings)):
        amount = np.asarray(table["amount"], np.float64)
        problems += [
            f"{what} row {i}: amount {amount[i]} must be a finite number >= 0"
            for i in np.flatnonzero(~(np.isfinite(amount) & (amount >= 0)))
        ]
    problems += [
        f"claims row {i}: nothing of {str(claims['claim'][i])!r} is outstanding"
        for i in np.flatnonzero(np.asarray(claims["amount"], np.float64) == 0)
    ]
    return problems


def _recovery_problems(
    recovery: Mapping[str, tuple[float, float]], layers: Sequence[str]
) -> list[str]:
    problems = [f"recovery: {n!r} is no layer" for n in recovery if n not in layers]
    problems += [
        f"recovery of {n!r}: {part} must be a fraction in [0, 1]"
        for n, parts in recovery.items()
        for part in parts
        if not 0 <= part <= 1
    ]
    return problems


def _excess_problems(held: np.ndarray, issued: np.ndarray, names: list[str]) -> list[str]:
    total = held.sum(axis=0)
    return [
        f"{names[c]!r}: {total[c]:g} are held and only {issued[c]:g} are outstanding"
        for c in np.flatnonzero(total > issued * (1.0 + 1e-12)).tolist()
    ]


def _cycle_problems(
    names: list[str], holds: np.ndarray, owes_in: np.ndarray, owned: np.ndarray
) -> list[str]:
    way = lambda cycle: " -> ".join([names[c] for c in cycle])
    problems = [
        f"{way(cycle)}: units of {names[cycle[1]]!r} are owed by an issuer on whose claims it "
        "depends, so there may be no solution; owe them in assets"
        for cycle in circular_promises(holds, owes_in)
    ]
    problems += [
        f"{way(cycle)}: these shares are wholly owned by each other's issuers and have no single "
        "worth; let somebody else hold part of one"
        for cycle in closed_ownership(owned)
    ]
    return problems
