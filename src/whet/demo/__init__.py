"""Which rows does ``whet demo`` run on?

``tickets.csv`` holds 629 support tickets to a fictional shop, with the columns ticket_id, created, channel, text and
intent (8 intents). It was written for this project and is released with it under Apache-2.0; persons, orders and
numbers are invented. The blemishes of real data are left in on purpose:

- imbalance: 158 tickets about shipping, 26 about features; one intent blends into the next
- 13 wrong intents (``tests/demo/test_tickets.py`` names them), 2 missing ones and one empty text
- 7 exact duplicates, one of them under two intents, and 9 near duplicates
- HTML, emoji, typing errors, line breaks, under twenty texts in other languages, and one text of over
  2,000 words
"""

from importlib.resources import files
from pathlib import Path


def tickets_path() -> Path:
    """The packaged CSV of support tickets; the text is in ``text``, the target in ``intent``."""
    return Path(str(files(__name__) / "tickets.csv"))  # whet is installed unpacked, so this is a real file
