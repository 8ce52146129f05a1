"""Errors a user can cause, and the exit code each maps to.

JaxriskError
├── ConfigError    a config key or command line is wrong            exit 2
├── DataError      a table cannot be used as it stands              exit 3
├── DeviceError    the device asked for is missing or too small     exit 4
└── InterruptedRunError   stopped on request; it can be resumed     exit 75
"""

from collections.abc import Sequence
from typing import ClassVar


class JaxriskError(Exception):
    """Something a user can mend; carries every problem found, not only the first.

    Args:
        problems: one line each, in the form `where: what is wrong; what is
            allowed; likely meaning`.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(self.problems))


class ConfigError(JaxriskError):
    """A configuration key, value or command-line option is wrong."""

    exit_code = 2


class DataError(JaxriskError):
    """A table of positions or prices cannot be used as it stands."""

    exit_code = 3


class DeviceError(JaxriskError):
    """The device asked for is absent or has too little memory."""

    exit_code = 4


class InterruptedRunError(JaxriskError):
    """The run was stopped and can be resumed."""

    exit_code = 75
