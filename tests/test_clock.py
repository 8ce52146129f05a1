"""The clock that says how long a run compiled."""

import jax
import pytest

from jaxrisk.run import job


@pytest.fixture
def clock_at(monkeypatch):
    """A clock, and a function that reports a duration ending at a moment."""
    monkeypatch.setattr(
        job.jax.monitoring, "register_event_duration_secs_listener", lambda listener: None
    )
    clock = job.Clock()

    def report(event, moment, seconds):
        monkeypatch.setattr(job.time, "perf_counter", lambda: moment)
        clock._heard(event, seconds)

    return clock, report


def test_a_span_inside_another_counts_once(clock_at):
    clock, report = clock_at
    report("/jax/core/compile/jaxpr_trace_duration", 102.0, 1.0)
    report("/jax/core/compile/jaxpr_trace_duration", 103.0, 0.5)
    report("/jax/core/compile/jaxpr_trace_duration", 104.0, 4.0)  # calls both of the above
    report("/jax/core/compile/backend_compile_duration", 110.0, 5.0)
    assert clock.compile == pytest.approx(9.0)


def test_other_events_are_not_compiling(clock_at):
    clock, report = clock_at
    report("/jax/compilation_cache/cache_retrieval_time_sec", 102.0, 1.0)
    assert clock.compile == 0.0


def test_a_compiled_function_is_heard_of():
    clock = job.Clock()
    jax.jit(lambda x: x * 3.0 + 0.125)(1.5)
    assert 0.0 < clock.compile < clock.total
