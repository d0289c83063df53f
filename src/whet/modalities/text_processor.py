"""Text to token ids: one or two pieces of text, by the tokenizer that the pre-trained model came with.

A text longer than the model's window becomes several overlapping windows, never a silent cut. Only the fast
(Rust) tokenizers are used; a folder that has none is refused with the reason.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from tokenizers import Encoding, Tokenizer, normalizers

from whet.data.ragged import Ragged
from whet.errors import ConfigError, ModelError
from whet.modalities.modality import Encoded
from whet.modalities.model_folder import has_processor, read_json, transformer_folder

MOST_WINDOWS = 64
"""Windows kept of one text; more (about 12,000 tokens at the usual size) are spread evenly and counted as lost."""
OVERLAP = 0.25
"""Share of a window that the next one repeats, so that no phrase is cut everywhere."""
SENTENCE_CONFIGS = ("sentence_bert_config.json", "../sentence_bert_config.json")


def text_processor(root: Path, *, max_length: int | None, pairs: bool) -> "TextProcessor":
    """The tokenizer of the model in ``root``, with its own window size unless ``max_length`` is smaller.

    Raises:
        ConfigError: no window of that size can work.
        ModelError: there is no tokenizer, or it is damaged.
    """
    folder = transformer_folder(root)
    if not has_processor(root):
        raise ModelError(
            "The model folder has no tokenizer.",
            where=str(folder),
            fix="save the tokenizer beside the weights: tokenizer.save_pretrained(folder) writes tokenizer.json",
        )
    config = read_json(folder / "config.json")
    window = model_window(folder, config)
    if max_length is not None and (max_length < 8 or (window is not None and max_length > window)):
        raise ConfigError(
            f"max_length {max_length} cannot work with this model.",
            where="data.max_length",
            fix=f"choose between 8 and {window or 'the length the model was trained with'}",
        )
    tokenizer = load_tokenizer(folder)
    if any(read_json(folder / name).get("do_lower_case") for name in SENTENCE_CONFIGS):
        stated = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *stated])
    return TextProcessor(
        tokenizer,
        max_length=max_length if max_length is not None else window or 512,
        pairs=pairs,
        segments=pairs and int(config.get("type_vocab_size", 0) or 0) > 1,
        pad_id=padding_id(folder, config, tokenizer),
    )


class TextProcessor:
    """Texts to token ids for one model.

    Args:
        tokenizer: The model's own; its padding and truncation settings are replaced by ours.
        max_length: Tokens a window, special tokens included.
        pairs: Whether a value is two texts, encoded jointly.
        segments: Whether the model tells the two texts of a pair apart by ``token_type_ids``.
        pad_id: Token id that fills up a batch; it is masked.
    """

    unit = "tokens"

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, pairs: bool, segments: bool, pad_id: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.pairs = pairs
        self.segments = segments
        self.pad_id = pad_id
        self.room = max_length - tokenizer.num_special_tokens_to_add(pairs)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if not pairs:  # windows of pairs are made here: the tokenizer's own leave out parts of the second text
            tokenizer.enable_truncation(max_length, stride=int(self.room * OVERLAP))
        self._narrow = np.uint16 if tokenizer.get_vocab_size() < 2**16 else np.int32

    def fingerprint(self) -> str:
        """A hash of tokenizer, window and overlap."""
        text = f"{self.tokenizer.to_str()}|{self.max_length}|{self.pairs}|{self.segments}|{MOST_WINDOWS}"
        return xxhash.xxh3_128_hexdigest(text.encode())

    def encode(self, values: Sequence[tuple[Any, ...]]) -> Encoded:
        """Texts to windows of token ids. Empty texts are one window of special tokens."""
        texts: list[Any] = [value if self.pairs else value[0] for value in values]
        try:
            encodings = self.tokenizer.encode_batch_fast(texts)
        except TypeError:  # half of a surrogate pair, which is no text; found so late because a search costs time
            texts = [tuple(map(whole, value)) if self.pairs else whole(value[0]) for value in values]
            encodings = self.tokenizer.encode_batch_fast(texts)
        pieces: list[Encoding] = []
        value_of: list[int] = []
        windowed = lost = 0
        for position, encoding in enumerate(encodings):
            windows = [encoding, *encoding.overflowing]
            if len(encoding) > self.max_length:
                windows = self._pair_windows(*texts[position])
            if len(windows) > 1:
                windows, dropped = spread(windows, MOST_WINDOWS)
                windowed += 1
                lost += lost_tokens(dropped, int(self.room * OVERLAP))
            pieces += windows
            value_of += [position] * len(windows)
        value = np.array(value_of, np.int32)
        starts = np.searchsorted(value, np.arange(len(values)))
        inputs = {"input_ids": pack_ids([piece.ids for piece in pieces], self._narrow)}
        if self.segments:
            inputs["token_type_ids"] = pack_ids([piece.type_ids for piece in pieces], np.dtype(np.uint8))
        return Encoded(
            inputs=inputs,
            value=value,
            part=(np.arange(len(value)) - starts[value]).astype(np.int32) if len(value) else value,
            lengths=inputs["input_ids"].lengths,
            counted={"windowed": windowed, "tokens lost": lost},
        )

    def collate(self, inputs: dict[str, Ragged]) -> dict[str, torch.Tensor]:
        """Windows to one batch, padded on the right to its longest; a mask only if something is padded.

        Shapes:
            input_ids, token_type_ids, attention_mask: (B, T) int64.
        """
        lengths = inputs["input_ids"].lengths
        batch = {
            name: torch.from_numpy(padded(ragged, self.pad_id if name == "input_ids" else 0))
            for name, ragged in inputs.items()
        }
        longest = int(lengths.max())
        if int(lengths.min()) < longest:
            batch["attention_mask"] = torch.from_numpy((np.arange(longest) < lengths[:, None]).astype(np.int64))
        return batch

    def record(self) -> dict[str, Any]:
        return {"max_length": self.max_length, "overlap": OVERLAP, "most_windows": MOST_WINDOWS}

    def walk(self, value: tuple[Any, ...]) -> list[tuple[str, str]]:
        """What one text becomes, for people: raw, tokens, windows, ids."""
        encoding = self.tokenizer.encode(*value)
        windows = len(self.encode([value]).value)
        tokens = " ".join(encoding.tokens[:24]) + (" ..." if len(encoding.tokens) > 24 else "")
        ids = ", ".join(str(number) for number in encoding.ids[:12]) + (", ..." if len(encoding.ids) > 12 else "")
        return [
            ("text", " | ".join(str(text) for text in value)[:200]),
            ("tokens", tokens),
            ("windows", f"{windows} of at most {self.max_length} tokens"),
            ("ids", ids),
        ]

    def _pair_windows(self, first: str, second: str) -> list[Encoding]:
        """A long pair: a text of up to half the room stays whole beside windows of the other, else both have windows.

        The windows of two long texts go hand in hand, from beginning to end; not every one meets every other.
        """
        sides = [self.tokenizer.encode(text, add_special_tokens=False) for text in (first, second)]
        half = self.room // 2
        shorter = min(len(side) for side in sides)
        shares = [half, self.room - half]
        if shorter <= half:
            shares = [shorter if len(side) == shorter else self.room - shorter for side in sides]
        parts = []
        for side, share in zip(sides, shares, strict=True):
            if len(side) > share:
                side.truncate(share, stride=int(share * OVERLAP))
            parts.append([side, *side.overflowing])
        count = max(len(part) for part in parts)
        places = [np.linspace(0, len(part) - 1, count).round().astype(int).tolist() for part in parts]
        return [self.tokenizer.post_process(parts[0][a], parts[1][b]) for a, b in zip(*places, strict=True)]


def whole(text: str) -> str:
    """The text with half surrogate pairs replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def spread(windows: list[Encoding], most: int) -> tuple[list[Encoding], list[Encoding]]:
    """At most ``most`` windows, evenly over the text, and those left out."""
    if len(windows) <= most:
        return windows, []
    kept = set(np.linspace(0, len(windows) - 1, most).round().astype(int).tolist())
    return [windows[i] for i in sorted(kept)], [window for i, window in enumerate(windows) if i not in kept]


def lost_tokens(dropped: list[Encoding], overlap: int) -> int:
    """About how many tokens only left-out windows hold: each shares ``overlap`` tokens with the one before."""
    return sum(max(0, len(window) - window.special_tokens_mask.count(1) - overlap) for window in dropped)


def pack_ids(pieces: list[list[int]], dtype: Any) -> Ragged:
    """Lists of ids as one ragged array."""
    shapes = np.fromiter((len(piece) for piece in pieces), np.int32, len(pieces)).reshape(-1, 1)
    flat = np.fromiter((number for piece in pieces for number in piece), dtype, int(shapes.sum()))
    return Ragged.of(flat, shapes)


def padded(ragged: Ragged, fill: int) -> np.ndarray[Any, Any]:
    """(B, T) int64, filled up on the right."""
    lengths = ragged.lengths.astype(np.int64)
    longest = int(lengths.max())
    out = np.full((len(ragged), longest), fill, np.int64)
    for row, (start, length) in enumerate(zip(ragged.starts.tolist(), lengths.tolist(), strict=True)):
        out[row, :length] = ragged.values[start : start + length]
    return out


def load_tokenizer(folder: Path) -> Tokenizer:
    """The fast tokenizer of a model folder; converted by transformers where only an older form is there."""
    file = folder / "tokenizer.json"
    if file.exists():
        try:
            return Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing more exact
            raise ModelError(
                f"The tokenizer cannot be read: {error}",
                where=str(file),
                fix="the file is damaged or not whole: take it from its source again",
            ) from error
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), use_fast=True).backend_tokenizer  # type: ignore[no-any-return]
    except (OSError, ValueError, AttributeError, ImportError) as error:
        raise ModelError(
            f"The model has no tokenizer that can be used: {str(error).splitlines()[0]}",
            where=str(folder),
            fix="save its fast tokenizer into the folder (tokenizer.json), or choose another model",
        ) from error


def model_window(folder: Path, config: dict[str, Any]) -> int | None:
    """Tokens the model can take at once: what the folder states, else its number of positions."""
    for name in SENTENCE_CONFIGS:
        stated = read_json(folder / name).get("max_seq_length")
        if stated:
            return int(stated)
    positions = config.get("max_position_embeddings") or config.get("n_positions")
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions = positions and positions - 2  # these count positions from the padding id onwards
    stated = read_json(folder / "tokenizer_config.json").get("model_max_length")
    known = [int(number) for number in (positions, stated) if number and 0 < int(number) < 10**6]
    return min(min(known), 512) if known else None


def padding_id(folder: Path, config: dict[str, Any], tokenizer: Tokenizer) -> int:
    """The id that fills up a batch."""
    if config.get("pad_token_id") is not None:
        return int(config["pad_token_id"])
    token = read_json(folder / "tokenizer_config.json").get("pad_token")
    found = tokenizer.token_to_id(token) if isinstance(token, str) else None
    return 0 if found is None else int(found)
