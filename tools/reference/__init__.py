"""Pages of docs/reference/, written from the code, so that they cannot say anything else."""

from tools.reference.pages import FOLDER, pages

__all__ = ["FOLDER", "pages"]
