"""How many sorted values are below another: a bucket looked up, then a few halvings inside it."""

from typing import Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.pytree import pytree, static


@pytree
class SortedSearch:
    """Sorted values with an index of evenly spaced buckets.

    The answer is exact, whatever the buckets; they decide how many halvings are left. A search
    without an index halves all values.

    Attributes:
        values: `(value,)` increasing; infinite ones at the end.
        first: lower edge of the first bucket.
        per_unit: buckets per unit.
        span: `(bucket, 2)` how many values come before each bucket, and how many with it.
        halvings: that leave one answer in any bucket.
    """

    values: Float[Array, " value"]
    first: Float[Array, ""]
    per_unit: Float[Array, ""]
    span: Int[Array, "bucket 2"]
    halvings: int = static()

    @classmethod
    def of(cls, values: Float[Array, " value"]) -> Self:
        """Return the search without an index: one bucket. Values may be traced."""
        count = values.shape[0]
        zero = jnp.zeros((), values.dtype)
        span = jnp.asarray([[0, count]], jnp.int32)
        halvings = int(count).bit_length()
        return cls(values=values, first=zero, per_unit=zero, span=span, halvings=halvings)

    def indexed(self, buckets: int) -> Self:
        """Return the same search with an index, made on the host from concrete values.

        Args:
            buckets: number of them, at least 1.
        """
        values = np.asarray(self.values)
        finite = values[np.isfinite(values)]
        if finite.size == 0 or finite[0] == finite[-1]:
            return self
        one = lambda x: np.asarray(x, values.dtype)
        first, per_unit = finite[0], one(buckets / (finite[-1] - finite[0]))
        # The bucket of each value is found as that of what is looked for, in the same arithmetic.
        own = np.clip((values - first) * per_unit, 0, buckets - 1).astype(np.int32)
        start = np.searchsorted(own, np.arange(buckets + 1)).astype(np.int32)
        return type(self)(
            values=self.values,
            first=jnp.asarray(first),
            per_unit=jnp.asarray(per_unit),
            span=jnp.asarray(np.stack([start[:-1], start[1:]], axis=1)),
            halvings=int(np.diff(start).max()).bit_length(),
        )

    def below(self, x: Float[Array, ""], *, equal: bool = False) -> Int[Array, ""]:
        """Return how many values are below `x`, or with `equal` at most `x`."""
        buckets = self.span.shape[0]
        at = (x - self.first) * self.per_unit
        bucket = jnp.clip(at.astype(jnp.int32), 0, buckets - 1)
        low, high = self.span.at[bucket].get(mode="promise_in_bounds")
        for _ in range(self.halvings):
            middle = (low + high) // 2
            # With nothing left to halve, the middle may be one past the end.
            there = self.values.at[middle].get(mode="clip")
            more = (low < high) & ((there <= x) if equal else (there < x))
            low, high = jnp.where(more, middle + 1, low), jnp.where(more, high, middle)
        return low
