"""Graphs of claims that tests share, and an independent account of what their claims are worth."""

import itertools

import numpy as np

from jaxrisk.system.claims import ClaimGraph


def columns(names, rows):
    """Return a table from rows."""
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def graph(claims, underlying, holdings, assets=("dollar",), **options):
    """Return the graph of rows (claim, issuer, kind, amount), (claim, of, amount), (layer, ...)."""
    return ClaimGraph.from_table(
        columns(("claim", "issuer", "kind", "amount"), claims),
        columns(("claim", "instrument", "amount"), underlying),
        columns(("layer", "instrument", "amount"), holdings),
        assets=assets,
        **options,
    )


def banks(own, owed_outside, between, recovery=None):
    """Return banks that owe each other and outsiders dollars, a bank one promise.

    Args:
        own: dollars each bank holds.
        owed_outside: what it owes to outsiders.
        between: rows (debtor, creditor, amount).
        recovery: parts of assets and claims that creditors get, the same for all.
    """
    names = [f"bank {i}" for i in range(len(own))]
    owed = np.array(owed_outside, float)
    for debtor, _, amount in between:
        owed[debtor] += amount
    return graph(
        [(f"debt {i}", n, "promise", owed[i]) for i, n in enumerate(names)],
        [(f"debt {i}", "dollar", 1.0) for i in range(len(names))],
        [(n, "dollar", x) for n, x in zip(names, own, strict=True)]
        + [(names[c], f"debt {d}", x) for d, c, x in between],
        recovery=None if recovery is None else dict.fromkeys(names, recovery),
    )


def random_network(seed, count=4, recovery=None):
    """Return layers that hold two assets and parts of each other's claims, some in default.

    Each issues two promises, in assets, and a share.
    """
    rng = np.random.default_rng(seed)
    names = [f"layer {i}" for i in range(count)]
    claims, underlying, holdings = [], [], []
    for i, name in enumerate(names):
        for number, kind in enumerate(("promise", "promise", "share")):
            claim, amount = f"claim {i}.{number}", rng.uniform(3.0, 15.0)
            claims.append((claim, name, kind, amount))
            underlying.append((claim, ("ether", "dollar")[rng.integers(2)], rng.uniform(0.5, 2.0)))
            parts = rng.dirichlet(np.ones(count + 1))[:count] * rng.integers(0, 2, count)
            holdings += [
                (names[j], claim, amount * p) for j, p in enumerate(parts) if j != i and p > 0
            ]
        holdings.append((name, "ether", rng.uniform(0.0, 18.0)))
        holdings.append((name, "dollar", rng.uniform(0.0, 18.0)))
    ways = None if recovery is None else dict.fromkeys(names, recovery)
    return graph(claims, underlying, holdings, ("ether", "dollar"), recovery=ways)


def greatest_clearing(g, price):
    """Return the greatest claim prices that clear, by trying every set of layers in default.

    Given who is in default, prices solve one linear system; they clear if just those are in default
    whose assets do not cover what they owe. Promises must be in assets. From the formulas alone.
    """
    num = lambda x: np.asarray(x, np.float64)
    held, claims, issuer = num(g.held_assets) @ price, num(g.held_claims), num(g.issuer)
    full, issued, share = num(g.underlying_assets) @ price, num(g.issued), np.asarray(g.share)
    owed = issuer @ np.where(share, 0.0, issued * full)
    of = issuer.argmax(axis=0)
    found = []
    for failed in itertools.product([False, True], repeat=len(owed)):
        matrix, right = np.zeros((len(issued), len(issued))), np.zeros(len(issued))
        for c, i in enumerate(of):
            if share[c] and not failed[i]:
                matrix[c], right[c] = claims[i] / issued[c], (held[i] - owed[i]) / issued[c]
            elif not share[c] and failed[i]:
                part = full[c] / owed[i]
                matrix[c] = part * num(g.claim_recovery)[i] * claims[i]
                right[c] = part * num(g.asset_recovery)[i] * held[i]
            elif not share[c]:
                right[c] = full[c]
        q = np.linalg.solve(np.eye(len(issued)) - matrix, right)
        if ((held + claims @ q < owed) == np.array(failed)).all():
            found.append(q)
    top = np.max(found, axis=0)
    assert any((q >= top - 1e-9).all() for q in found), "no solution is the greatest"
    return top
