"""mkdocs hook: README, CONTRIBUTING and CHANGELOG as pages of the site, with links that lead there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parents[1]
#: pages that stand outside docs/, where people look for them first, and their places in the site
_OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_LINK = re.compile(r"(\]\(|^\[[^\]]+\]: )(?!\w+:)([^)#\s]+)", re.MULTILINE)
#: a whole line that names a script next to the page, in docs/findings
_SCRIPT = re.compile(r"^.*\[([\w-]+\.sh)\]\(\1\)$", re.MULTILINE)
_SOURCE = re.compile(r"\[([^\]]*)\]\(\.\./testbed/[^)]*\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand outside docs/."""
    for name, place in _OUTSIDE.items():
        files.append(File.generated(config, place, content=(_ROOT / name).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Return a page whose links lead to places in the site; source files are named, not linked, and scripts quoted."""
    outside = page.file.src_uri in _OUTSIDE.values()
    folder = _ROOT / "docs" / Path(page.file.src_uri).parent

    def quoted(match: re.Match[str]) -> str:
        return f"{match[0]}\n\n```sh\n{(folder / match[1]).read_text('utf-8')}```"

    def there(match: re.Match[str]) -> str:
        target = match[2].removeprefix("docs/") if outside else match[2].removeprefix("../")
        if outside or match[2].startswith("../"):
            target = _OUTSIDE.get(target, target if outside else match[2])
        return match[1] + target

    return _LINK.sub(there, _SOURCE.sub(r"\1", _SCRIPT.sub(quoted, markdown)))
