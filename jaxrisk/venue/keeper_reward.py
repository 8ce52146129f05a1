"""What a venue pays whoever liquidates an account, between a floor and a cap."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.pytree import pytree

Accounts = Float[Array, "*account"]


@pytree
class KeeperReward:
    """A reward of costs and a share of what is liquidated, floored by costs and capped.

    `min(max(reward + cost, cost + minimum, cost (1 + profit)), cap)`, and the cap is
    `min(maximum, margin_share x margin)`, or `maximum` alone for an account without margin. The cap
    wins: a keeper may be paid less than it costs.

    Source: Synthetix v3, GlobalPerpsMarketConfiguration `keeperReward`; PerpsAccount
    `getPossibleLiquidationReward`.

    Attributes:
        minimum: least profit, numeraire (minKeeperReward).
        profit: least profit as a fraction of cost (minKeeperProfitRatio).
        maximum: largest reward, numeraire (maxKeeperReward).
        margin_share: largest reward as a fraction of the account's margin (maxKeeperScalingRatio).
    """

    minimum: Accounts
    profit: Accounts
    maximum: Accounts
    margin_share: Accounts

    def reward(self, earned: Accounts, cost: Accounts, margin: Accounts) -> Accounts:
        """Return the reward of one execution, numeraire.

        Args:
            earned: share of what is liquidated that is due to the keeper.
            cost: of the execution.
            margin: of the account, zero once it has been seized.
        """
        scaled = self.margin_share * margin
        cap = jnp.where(margin == 0, self.maximum, smaller(scaled, self.maximum))
        floor = cost + jnp.maximum(self.minimum, cost * self.profit)
        return smaller(jnp.maximum(floor, earned + cost), cap)

    def reserved(
        self,
        earned: Accounts,
        *,
        flag_cost: Accounts,
        close_cost: Accounts,
        margin: Accounts,
        windows: Accounts,
    ) -> Accounts:
        """Return what an account must set aside for its own liquidation, numeraire.

        The first execution flags the account and closes what the first window allows; each further
        window is one more execution, of an account whose margin is gone.

        Args:
            earned: share of what is liquidated that is due to the keeper.
            flag_cost: of flagging the account.
            close_cost: of closing positions in one window.
            margin: of the account.
            windows: how many windows its largest position takes, a whole number.
        """
        first = self.reward(earned, flag_cost + close_cost, margin)
        further = self.reward(jnp.zeros_like(earned), close_cost, jnp.zeros_like(margin))
        more = windows - 1.0
        return first + further * jnp.where(more > 0, more, jnp.zeros_like(more))
