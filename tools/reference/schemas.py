"""What `--json` writes, as tables made from the JSON Schemas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from testbed.report.json_file import schema
from tools.reference.markdown import first_paragraph, table, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SCHEMAS = ("run", "compare", "bisect", "matrix")


def schemas() -> Iterator[str]:
    """Yield the page of what each command writes."""
    yield from (
        "# JSON",
        "",
        "What `--json FILE` writes; `testbed schema COMMAND` prints the JSON Schema these tables are made from.",
        "",
    )
    for command in _SCHEMAS:
        document = json.loads(schema(command))
        yield from (f"## {command}", "")
        yield from _object(document)
        for name, each in sorted(document.get("$defs", {}).items()):
            if "properties" in each:
                yield from (f"### {command}: {words(name)}", "", first_paragraph(each.get("description", "")), "")
                yield from _object(each)
            else:
                values = ", ".join(f"`{value}`" for value in each.get("enum", ()))
                yield from (
                    f"### {command}: {words(name)}",
                    "",
                    f"{first_paragraph(each.get('description', ''))} {values}".strip(),
                    "",
                )


def _object(document: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (f"`{name}`", _json_type(each), each.get("description", "")) for name, each in document["properties"].items()
    ]
    yield from table(("key", "type", "what it is"), rows)


def _json_type(each: Mapping[str, Any]) -> str:
    if "$ref" in each:
        return words(each["$ref"].rpartition("/")[2])
    if "anyOf" in each:
        return " or ".join(dict.fromkeys(_json_type(one) for one in each["anyOf"]))
    if "enum" in each or "const" in each:
        return ", ".join(f"`{value}`" for value in each.get("enum", [each.get("const")]))
    if each.get("type") == "array":
        return f"list of {_json_type(each.get('items', {}))}"
    return str(each.get("type", "anything"))
