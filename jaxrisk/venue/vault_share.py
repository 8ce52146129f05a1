"""A vault over markets: what its share is worth, and when holders see a loss."""

from enum import Enum, IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.numerics.rounding import ceil_to, floor_to


class VaultLoss(Enum):
    """When a loss in a market reaches the share price.

    RECOGNISED: at once, for every holder (MetaMorpho v1.0).
    HELD: never; it is carried as lost assets, and the last holders to leave are short
        (MetaMorpho v1.1).
    """

    RECOGNISED = "holders (written down)"
    HELD = "holders (last to leave)"


class VaultRefusal(IntEnum):
    """Why a deposit or withdrawal does not go through."""

    NONE = 0
    ILLIQUID = 1
    EXCEEDS_SHARES = 2


@pytree
class VaultBook:
    """What a vault has written down at its last interaction; every leaf is `(vault,)`.

    Attributes:
        shares: shares in issue.
        last_assets: assets stated then, lost ones included.
        lost_assets: losses carried: stated but no longer there; 0 where losses are recognised.
    """

    shares: Float[Array, " vault"]
    last_assets: Float[Array, " vault"]
    lost_assets: Float[Array, " vault"]


@pytree
class VaultMove:
    """The outcome of deposits and withdrawals; every leaf is `(vault,)`.

    Attributes:
        assets: asset units moved into the vault; negative when they leave it.
        shares: shares issued for them; negative when they are redeemed.
        fee_shares: shares issued to the manager for interest since the last interaction.
        book: the vault's book after the move; where refused, as it was.
        refusal: why the move is refused, a `VaultRefusal`.
    """

    assets: Float[Array, " vault"]
    shares: Float[Array, " vault"]
    fee_shares: Float[Array, " vault"]
    book: VaultBook
    refusal: Int[Array, " vault"]


@pytree
class VaultShare:
    """The rule of a vault's share.

    Let `A` be what the vault's claims on markets are worth and `(last, lost)` its book. The stated
    assets are `A` where losses are recognised. Where they are held, they are `A + lost'`, with
    `lost' = last - A` if `A < last - lost` and `lost' = lost` else: interest earned since the last
    interaction is netted against a loss first, and only the rest is carried.

    Interest is `max(stated - last, 0)`; the manager's fee on it is paid in new shares at the price
    that leaves holders the rest. A share is worth
    `(stated + virtual_assets) / (shares + virtual_shares)`.

    Source: MetaMorpho and MetaMorphoV1_1 `_accruedFeeAndAssets`, `_accrueInterest`,
    `_convertToShares`, `_convertToAssets`, `maxWithdraw`.

    Attributes:
        fee: manager's share of interest, in [0, 1).
        virtual_assets: added to assets in every conversion; 0 for none.
        virtual_shares: added to shares in every conversion; 0 for none.
        loss: when a loss reaches the share price.
        asset_unit: smallest unit of the asset; `None` for real amounts.
        share_unit: smallest unit of a share; `None` for real amounts.
    """

    fee: Float[Array, "*vault"]
    virtual_assets: Float[Array, "*vault"]
    virtual_shares: Float[Array, "*vault"]
    loss: VaultLoss = static()
    asset_unit: Float[Array, "*vault"] | None = None
    share_unit: Float[Array, "*vault"] | None = None

    def accrue(
        self, book: VaultBook, assets: Float[Array, " vault"]
    ) -> tuple[VaultBook, Float[Array, " vault"]]:
        """Return the book as an interaction now would write it, and the fee shares in it.

        Args:
            book: as last written.
            assets: what the vault's claims on markets are worth now.
        """
        lost = jnp.zeros_like(assets)
        if self.loss is VaultLoss.HELD:
            fallen = assets < book.last_assets - book.lost_assets
            lost = jnp.where(fallen, book.last_assets - assets, book.lost_assets)
        stated = assets + lost
        gain = stated - book.last_assets
        interest = jnp.where(gain > 0, gain, jnp.zeros_like(gain))
        fee_assets = floor_to(interest * self.fee, self.asset_unit)
        before_fee = VaultBook(
            shares=book.shares, last_assets=stated - fee_assets, lost_assets=lost
        )
        fee_shares = floor_to(fee_assets / self.share_price(before_fee), self.share_unit)
        accrued = VaultBook(shares=book.shares + fee_shares, last_assets=stated, lost_assets=lost)
        return accrued, fee_shares

    def share_price(self, book: VaultBook) -> Float[Array, " vault"]:
        """Return the assets stated for a share by a book that has just been accrued.

        A vault with neither shares nor virtual ones is worth 1 a share.
        """
        assets = book.last_assets + self.virtual_assets
        shares = book.shares + self.virtual_shares
        price = assets / positive_or_one(shares)
        return jnp.where((shares > 0) & (assets > 0), price, jnp.ones_like(price))

    def move(
        self,
        book: VaultBook,
        assets: Float[Array, " vault"],
        available: Float[Array, " vault"],
        *,
        moved_assets: Float[Array, " vault"],
        moved_shares: Float[Array, " vault"],
    ) -> VaultMove:
        """Return a deposit, mint, withdrawal or redemption.

        One of the two amounts is named and the other is zero; positive amounts enter. Rounding is
        in the vault's favour: shares down, assets up, both signed.

        Args:
            book: as last written.
            assets: what the vault's claims on markets are worth now.
            available: what the markets can pay out to the vault now (`available_assets`).
            moved_assets: asset units deposited, or withdrawn where negative.
            moved_shares: shares minted, or redeemed where negative.
        """
        accrued, fee_shares = self.accrue(book, assets)
        price = self.share_price(accrued)
        by_shares = moved_shares != 0
        shares = jnp.where(by_shares, moved_shares, floor_to(moved_assets / price, self.share_unit))
        moved = jnp.where(by_shares, ceil_to(moved_shares * price, self.asset_unit), moved_assets)
        refusal = jnp.where(-moved > available, VaultRefusal.ILLIQUID, VaultRefusal.NONE)
        refusal = jnp.where(-shares > accrued.shares, VaultRefusal.EXCEEDS_SHARES, refusal)
        done = refusal == VaultRefusal.NONE
        left = accrued.last_assets + moved
        return VaultMove(
            assets=moved,
            shares=shares,
            fee_shares=fee_shares,
            book=VaultBook(
                shares=jnp.where(done, accrued.shares + shares, book.shares),
                last_assets=jnp.where(
                    done, jnp.where(left > 0, left, jnp.zeros_like(left)), book.last_assets
                ),
                lost_assets=jnp.where(done, accrued.lost_assets, book.lost_assets),
            ),
            refusal=refusal,
        )


def claim_value(
    shares: Float[Array, "market vault"],
    supplied: Float[Array, "market vault"],
    total_shares: Float[Array, "market vault"],
    *,
    virtual_assets: float = 0.0,
    virtual_shares: float = 0.0,
    unit: Float[Array, "..."] | None = None,
) -> Float[Array, "market vault"]:
    """Return what a vault's shares of each market are worth, 0 in an empty market.

    Args:
        shares: the vault's supply shares.
        supplied: all that is supplied to the market, in asset units.
        total_shares: all supply shares of the market.
        virtual_assets: added to `supplied` in conversions.
        virtual_shares: added to `total_shares` in conversions.
        unit: smallest unit of the asset; `None` for real amounts.

    Source: Morpho Blue SharesMathLib `toAssetsDown`.
    """
    price = (supplied + virtual_assets) / positive_or_one(total_shares + virtual_shares)
    return floor_to(shares * price, unit)


def available_assets(
    claims: Float[Array, "market vault"],
    supplied: Float[Array, "market vault"],
    borrowed: Float[Array, "market vault"],
) -> Float[Array, " vault"]:
    """Return what a vault can withdraw now: of each market its claim, or the cash if less."""
    cash = supplied - borrowed
    return jnp.sum(smaller(claims, jnp.where(cash > 0, cash, jnp.zeros_like(cash))), axis=0)
