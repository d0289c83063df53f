"""Many ways to store a column become few: text, number, boolean, list, time, and JSON text for what is nested.

Files and objects pass through here, so that the same rows look the same wherever they came from.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NESTED = {b"whet.nested": b"1"}
"""Marks a column whose values were objects or mixed lists, kept as JSON text; no one may train on it."""
BYTES = {b"whet.nested": b"bytes"}
"""Marks one whose values were bytes, kept as the text that they spell in UTF-8: groups and targets, but no input."""
TARGET = {b"whet.target": b"1"}
"""Marks a column that is what rows are sorted by, such as folders of classes: the target where none is named."""
PEEKED = 16
"""Values of a column of bytes that tell whether they spell text."""

Kind = Literal["null", "boolean", "integer", "number", "text", "empty list", "text list", "number list", "nested"]
LISTS: tuple[Kind, ...] = ("empty list", "text list", "number list")


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers (booleans apart)."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type holds lists."""
    return bool(
        _is_view(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def is_nested(field: pa.Field) -> bool:
    """Whether a column holds what was nested: see ``NESTED``."""
    return bool(field.metadata and b"whet.nested" in field.metadata)


def is_bytes(field: pa.Field) -> bool:
    """Whether a column held bytes that spell text: see ``BYTES``."""
    return bool(field.metadata and field.metadata.get(b"whet.nested") == b"bytes")


def stated_target(schema: pa.Schema) -> str | None:
    """The column that is marked as the target, see ``TARGET``."""
    return next((field.name for field in schema if field.metadata and b"whet.target" in field.metadata), None)


def is_raw(kind: pa.DataType) -> bool:
    """Whether a column of this type holds bytes as they are, such as whole files."""
    return bool(pa.types.is_large_binary(kind))


def raw_columns(table: pa.Table) -> frozenset[str]:
    """Columns of bytes, alone or beside the name of the file that they are of, whose first values spell no text."""
    found = set()
    for field in table.schema:
        if _holds_bytes(field.type):
            column = table.column(field.name)
            some = column.filter(column.is_valid()).slice(0, PEEKED).to_pylist()
            bare = [value["bytes"] if isinstance(value, dict) else value for value in some]
            held = [value for value in bare if value is not None]
            if held and not any(_spells_text(value) for value in held):
                found.add(field.name)
    return frozenset(found)


def plain_schema(schema: pa.Schema, raw: frozenset[str] = frozenset()) -> pa.Schema:
    """The schema that ``plain_table`` gives.

    Args:
        raw: Columns whose bytes stay as they are, see ``raw_columns``.
    """
    fields = []
    for field in schema:
        kept = {key: value for key, value in (field.metadata or {}).items() if key.startswith(b"whet.")}
        nested = (BYTES if pa.types.is_binary(field.type) else NESTED) if _keeps_structure(field.type) else kept
        if field.name in raw:
            fields.append(pa.field(field.name, pa.large_binary()))
        else:
            fields.append(pa.field(field.name, _plain_type(field.type), metadata=nested or None))
    return pa.schema(fields)


def plain_table(table: pa.Table, raw: frozenset[str] | None = None) -> pa.Table:
    """Text as ``string``, dictionaries as their values, structures as JSON text; other columns as they are.

    Args:
        raw: Columns whose bytes stay as they are; None to look.
    """
    schema = plain_schema(table.schema, raw_columns(table) if raw is None else raw)
    columns = [_plain_column(table.column(i), field.type) for i, field in enumerate(schema)]
    return pa.Table.from_arrays(columns, schema=schema)


def kind_of(values: Iterable[Any], kind: Kind = "null") -> Kind:
    """The narrowest kind that holds all values, starting from what earlier values needed."""
    for value in values:
        if value is not None:
            kind = _join(kind, _kind_of_value(value))
    return kind


def column_of(values: Sequence[Any], kind: Kind) -> pa.Array:
    """Python values as an Arrow column of one kind; mixed scalars become text, what is nested JSON text."""
    if kind == "nested":
        return _texts([None if value is None else _as_json(value) for value in values])
    if kind in LISTS:
        return _lists(values, _ARROW[kind])
    values = [None if _is_empty_list(value) else value for value in values]
    if kind == "text":
        return _texts([None if value is None else text_of(value) for value in values])
    try:
        return pa.array(values, _ARROW[kind])
    except (pa.ArrowInvalid, OverflowError):  # integers beyond 64 bits
        return _texts([None if value is None else text_of(value) for value in values])


def _texts(values: list[str | None]) -> pa.Array:
    """Half a surrogate pair, which is no character, becomes U+FFFD."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([None if value is None else whole_characters(value) for value in values], pa.string())


def _lists(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A single value among lists is a list of one; NaN is a missing one."""
    given = [None if isinstance(value, float) and value != value else value for value in values]
    listed = [value if value is None or _is_list_value(value) else [value] for value in given]
    if pa.types.is_string(kind.value_type):
        listed = [row if row is None else [v if v is None else text_of(v) for v in row] for row in listed]
    try:
        return pa.array(listed, kind)
    except UnicodeEncodeError:
        whole = [None if row is None else [None if v is None else whole_characters(v) for v in row] for row in listed]
        return pa.array(whole, kind)
    except (pa.ArrowInvalid, OverflowError):  # integers that no float64 tells apart
        texts = [None if row is None else [None if v is None else text_of(v) for v in row] for row in listed]
        return pa.array(texts, pa.list_(pa.string()))


def whole_characters(text: str) -> str:
    """The text with U+FFFD where half a surrogate pair stands."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def halved(values: Sequence[Any], column: pa.Array) -> list[int]:
    """Places of the values of which half a surrogate pair is U+FFFD in the column that was made of them."""
    texts = pc.list_flatten(column) if is_list(column.type) else column
    if not is_text(texts.type) or not pc.any(pc.match_substring(texts, "\ufffd")).as_py():
        return []
    spelled = [value if isinstance(value, str) else _as_json(value) for value in values]
    return [n for n, text in enumerate(spelled) if whole_characters(text).count("\ufffd") > text.count("\ufffd")]


def field_of(name: str, kind: Kind) -> pa.Field:
    """The schema entry of a column of this kind; U+FFFD where half a surrogate pair stands in its name."""
    return pa.field(whole_characters(name), _ARROW[kind], metadata=NESTED if kind == "nested" else None)


def text_of(value: Any) -> str:
    """A scalar as a person would write it: 1.0 is '1', True is 'true'."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating) and float(value).is_integer() and abs(float(value)) < 2**53:
        return str(int(value))
    return str(value)


_ARROW: Mapping[Kind, pa.DataType] = {
    "null": pa.string(),
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "text": pa.string(),
    "empty list": pa.list_(pa.string()),
    "text list": pa.list_(pa.string()),
    "number list": pa.list_(pa.float64()),
    "nested": pa.string(),
}


def _join(one: Kind, other: Kind) -> Kind:
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    pair = {one, other}
    if pair == {"integer", "number"}:
        return "number"
    if "empty list" in pair:  # no label among lists; among single values it stands for none
        return one if other == "empty list" else other
    if pair == {"text list", "text"} or ("number list" in pair and pair & {"integer", "number"}):
        return "text list" if "text list" in pair else "number list"  # a label by itself
    return "nested" if pair & {"nested", *LISTS} else "text"


def _kind_of_value(value: Any) -> Kind:
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, int):
        return "integer" if value.bit_length() < 64 else "text"
    if isinstance(value, np.integer):
        return "integer"
    if isinstance(value, float | np.floating):
        return "number"
    if _is_list_value(value):
        return _kind_of_list(list(value))
    return "nested" if isinstance(value, Mapping) else "text"


def _is_list_value(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray)


def _is_empty_list(value: Any) -> bool:
    return _is_list_value(value) and len(value) == 0


def _kind_of_list(values: list[Any]) -> Kind:
    inner = {_kind_of_value(value) for value in values if value is not None}
    if not inner:
        return "empty list"  # which fits any list
    if inner in ({"text"}, {"boolean"}):
        return "text list"
    return "number list" if inner <= {"integer", "number"} else "nested"


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _as_spelled(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return str(value)


def _spells_text(value: bytes) -> bool:
    try:
        return "\0" not in value.decode()
    except UnicodeDecodeError:
        return False


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _holds_bytes(kind: pa.DataType) -> bool:
    """Bytes, or an object of bytes and a path, as the datasets library keeps files."""
    if pa.types.is_struct(kind):
        names = {field.name: field.type for field in kind}
        return set(names) <= {"bytes", "path"} and "bytes" in names and _is_binary(names["bytes"])
    return _is_binary(kind)


def _keeps_structure(kind: pa.DataType) -> bool:
    if is_list(kind):
        inner = kind.value_type.value_type if pa.types.is_dictionary(kind.value_type) else kind.value_type
        return not (is_text(inner) or is_number(inner) or pa.types.is_boolean(inner) or pa.types.is_null(inner))
    return bool(
        pa.types.is_struct(kind) or pa.types.is_map(kind) or pa.types.is_union(kind) or pa.types.is_binary(kind)
    )


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if is_text(kind) or pa.types.is_null(kind) or _keeps_structure(kind) or isinstance(kind, pa.BaseExtensionType):
        return pa.string()
    if is_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    if not pa.types.is_decimal(kind):
        return kind
    if kind.scale > 0:
        return pa.float64()
    return pa.int64() if kind.precision <= 18 else pa.string()  # whole numbers stay what they are


def _plain_column(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    if column.type == wanted:
        return column
    if is_raw(wanted):
        bare = pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
        return pc.cast(bare, wanted)
    if _keeps_structure(column.type):
        spelled = _as_spelled if pa.types.is_binary(column.type) else _as_json
        return pa.chunked_array([_texts([None if value is None else spelled(value) for value in column.to_pylist()])])
    if pa.types.is_dictionary(column.type):
        column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type)
        return _plain_column(column, wanted)
    try:  # a type of another library stands for something else than what it is stored as; a cast view may be damaged
        if not (isinstance(column.type, pa.BaseExtensionType) or _is_view(column.type)):
            return pc.cast(column, wanted)
    except pa.ArrowNotImplementedError:  # lists of dictionaries
        pass
    values = column.to_pylist()
    if not is_list(wanted):
        return pa.chunked_array([column_of(values, "text")])
    if pa.types.is_decimal(column.type.value_type) and not is_text(wanted.value_type):
        number = float if pa.types.is_floating(wanted.value_type) else int
        values = [None if row is None else [None if v is None else number(v) for v in row] for row in values]
    return pa.chunked_array([_lists(values, wanted)])
