"""What a liquidation that names its own terms leaves behind, account by account."""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.pytree import pytree


class Refusal(IntEnum):
    """Why a call on an account, or a sale of what was taken, is refused; data, not an exception."""

    NONE = 0
    HEALTHY = 1
    DUST = 2
    EXCEEDS_POSITION = 3
    EXCEEDS_ALLOWANCE = 4
    NOTHING_ASKED = 5
    NOTHING_REPAID = 6
    NOT_FOR_SALE = 7
    EXCEEDS_INVENTORY = 8
    COOLING_OFF = 9
    WHOLE_REQUIRED = 10
    NO_COLLATERAL = 11
    NOT_COLLATERAL = 12
    NOTHING_OWED = 13
    ABOVE_BAND = 14


@pytree
class Settlement:
    """The outcome of liquidations, in the numeraire; every leaf is `(account,)`.

    Amounts are zero where the liquidation is refused. The borrower's side balances: collateral
    falls by `seized`, debt by `repaid + bad_debt`, and `refund` is credited.

    Attributes:
        repaid: debt value that somebody pays for.
        seized: collateral value taken, the protocol's fee included.
        fee: part of `seized` kept by the protocol.
        refund: value credited back to the borrower.
        bad_debt: debt value written off.
        refusal: `Refusal` numbers, `Refusal.NONE` where the liquidation goes through.
    """

    repaid: Float[Array, " account"]
    seized: Float[Array, " account"]
    fee: Float[Array, " account"]
    refund: Float[Array, " account"]
    bad_debt: Float[Array, " account"]
    refusal: Int[Array, " account"]


def settled(
    refusal: Int[Array, " account"],
    *,
    repaid: Float[Array, " account"],
    seized: Float[Array, " account"],
    fee: Float[Array, " account"] | None = None,
    refund: Float[Array, " account"] | None = None,
    bad_debt: Float[Array, " account"] | None = None,
) -> Settlement:
    """Return the settlement: amounts where nothing is refused, zeros elsewhere."""
    done = refusal == Refusal.NONE
    kept = lambda x: (
        jnp.zeros_like(repaid) if x is None else jnp.where(done, x, jnp.zeros_like(repaid))
    )
    return Settlement(
        repaid=kept(repaid),
        seized=kept(seized),
        fee=kept(fee),
        refund=kept(refund),
        bad_debt=kept(bad_debt),
        refusal=refusal,
    )


def first_reason(
    *tests: tuple[Bool[Array, " account"], Refusal],
) -> Int[Array, " account"]:
    """Return the reason of the first test that holds, in the order a contract makes them."""
    refusal = jnp.full(tests[0][0].shape, Refusal.NONE.value, jnp.int32)
    for failed, reason in reversed(tests):
        refusal = jnp.where(failed, jnp.asarray(reason.value, jnp.int32), refusal)
    return refusal
