"""The compilation cache of the command line, in the user's cache folder."""

import os
from pathlib import Path

import jax


def use_compilation_cache() -> Path | None:
    """Return the folder where compiled programs are kept between runs; `None` if there is none.

    `JAX_COMPILATION_CACHE_DIR` wins where it is set. A folder that cannot be written is no error:
    the run only compiles again.
    """
    if jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return Path(jax.config.jax_compilation_cache_dir)  # pyright: ignore[reportAttributeAccessIssue]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "jaxrisk" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder
