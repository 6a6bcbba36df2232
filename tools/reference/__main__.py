"""Write docs/reference/: `python -m tools.reference`."""

from tools.reference.pages import FOLDER, pages

wanted = pages()
FOLDER.mkdir(exist_ok=True)
for file in FOLDER.glob("*.md"):
    if file.name not in wanted:
        file.unlink()
for name, text in wanted.items():
    (FOLDER / name).write_text(text, "utf-8")
