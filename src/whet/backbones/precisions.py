"""In which numbers can a model compute? Names alone, so that nothing heavy is imported for them."""

from typing import Literal

Precision = Literal["float32", "float32-medium", "bfloat16"]
"""``float32-medium`` is float32 through the library that torch calls "medium", see ``training/machine.py``."""
