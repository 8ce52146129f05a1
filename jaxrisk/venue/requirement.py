"""How much backing is asked: what every margin rule returns.

A requirement has two rows, initial (needed to open or enlarge) and maintenance (needed to be left
alone). Its surplus is what an account has beyond it, and liquidation begins where the maintenance
row is negative.
"""

from jaxtyping import Array, Float, Int

from jaxrisk.numerics.pytree import pytree

INITIAL, MAINTENANCE = 0, 1


@pytree
class MarginState:
    """What a margin rule says of accounts, in the numeraire.

    Attributes:
        surplus: `(2, account)` value as backing less requirement, initial and maintenance.
        value: `(account,)` mark-to-market value of everything held, cash included.
        binding: `(row, account)` what decided the requirement: the worst scenario, the block that
            asked least, as the rule says.
    """

    surplus: Float[Array, "2 account"]
    value: Float[Array, " account"]
    binding: Int[Array, "row account"]
