"""What is here: runs, models, and what this machine can do; as plain records."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from whet.errors import RunError
from whet.folder import METRICS, PLAN, RUNS


def runs(folder: Path) -> list[dict[str, Any]]:
    """Every run below ``folder``, newest first; unfinished ones say so.

    Raises:
        RunError: there is no such folder, and it is not the usual one.
    """
    if not folder.is_dir() and folder != RUNS:
        raise RunError("There is no such folder.", where=str(folder), fix="give the folder that holds your runs")
    found = []
    for plan in sorted(folder.glob(f"*/{PLAN}"), key=lambda path: path.stat().st_mtime, reverse=True):
        place = plan.parent
        record: dict[str, Any] = {"run": str(place), **planned(plan), "verdict": "unfinished"}
        if (place / METRICS).exists() and (place / "story.json").exists():
            story = json.loads((place / "story.json").read_text(encoding="utf-8"))
            first = story["judgements"][0]
            score = first["scores"]["model"][0]
            record |= {
                "model": story["model"]["name"],
                "method": story["method"],
                first["metric"]: round(score["value"], 4),
                "verdict": first["verdict"]["answer"],
                "seconds": story["seconds"],
            }
        found.append(record)
    return found


def planned(path: Path) -> dict[str, str]:
    """Model and method as a plan file names them; nothing where it cannot be read."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {"model": str(content["model"]["name"]), "method": str(content["method"]["name"])}
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError):
        return {"model": "", "method": ""}


def models() -> list[dict[str, Any]]:
    """Models at hand."""
    from whet.backbones.source import list_models
    from whet.wanted import default_cache

    return [
        {
            "model": model.name,
            "where": model.origin,
            "architecture": model.architecture or "",
            "bytes": model.bytes,
            "licence": model.licence or "not stated",
        }
        for model in list_models(default_cache())
    ]


def doctor(device: str) -> list[dict[str, Any]]:
    """What was measured on this machine just now, and what plans will use."""
    from whet.training.machine import choose_path, free_bytes, measure_machine, resolve_device
    from whet.wanted import default_cache

    cache = default_cache()
    name = resolve_device(device)
    machine = measure_machine(cache, device=name, fresh=True, thorough=True)
    path = choose_path(machine, name)
    facts: list[tuple[str, str]] = [
        ("processor", machine.processor),
        ("cores", f"{machine.cores} usable, {path.threads} threads are used"),
        ("features", ", ".join(machine.features) or "none that matter here"),
        ("device", machine.devices.get(name, name)),
    ]
    for precision, speed in machine.gemm.items():
        error = machine.gemm_error.get(precision)
        tail = "" if error is None else f", relative error {error:.0e}"
        facts.append((f"products in {precision}", f"{speed:,.0f} GFLOP/s{tail}"))
    facts += [
        ("chosen", f"{path.inference} inference, {path.training} training: {path.reason}"),
        ("memory", f"{machine.memory_bytes / 2**30:.1f} GiB"),
        ("free disk", f"{free_bytes(Path()) / 2**30:.1f} GiB here, cache in {cache}"),
    ]
    if machine.busy:
        facts.append(("note", "other programs were computing during the measurement; numbers are low"))
    packages = ("whet", "torch", "transformers", "tokenizers", "pyarrow", "numpy")
    facts.append(("versions", ", ".join(f"{package} {version(package)}" for package in packages)))
    return [{"what": what, "found": found} for what, found in facts]
