"""An image recipe: `guest-images/NAME.yaml`, which kernel, modules and tools a guest gets."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from testbed.image.apt import AptKernel
from testbed.model.catalog import RECIPES
from testbed.model.errors import InputError
from testbed.model.yaml_reader import parse_yaml, read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.image.source import KernelSource
    from testbed.model.yaml_reader import Document

#: the word before the colon of `kernel:` -> (what must follow it, who makes a source of the match)
KINDS: dict[str, tuple[str, Callable[[re.Match[str]], KernelSource]]] = {
    "apt": (
        r"(?P<package>[a-z0-9][a-z0-9+.-]+)(@(?P<suite>([A-Za-z0-9._/-]|\{codename\})+))?",
        lambda match: AptKernel(package=match["package"], suite=match["suite"]),
    ),
}


def _check_kernel(text: str) -> str:
    kind, _, rest = text.partition(":")
    if kind not in KINDS or not re.fullmatch(KINDS[kind][0], rest):
        raise ValueError("wanted apt:PACKAGE or apt:PACKAGE@SUITE, where SUITE may hold {codename}")
    return text


ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]
ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._+-]+$")]


class Recipe(BaseModel):
    """What an image is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str
    kernel: Annotated[str, AfterValidator(_check_kernel)]  #: where it comes from, `KIND:WHAT`
    modules: tuple[ModuleName, ...] = ()  #: what they depend on comes along
    tools: tuple[ToolName, ...] = ()  #: programs of the host, taken with their libraries

    def canonical(self) -> str:
        """Return what of the recipe decides the image's content, as one text."""
        return json.dumps(self.model_dump(exclude={"description"}), sort_keys=True)

    def source(self) -> KernelSource:
        """Return where the kernel comes from."""
        kind, _, rest = self.kernel.partition(":")
        pattern, make = KINDS[kind]
        match = re.fullmatch(pattern, rest)
        assert match, "validated"
        return make(match)


def load_recipe(name: str) -> Recipe:
    """Read the recipe called `name`; raise InputError with file and line of what is wrong in it."""
    path = RECIPES.find(name)
    return _only_document(read_yaml(path), str(path))


def parse_recipe(text: str, *, source: str) -> Recipe:
    """Read a recipe from YAML text; `source` is what messages call it."""
    return _only_document(parse_yaml(text, source=source), source)


def _only_document(documents: list[Document], source: str) -> Recipe:
    if len(documents) != 1:
        raise InputError(f"{source}: a recipe is one YAML document, found {len(documents)}")
    return documents[0].validate(Recipe)
