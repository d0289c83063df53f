"""What whet raises on purpose.

WhetError                what was wrong, where, what to do
├── ConfigError          a setting has a value that cannot work          (also ValueError)
├── DataError            rows, columns or files of rows                  (also ValueError)
├── ModelError           a model folder, its weights, or what it can do  (also ValueError)
├── RunError             a run folder: busy, not resumable, unwritable   (also RuntimeError)
├── MachineError         disk, memory or device                          (also RuntimeError)
└── MissingPackageError  an optional package is not installed            (also ImportError)

Anything else that escapes is a defect of whet.
"""


class WhetError(Exception):
    """Base of every error raised on purpose. The tree is drawn at the top of this file."""

    def __init__(self, what: str, where: str, fix: str) -> None:
        super().__init__(what, where, fix)  # all three in args, so the error survives pickling

    @property
    def what(self) -> str:
        return str(self.args[0])

    @property
    def where(self) -> str:
        return str(self.args[1])

    @property
    def fix(self) -> str:
        return str(self.args[2])

    def __str__(self) -> str:
        return "{}\n  where: {}\n  try:   {}".format(*self.args)


class ConfigError(WhetError, ValueError):
    """A setting has a value that cannot work."""


class DataError(WhetError, ValueError):
    """Something is wrong with rows, columns or a file of rows."""


class ModelError(WhetError, ValueError):
    """Something is wrong with a model folder or its weights, or it lacks an ability."""


class RunError(WhetError, RuntimeError):
    """A run folder is busy, cannot be written, or cannot be resumed."""


class MachineError(WhetError, RuntimeError):
    """The machine lacks disk, memory or a device."""


class MissingPackageError(WhetError, ImportError):
    """An optional package is not installed."""


def closest(name: str, known: list[str], limit: int = 3) -> list[str]:
    """The known names most like ``name``, best first; for the 'try' line of an error."""
    from difflib import get_close_matches

    lowered = {candidate.lower(): candidate for candidate in known}
    found = get_close_matches(name.lower(), list(lowered), n=limit, cutoff=0.4)
    return [lowered[candidate] for candidate in found]
