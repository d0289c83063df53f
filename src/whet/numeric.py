"""Are the numbers of a settings object numbers, of the types that its fields state?"""

import math
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, get_args

from whet.errors import ConfigError


def require_numbers(settings: Any, where: str) -> None:
    """Refuse what is no number where a field is one, and keep each as a plan file can hold it.

    Args:
        settings: A dataclass under construction; fields of other types are left alone.
        where: How a plan names it.

    Raises:
        ConfigError: a number is of another type, not finite, or not whole where its field is.
    """
    for one in fields(settings):
        given, kind = getattr(settings, one.name), one.type
        several = kind == tuple[float, ...]
        if kind not in (int, float, int | None, float | None, tuple[float, ...]):
            continue
        if given is None and type(None) in get_args(kind):
            continue
        whole = kind in (int, int | None)
        each = given if several and isinstance(given, tuple | list) else [given]
        if (several and each is not given) or not all(_is_number(value, whole) for value in each):
            wanted = "several numbers" if several else f"a value that is a {'whole ' * whole}number"
            raise ConfigError(f"{one.name} cannot be {given!r}.", where=f"{where}.{one.name}", fix=f"use {wanted}")
        kept = [int(value) if whole or isinstance(value, Integral) else float(value) for value in each]
        object.__setattr__(settings, one.name, tuple(kept) if several else kept[0])


def _is_number(value: Any, whole: bool) -> bool:
    try:
        known = type(value) is not bool and isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False
    return known and not (whole and value != int(value))
