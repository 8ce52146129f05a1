"""The command line: run, validate, init, replay, stresses, schema, doctor."""

import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from jaxrisk.errors import ConfigError, InterruptedRunError, JaxriskError

_INTERRUPTED_BY_SHELL = 130

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Risk of stacked leverage: books, venue rules and markets played forward.",
)

ConfigFile = Annotated[Path, typer.Argument(help="configuration file (TOML)")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or gpu")]
Precision = Annotated[str | None, typer.Option(help="float32 or float64")]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
Quiet = Annotated[bool, typer.Option("--quiet", help="no plan, notices or progress")]


@app.command()
def run(
    config: ConfigFile,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option(help="run directory")] = None,
    scenarios: Annotated[int | None, typer.Option(help="number of scenarios")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of the scenarios")] = None,
    stress: Annotated[
        str | None, typer.Option(help="named stresses, a comma between; see jaxrisk stresses")
    ] = None,
    device: Device = None,
    precision: Precision = None,
    as_json: AsJson = False,
    force: Annotated[bool, typer.Option("--force", help="replace an earlier run")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="finish an interrupted run")] = False,
    quiet: Quiet = False,
) -> None:
    """Simulate a configuration and write report, summary and tables."""
    given = {"output": out, "scenarios": scenarios, "seed": seed, "device": device}
    if stress is not None:
        given["stresses"] = [name.strip() for name in stress.split(",") if name.strip()]
    loaded = _load(config, set_, {**given, "precision": precision})
    device_text = _set_up(loaded)
    from jaxrisk.run.job import execute
    from jaxrisk.run.printing import print_summary

    built = _build(loaded, config, set_)
    # A scheduler's SIGTERM is an interrupt like Ctrl-C: finished parts are kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    summary, report = execute(
        loaded,
        built=built,
        device=device_text,
        command=_command(),
        config_text=config.read_text(encoding="utf-8"),
        force=force,
        resume=resume,
        quiet=quiet,
    )
    if as_json:
        _print_json(summary)
    else:
        print_summary(summary, report=report)


@app.command()
def validate(config: ConfigFile, set_: Set = None) -> None:
    """Check a configuration and its data without running it."""
    loaded = _load(config, set_, {})
    _set_up(loaded)
    from jaxrisk.run.summary import book_findings

    built = _build(loaded, config, set_)
    accounts = sum(venue.accounts.count for venue in built.system.venues)
    names = ", ".join(venue.name for venue in built.system.venues)
    print(f"{config}: valid; {accounts} accounts on {names}")
    for line in (*built.data_quality, *book_findings(built)):
        print(f"data: {line}")


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="folder to create")],
    force: Annotated[bool, typer.Option("--force", help="overwrite the example files")] = False,
) -> None:
    """Write a working example: configuration, positions, a note on both."""
    from jaxrisk.run.example import write_example

    for path in write_example(directory, force=force):
        print(path)
    print(f"next: jaxrisk run {directory / 'run.toml'}")


@app.command()
def replay(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="run directory")],
    scenario: Annotated[int, typer.Option(help="scenario id")],
    as_json: AsJson = False,
) -> None:
    """Play one scenario of a finished run again and print its events."""
    from jaxrisk.run.replay import recorded_config
    from jaxrisk.run.replay import replay as replay_scenario

    config, record = recorded_config(directory)
    _set_up(config)
    from jaxrisk.run.build import build
    from jaxrisk.run.printing import print_events

    events = replay_scenario(config, build(config), scenario)
    if as_json:
        _print_json({"run": record["config_hash"], "scenario": scenario, "events": events})
    else:
        print_events(events, scenario)


@app.command()
def stresses(as_json: AsJson = False) -> None:
    """List the named stresses: what they do, and where each number is from."""
    from jaxrisk.run.printing import print_stresses
    from jaxrisk.run.stress_config import shipped_stresses

    library = shipped_stresses()
    if as_json:
        _print_json({name: own.model_dump(exclude_unset=True) for name, own in library.items()})
    else:
        print_stresses(library)


@app.command()
def schema() -> None:
    """Print the JSON schema of the configuration."""
    from jaxrisk.run.config import config_schema

    _print_json(config_schema())


@app.command()
def doctor() -> None:
    """Print versions, devices and a short self-test."""
    from jaxrisk.run.doctor import examine

    healthy = True
    for what, text, good in examine(_cores()):
        print(f"{'ok ' if good else 'BAD'} {what}: {text}")
        healthy = healthy and good
    if not healthy:
        raise typer.Exit(1)


def _load(config: Path, overrides: list[str] | None, given: dict[str, Any]) -> Any:
    from jaxrisk.run.load import load_config
    from jaxrisk.venue.presets import PRESETS

    options = [f"run.{key}={json.dumps(str(v) if isinstance(v, Path) else v)}"
               for key, v in given.items() if v is not None]  # fmt: skip
    return load_config(config, [*(overrides or []), *options], known_presets=PRESETS)


def _build(loaded: Any, config: Path, overrides: list[str] | None) -> Any:
    """Return the system of a configuration; what does not fit together is found in its file."""
    from jaxrisk.run.build import build
    from jaxrisk.run.load import located

    try:
        return build(loaded)
    except ConfigError as error:
        raise ConfigError(located(config, overrides or [], error.problems)) from error


def _set_up(config: Any) -> str:
    """Prepare JAX for the run and return the device in words."""
    from jaxrisk.run.cache import use_compilation_cache
    from jaxrisk.run.job import configure_device

    use_compilation_cache()
    return configure_device(config.run.device, config.run.precision, _cores())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _command() -> str:
    return shlex.join(["jaxrisk", *sys.argv[1:]])


def _print_json(value: Any) -> None:
    from jaxrisk.run.store import plain

    print(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def _interrupted() -> NoReturn:
    print("error: interrupted; nothing is lost, run the command again", file=sys.stderr)
    sys.exit(InterruptedRunError.exit_code)


def main() -> None:
    """Run the command line; errors a user can mend become one line each and an exit code."""
    # XLA's notes on its compilation cache are not for users.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        app()
    except SystemExit as stop:
        # Typer turns an interrupt into an exit of its own, with the shell's code for it.
        if stop.code != _INTERRUPTED_BY_SHELL:
            raise
        _interrupted()
    except JaxriskError as error:
        from jaxrisk.run.printing import print_problems

        print_problems(error.problems)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _interrupted()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
