"""The compiler must add up: a canary for a wrong-code bug of jax 0.10.2 on CPU.

There, a jitted vmap of a 3 x 3 matrix-vector product followed by a reduction corrupts the last row
at sizes 2^k + 1 (github.com/jax-ml/jax issue 39103), which is why `pyproject.toml` excludes it.
The width matters: 4, 8 or 16 columns compute correctly even there.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import assert_close


@pytest.mark.parametrize(
    ("rows", "dtype", "rtol"), [(16_385, np.float64, 1e-12), (32_769, np.float32, 1e-4)]
)
def test_vmapped_matvec_with_reduction_equals_numpy(rows, dtype, rtol):
    generator = np.random.default_rng(0)
    # Positive entries: without cancellation the relative tolerance speaks of rounding alone.
    matrix = generator.uniform(0.5, 2.0, (3, 3)).astype(dtype)
    data = generator.uniform(0.5, 2.0, (rows, 3)).astype(dtype)

    def length_squared(row):
        return jnp.sum(jnp.matmul(jnp.asarray(matrix), row, precision="highest") ** 2)

    compiled = jax.jit(jax.vmap(length_squared))(data)
    wide = data.astype(np.float64) @ matrix.T.astype(np.float64)
    assert_close(np.asarray(compiled, np.float64), (wide**2).sum(axis=1), rtol=rtol, atol=0.0)
