"""Pictures and videos of a site: each once, under a name of its own, beside the pages that link to it."""

import hashlib
import os
import re
import shutil
from pathlib import Path

FOLDER = "media"


class Media:
    """The folder of a site's pictures and videos; what is added comes back as the link of a page beside it."""

    def __init__(self, site: Path) -> None:
        self.folder = site / FOLDER
        self.folder.mkdir(parents=True)

    def add(self, path: Path) -> str:
        """A file, of which no second copy is made where the file system can do without one."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        to = self._place(path.stem, digest, path.suffix)
        if not to.exists():
            try:
                os.link(path.resolve(), to)
            except OSError:  # another file system, or one that has no links
                shutil.copyfile(path, to)
        return f"{FOLDER}/{to.name}"

    def write(self, data: bytes, stem: str, suffix: str) -> str:
        to = self._place(stem, hashlib.sha256(data).hexdigest(), suffix)
        to.write_bytes(data)
        return f"{FOLDER}/{to.name}"

    def _place(self, stem: str, digest: str, suffix: str) -> Path:
        return self.folder / f"{slug(stem)}-{digest[:12]}{suffix.lower()}"


def slug(text: str) -> str:
    """A name for a file or an anchor, of letters that need no quoting anywhere."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"
