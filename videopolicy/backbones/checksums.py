"""What identifies a video model: its folder's files, and its weights however they are stored."""

import hashlib
import re
from pathlib import Path

from torch import nn

CARD = "README.md"


def listing(folder: Path) -> str:
    """Lines `sha256  path` of every file of a folder but its card, as `sha256sum` writes and checks them."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name != CARD)
    return "".join(f"{_sha256(f)}  {f.relative_to(folder)}\n" for f in files)


def damage(folder: Path) -> str | None:
    """What differs from the checksums in a folder's card; None where nothing does, or the card holds none."""
    card = folder / CARD
    listed = re.findall(r"^([0-9a-f]{64})  (\S+)$", card.read_text(), re.MULTILINE) if card.is_file() else []
    for digest, name in listed:
        if not (folder / name).is_file():
            return f"{name} is missing"
        if _sha256(folder / name) != digest:
            return f"{name} was altered"
    return None


def digest(*networks: nn.Module, salt: str = "") -> str:
    """What identifies weights, to half precision."""
    found = hashlib.sha256(salt.encode())
    for network in networks:
        for name, value in sorted(network.state_dict().items()):
            found.update(name.encode() + value.detach().half().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
