"""What does a partial plan name? Its parts as a user may write them: one name or several, with settings or without.

Nothing is found or measured here; what is not named is left to ``recognise``, ``choices`` and ``resolve``.
"""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from whet.methods.method import whole
from whet.plan import Auto, Plan, member_of


def names_of(value: Any) -> tuple[str, ...]:
    """One name or several as a tuple."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(str(name) for name in value)


def named_model(given: Mapping[str, Any]) -> str | None:
    """What the model part names: a name, a folder or a hub id; None for the packaged model."""
    moved = given.get("origin") in ("packaged", "hub", "file")  # these are found by name, wherever they lie by now
    name = given.get("name") if moved else given.get("folder") or given.get("name")
    return None if name is None else str(name)


def method_of(given: Any) -> Any:
    """The method as named; settings without a name are those of ``auto``.

    Raises:
        ConfigError: there is none of this name, or it lacks what a method states.
    """
    found = member_of("method", {"name": "auto"} | given if isinstance(given, dict) else given or "auto")
    return found if isinstance(found, Auto) else whole(found)


def cache_folder(wanted: Mapping[str, Any]) -> Path:
    """The cache folder as named, else the user's own."""
    named = wanted.get("cache")
    return Path(named) if named and named != "off" else default_cache()


def default_cache() -> Path:
    """Where caches of this user lie, by the convention of the operating system."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "whet"


def activations_folder(wanted: Mapping[str, Any], cache: Path) -> Path | None:
    """Where activations are kept between runs; None when the cache is off."""
    return None if wanted.get("cache") == "off" else cache / "activations"


def is_whole(wanted: Mapping[str, Any]) -> bool:
    """Whether nothing is left to resolve: every part is there, and the rows and the model are known."""
    parts = {entry.name for entry in fields(Plan)} - {"track", "earlier", "cache", "loss", "seed", "format"}
    return parts <= set(wanted) and bool(wanted["data"].get("fingerprint")) and "folder" in wanted["model"]


def fresh_earlier(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, without what a plan file resolved about earlier runs."""
    given = wanted.get("earlier") or {}
    return {**wanted, "earlier": {name: given[name] for name in ("rehearse", "share") if name in given}}
