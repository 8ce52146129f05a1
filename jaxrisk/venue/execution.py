"""Who takes the other side when an account is closed."""

from typing import Any, Protocol

from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.account import Accounts


class Execution(Protocol):
    """What every kind of execution answers; how it is played stands on the system floor."""

    def opening(self, accounts: Accounts) -> Any:
        """Return what changes in a scenario besides the accounts, before the first step.

        Args:
            accounts: the venue's book.
        """
        ...


@pytree
class KeeperCalls:
    """Outsiders repay debt and take collateral, call by call, as far as selling it pays."""

    def opening(self, accounts: Accounts) -> None:
        """Return `None`: nothing is kept between calls."""
        del accounts
