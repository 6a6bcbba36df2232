"""Files of the host that a recipe puts into the guest."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from testbed.image.cpio import Tree, regular
from testbed.image.kinds import absolute_path
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: what the test bed needs where it is
OURS = ("/init", "/bin/busybox")
#: init mounts something over them
COVERED = ("dev", "proc", "sys", "tmp")


def _check_guest_path(text: str) -> str:
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or str(path) != text or len(path.parts) < 2:
        raise ValueError("wanted the file's full path in the guest, such as /usr/bin/tool")
    if text in OURS:
        raise ValueError("belongs to the test bed")
    if path.parts[1] in COVERED:
        raise ValueError(f"cannot be seen: the guest mounts something over /{path.parts[1]}")
    return text


class HostFile(BaseModel):
    """A file of the host and its place in the guest; a dynamically linked program's libraries come along."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    host: Annotated[str, StringConstraints(min_length=1)]  #: relative to the recipe's folder
    guest: Annotated[str, AfterValidator(_check_guest_path)]
    # a text: YAML reads 0755 as octal and 755 as decimal
    mode: Annotated[str, StringConstraints(pattern=r"^[0-7]{3,4}$")] | None = (
        None  #: None: 0755 for programs, else 0644
    )

    @property
    def path(self) -> Path:
        """Return the file on the host; raise InputError if it is not one."""
        path = Path(self.host)
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise InputError(f"files: {path} (for {self.guest}): {what}", hint="name each file")
        return path

    def relative_to(self, folder: Path) -> HostFile:
        """Return the file with its host path made absolute, beginning at this folder."""
        return self.model_copy(update={"host": absolute_path(self.host, folder)})

    def permissions(self) -> int:
        """Return the file's permissions in the guest."""
        if self.mode:
            return int(self.mode, 8)
        return 0o755 if os.access(self.path, os.X_OK) else 0o644


def read_files(files: Iterable[HostFile]) -> Tree:
    """Return the files as they stand in the guest; raise InputError for one that cannot be read."""
    tree: Tree = {}
    for file in files:
        try:
            tree[file.guest.lstrip("/")] = regular(file.path.read_bytes(), file.permissions())
        except OSError as error:
            raise InputError(f"files: {file.host} (for {file.guest}): {error.strerror}") from None
    return tree
