"""In which order claims are valued, and which cycles of claims have no single worth.

On the host, from where the zeros of a graph are: nothing here depends on amounts within a scenario.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

# Shares are wholly in each other's hands where nobody else holds more than this part.
_ROUNDING = 1e-12


def valuation_stages(
    holds: Bool[np.ndarray, "claim claim"], owes_in: Bool[np.ndarray, "claim claim"]
) -> Int[np.ndarray, " claim"]:
    """Return the stage at which each claim is valued, from 0.

    Within a stage claims only rise with each other; a claim owed in units of another, which may
    also fall when that one rises, is valued after it.

    Args:
        holds: whether the issuer of the row's claim holds the column's.
        owes_in: whether the issuer of the row's claim owes units of the column's. No such pair may
            lie on a cycle (`circular_promises`), or there is no order.
    """
    stage = np.zeros(len(holds), np.int64)
    for _ in range(len(holds)):
        after_held = np.where(holds, stage[None, :], 0).max(axis=1, initial=0)
        after_owed = np.where(owes_in, stage[None, :] + 1, 0).max(axis=1, initial=0)
        stage = np.maximum(stage, np.maximum(after_held, after_owed))
    return stage


def circular_promises(
    holds: Bool[np.ndarray, "claim claim"], owes_in: Bool[np.ndarray, "claim claim"]
) -> list[list[int]]:
    """Return cycles of claims in which an issuer owes units of a claim that depends on its own.

    What is owed then rises with what the issuer is worth, and clearing may have no solution: it is
    how credit default swaps undo it (Schuldenzucker, Seuken and Battiston 2020). Each cycle begins
    and ends with the same claim; one is returned for each pair (debt, claim owed).
    """
    either = holds | owes_in
    reach = _reach(either)
    pairs = np.argwhere(owes_in & reach.T)
    return [[int(c), *_path(either, int(d), int(c))] for c, d in pairs]


def closed_ownership(owned: Float[np.ndarray, "claim claim"]) -> list[list[int]]:
    """Return cycles of shares that are wholly owned by each other's issuers.

    What such shares are worth solves x = M x + e with columns of M that add up to 1: nothing does,
    or with e = 0 any number does. Owned in part by anybody else, they have exactly one worth
    (Suzuki 2002).

    Args:
        owned: part of the column's shares that the issuer of the row's holds; 0 where either is
            no share.
    """
    reach = _reach(owned > 0)
    together = reach & reach.T
    found, seen = [], np.zeros(len(owned), bool)
    for claim in np.flatnonzero(np.diag(together)):
        members = together[claim]
        inside = owned[np.ix_(members, members)].sum(axis=0)
        if not seen[claim] and (inside >= 1.0 - _ROUNDING).all():
            start = int(claim)
            onward = next(int(d) for d in np.flatnonzero((owned[start] > 0) & members))
            found.append([start, *_path(owned > 0, onward, start)])
        seen |= members
    return found


def _reach(edges: Bool[np.ndarray, "claim claim"]) -> Bool[np.ndarray, "claim claim"]:
    """Return from where to where a path of at least one edge leads."""
    reach, known = edges, -1
    while reach.sum() > known:
        known = int(reach.sum())
        numbers = reach.astype(np.float32)
        reach = reach | (numbers @ numbers > 0)
    return reach


def _path(edges: Bool[np.ndarray, "claim claim"], start: int, end: int) -> list[int]:
    """Return a shortest path, both ends included; there must be one."""
    paths = {start: [start]}
    for node in (queue := [start]):
        for after in np.flatnonzero(edges[node]):
            if int(after) not in paths:
                paths[int(after)] = [*paths[node], int(after)]
                queue.append(int(after))
    return paths[end]
