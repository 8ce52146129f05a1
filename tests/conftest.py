"""Settings every test runs under: strict JAX, two virtual devices, a warm compilation cache."""

import importlib.metadata
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Cache hits print pages of machine-feature warnings from C++; the level is read at import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Most of the suite is compiling, and what it compiles runs for an instant: the quick way takes two
# fifths less. CI runs some files the way users' programs are compiled (XLA_FLAGS=""). XLA stops
# at flags it does not know, so the second is for versions known to have it.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + " --xla_cpu_use_fusion_emitters=false"
    * importlib.metadata.version("jaxlib").startswith("0.10."),
)

import hypothesis
import jax
import pytest

if TYPE_CHECKING:
    from tests.command_line import Call


ROOT = Path(__file__).resolve().parent.parent

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

hypothesis.settings.register_profile("dev", deadline=None, max_examples=25)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out slow tests unless `-m` asks for something, and GPU tests where there is none."""
    chosen = bool(config.getoption("markexpr"))
    slow = pytest.mark.skip(reason="slow: run with -m slow")
    gpu = pytest.mark.skip(reason="needs a GPU")
    for item in items:
        if "slow" in item.keywords and not chosen:
            item.add_marker(slow)
        if "gpu" in item.keywords and jax.default_backend() != "gpu":
            item.add_marker(gpu)


@pytest.fixture
def keys(request: pytest.FixtureRequest) -> Iterator[jax.Array]:
    """An endless supply of PRNG keys: the same for a test in every run, others for each test."""
    base = jax.random.key(zlib.crc32(request.node.nodeid.encode()))

    def supply() -> Iterator[jax.Array]:
        position = 0
        while True:
            yield jax.random.fold_in(base, position)
            position += 1

    return supply()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of vectors and data beside the project; the test is skipped where it is absent."""
    stated = os.environ.get("JAXRISK_SHARED")
    folder = Path(stated) if stated else ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no vectors and data here: set JAXRISK_SHARED to the folder that holds them")
    return folder


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator["Call"]:
    """Call the entry point in this interpreter."""
    from tests import command_line

    yield from command_line.calls_here(monkeypatch, capsys)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small system that the command line can run."""
    from tests import command_line

    return command_line.write_project(tmp_path_factory.mktemp("project")).parent
