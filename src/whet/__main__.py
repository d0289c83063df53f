"""``python -m whet`` is the command ``whet``."""

from whet.cli import main

main()
