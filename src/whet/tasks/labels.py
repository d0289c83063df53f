"""How a target value on disk reads as a label, and in which order labels stand."""

import re
from typing import Any


def label_text(value: Any) -> str:
    """The label as text; whole floats lose their point, so that 1 and 1.0 are one class."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def natural_order(labels: list[str]) -> list[str]:
    """Numbers by value ("2" before "10"), the rest by character."""

    def key(label: str) -> tuple[int, float, str]:
        return (0, float(label), label) if re.fullmatch(r"-?\d{1,15}(\.\d+)?", label) else (1, 0.0, label)

    return sorted(labels, key=key)
