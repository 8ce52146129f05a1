"""Independent float64 reference of the band market maker: one band at a time, in plain Python.

Written from the whitepaper's formulas (Egorov, crvUSD: a stablecoin using soft liquidation, 2022)
and the contract's order of bands: a trade empties the active band, then the next one, until its
amount is gone. Where the engine expands differences, this keeps the invariant as it is stated.
"""

import math
from dataclasses import dataclass


@dataclass
class Pool:
    """Bands by number."""

    amplification: float
    base_price: float
    borrowed: dict[int, float]
    collateral: dict[int, float]
    active: int
    lowest: int
    highest: int

    def top(self, n: int) -> float:
        return self.base_price * ((self.amplification - 1) / self.amplification) ** n

    def offsets(self, n: int, oracle: float) -> tuple[float, float]:
        """Return f and g from the positive root y0 of the band's quadratic."""
        a, top = self.amplification, self.top(n)
        x, y = self.borrowed.get(n, 0.0), self.collateral.get(n, 0.0)
        quadratic, linear = oracle * a, top / oracle * (a - 1) * x + oracle**2 / top * a * y
        y0 = (linear + math.sqrt(linear**2 + 4 * quadratic * x * y)) / (2 * quadratic)
        return a * y0 * oracle**2 / top, (a - 1) * y0 * top / oracle

    def quotes(self, n: int, oracle: float) -> tuple[float, float]:
        return oracle**3 / self.top(n) ** 2, oracle**3 / self.top(n + 1) ** 2

    def price(self, oracle: float) -> float:
        n = self.active
        x, y = self.borrowed.get(n, 0.0), self.collateral.get(n, 0.0)
        if x == 0 and y == 0:
            low, high = self.quotes(n, oracle)
            return math.sqrt(low * high)
        f, g = self.offsets(n, oracle)
        return (f + x) / (g + y)

    def charged(self, n: int, oracle: float, fee: float) -> float:
        low, high = self.quotes(n, oracle)
        if oracle < low:
            return max(fee, (low - oracle) / low / 4)
        if oracle > high:
            return max(fee, (oracle - high) / oracle / 4)
        return fee

    def exchange(
        self, oracle: float, fee: float, admin_share: float, amount: float, buys: bool
    ) -> tuple[float, float]:
        """Trade and return (spent, received)."""
        left_in, received = amount, 0.0
        touched = None
        n, step = self.active, 1 if buys else -1
        edge = self.highest if buys else self.lowest
        span = 50 * math.log(self.amplification / (self.amplification - 1))
        paid_in, given_out = (
            (self.borrowed, self.collateral) if buys else (self.collateral, self.borrowed)
        )
        while True:
            x, y = paid_in.get(n, 0.0), given_out.get(n, 0.0)
            if touched is None and (x > 0 or y > 0):
                touched = n
            if y > 0:
                offsets = self.offsets(n, oracle)
                f, g = offsets if buys else offsets[::-1]
                invariant = (f + x) * (g + y)
                keep = 1 - self.charged(n, oracle, fee)
                full = (invariant / g - f - x) / keep
                is_last = full >= left_in
                paid = left_in if is_last else full
                left = invariant / (f + x + paid * keep) - g if is_last else 0.0
                paid_in[n] = x + paid - paid * (1 - keep) * admin_share
                given_out[n] = left
                left_in, received = left_in - paid, received + y - left
                if is_last:
                    break
            strayed = step * math.log(oracle / self.top(n)) > span
            if n == edge or strayed or (touched is not None and abs(n - touched) == 49):
                break
            n += step
        if received > 0:
            self.active = n
        return amount - left_in, received

    def converted_down(self, oracle: float) -> float:
        """Return the borrowed coin after a slow fall, by trading each band to the oracle price."""
        return sum(self.band_down(n, oracle) for n in set(self.borrowed) | set(self.collateral))

    def band_down(self, n: int, oracle: float) -> float:
        """Return what one band comes to in a slow fall."""
        x, y = self.borrowed.get(n, 0.0), self.collateral.get(n, 0.0)
        if x == 0 and y == 0:
            return 0.0
        f, g = self.offsets(n, oracle)
        invariant = (f + x) * (g + y)
        top, bottom = self.top(n), self.top(n + 1)
        # Where the price p = (f + x) / (g + y) equals the oracle, clipped to the band.
        y_o = min(max(math.sqrt(invariant / oracle) - g, 0.0), invariant / f - g)
        x_o = max(invariant / (g + y_o) - f, 0.0)
        start = min(max(oracle, bottom), top)
        return x_o + y_o * math.sqrt(start * bottom)
