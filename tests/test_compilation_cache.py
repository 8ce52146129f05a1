"""Test processes share compiled programs; one that is read half-written must not fail a test."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache


@pytest.fixture
def cache(tmp_path):
    """An empty compilation cache that keeps everything, for one test."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    for name, value in zip(names, (str(tmp_path), 0.0), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def compiled_afresh(offset):
    """Return a value from a program that this process has not compiled yet."""
    return float(jax.jit(lambda x: jnp.sum(x) + offset)(jnp.arange(3.0)))


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_a_half_written_entry_is_compiled_again(cache, part):
    assert compiled_afresh(1.25) == 4.25
    entries = [path for path in cache.iterdir() if path.name.endswith("-cache")]
    assert entries
    for path in entries:
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * part)])
    assert compiled_afresh(1.25) == 4.25
