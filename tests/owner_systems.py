"""Owners for the small systems of `tests.systems`, and for their scalar reference."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrisk.system.owner_policy import Band, Deleverage, TopUp, Unwind, Withdraw
from jaxrisk.system.owners import Owners, VenueOwners
from jaxrisk.system.system import System
from tests import reference_owners as reference
from tests.reference_market import World

# Owners 0 and 1 have accounts on both venues, owner 2 two on the pool.
OWNER = ((0, 1, 2, 3, 2, 4), (0, 1, 5, 6))
COUNT = 7
CLASSES = {
    "top_up": TopUp, "band": Band, "deleverage": Deleverage, "withdraw": Withdraw, "unwind": Unwind
}  # fmt: skip
LOAN_TO_VALUE = ([[0.805, 0.785], [0.93, 0.93]], [[0.86]])

TOP_UP = ("top_up", {"below": 1.1, "target": 1.3})
SMALL_TOP_UP = ("top_up", {"below": 1.02, "target": 1.05})
DELEVERAGE = ("deleverage", {"below": 1.08, "target": 1.2, "largest_discount": 0.01})
BAND = ("band", {"lowest": 1.25, "highest": 1.45, "target": 1.35})
WITHDRAW = ("withdraw", {"keep": 1.3})
UNWIND = ("unwind", {"largest": 0.5})

# By venue and category: the policies, and what an account gives.
KINDS: dict[str, Any] = {
    "top_up": ([[[TOP_UP], [SMALL_TOP_UP]], [[TOP_UP]]], [[None, None], [None]]),
    "deleverage": ([[[DELEVERAGE], [DELEVERAGE]], [[DELEVERAGE]]], [[None, None], [None]]),
    "band": ([[[BAND], []], [[BAND]]], [[None, None], [None]]),
    "layers": ([[[TOP_UP], [TOP_UP]], [[]]], [[WITHDRAW, None], [WITHDRAW]]),
    "unwound": ([[[], []], [[TOP_UP]]], [[UNWIND, None], [None]]),
    "in_turn": ([[[TOP_UP, DELEVERAGE], [BAND]], [[DELEVERAGE, TOP_UP]]], [[None, None], [UNWIND]]),
}


def with_owners(system: System, kind: str, wallet: np.ndarray) -> System:
    """Return the system with owners of a kind who have the given cash."""
    policies, givers = KINDS[kind]
    made = lambda rule: CLASSES[rule[0]](**{k: jnp.asarray(x) for k, x in rule[1].items()})
    venues = tuple(
        dataclasses.replace(v, accounts=dataclasses.replace(v.accounts, owner=jnp.asarray(own)))
        for v, own in zip(system.venues, OWNER, strict=True)
    )
    owners = Owners(
        wallet=jnp.asarray(wallet),
        venues=tuple(
            VenueOwners(
                policies=tuple(tuple(made(rule) for rule in own) for own in venue),
                givers=tuple(None if rule is None else made(rule) for rule in gives),
            )
            for venue, gives in zip(policies, givers, strict=True)
        ),
    )
    return dataclasses.replace(system, venues=venues, owners=owners)


def reference_owners(world: World, kind: str, wallet: np.ndarray) -> reference.Owners:
    """Return the same owners for the scalar reference."""
    policies, givers = KINDS[kind]
    return reference.Owners(
        wallet=np.array(wallet),
        owner=[list(own) for own in OWNER],
        policies=policies,
        givers=givers,
        ratio=[
            np.array(ratio)[venue.category].T
            for ratio, venue in zip(LOAN_TO_VALUE, world.venues, strict=True)
        ],
        flows=[{} for _ in world.venues],
    )
