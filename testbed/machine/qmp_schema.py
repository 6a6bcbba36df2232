"""QmpSchema: what a QMP command takes, as QEMU's own schema has it (`query-qmp-schema`, docs/devel/qapi-code-gen)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from testbed.machine.qmp import Qmp


class QmpSchema:
    """The commands of one QEMU."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._entities = {entry["name"]: entry for entry in entries}

    @classmethod
    async def of(cls, qmp: Qmp) -> Self:
        """Ask QEMU for it."""
        return cls(await qmp.execute_unlogged("query-qmp-schema", {}))

    @property
    def commands(self) -> list[str]:
        """Return the names of all commands."""
        return sorted(name for name, entry in self._entities.items() if entry["meta-type"] == "command")

    @property
    def events(self) -> list[str]:
        """Return the names of all events."""
        return sorted(name for name, entry in self._entities.items() if entry["meta-type"] == "event")

    def kinds(self, command: str, arguments: Mapping[str, str]) -> dict[str, str]:
        """Return the JSON type of each argument that a command takes: `int`, `boolean`, `string`, `number`, `object`…

        Where one argument decides on others, as `qom-type` does in `object-add`, its value counts. Nothing is known of
        an unknown command's.
        """
        entry = self._entities.get(command, {})
        return self._members(entry.get("arg-type", ""), arguments)

    def _members(self, type_name: str, arguments: Mapping[str, str]) -> dict[str, str]:
        entity = self._entities.get(type_name, {})
        kinds = {member["name"]: self._json_type(member["type"]) for member in entity.get("members", ())}
        case = arguments.get(entity.get("tag", ""))
        for variant in entity.get("variants", ()):
            if variant["case"] == case:
                kinds |= self._members(variant["type"], arguments)
        return kinds

    def _json_type(self, type_name: str) -> str:
        entity = self._entities.get(type_name, {})
        return str({"builtin": entity.get("json-type"), "enum": "string"}.get(entity.get("meta-type", ""), "value"))
