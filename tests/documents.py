"""What documents say that a machine can look at: commands, options, names of files, links, blocks of Python."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "weights/svd-tiny/README.md", *(ROOT / "docs").rglob("*.md")]
)
SHELLS = ("bash", "sh", "shell", "console")
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```", re.M | re.S)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.S)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.M)
PROGRAMS = ["make", "python", "accelerate", "pip", "conda", "hf", "tensorboard", "rerun", "source", "git", "cd"]


@dataclass(frozen=True)
class Words:
    """A piece of a document."""

    document: str  # path in the repository
    line: int
    text: str
    in_prose: bool = True  # between backticks, not in a block

    @property
    def where(self) -> str:
        return f"{self.document}:{self.line}"


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path) -> list[tuple[str, Words]]:
    """Fenced blocks: language and content."""
    text = path.read_text()
    return [
        (m[2], Words(name_of(path), text.count("\n", 0, m.start()) + 2, m[3], in_prose=False))
        for m in _FENCE.finditer(text)
    ]


def spans(path: Path) -> list[Words]:
    """Code between backticks, white space as single blanks."""
    text = _FENCE.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), path.read_text())
    return [
        Words(name_of(path), text.count("\n", 0, m.start()) + 1, " ".join(m[2].split())) for m in _SPAN.finditer(text)
    ]


def commands(path: Path) -> list[Words]:
    """Every line of a shell's block, and every span that begins with a program's name."""
    found = []
    for language, block in blocks(path):
        if language in SHELLS:
            found += _lines(block)
    for span in spans(path):
        first, _, rest = span.text.partition(" ")
        if first in PROGRAMS and rest:
            found.append(span)
    return found


def unlabelled_commands(path: Path) -> list[Words]:
    """Lines of blocks without a language that look like commands: they would not be checked."""
    starts = tuple(f"{p} " for p in ("make", "python", "accelerate", "pip", "conda"))
    lines = [line for language, block in blocks(path) if language not in SHELLS for line in _lines(block)]
    return [line for line in lines if line.text.startswith(starts)]


def _lines(block: Words) -> list[Words]:
    """A block's lines, those that end in a backslash joined, without empty ones and those that are comments."""
    found: list[Words] = []
    number, parts = block.line, []
    for i, line in enumerate(block.text.splitlines()):
        number = number if parts else block.line + i
        parts.append(line.removesuffix("\\").strip())
        if not line.endswith("\\"):
            text = " ".join(parts).removeprefix("$ ")
            if text and not text.startswith("#"):
                found.append(Words(block.document, number, text, in_prose=False))
            parts = []
    return found


def links(path: Path) -> list[Words]:
    """Addresses of links and pictures."""
    text = _FENCE.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), path.read_text())
    text = _SPAN.sub(lambda m: re.sub(r"[^\n]", " ", m[0]) if "](" not in m[0] else m[0], text)
    return [Words(name_of(path), text.count("\n", 0, m.start()) + 1, m[1]) for m in _LINK.finditer(text)]


def anchors(path: Path) -> set[str]:
    """Of a document's headings, as GitHub makes them."""
    text = _FENCE.sub("", path.read_text())
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(text))
    return {heading.strip().replace(" ", "-") for heading in kept}


def files(path: Path) -> list[Words]:
    """Sources, configurations, documents named in spans and trees; folders that a tree's lines begin with."""
    trees = [block for language, block in blocks(path) if not language]
    name = r"(?<![\w./<*-])(?:[\w-]+/)*[\w-]+\.(?:py|yaml|md|toml|j2)(?![\w*(/])"
    found = [(p, m) for p in spans(path) + trees for m in re.findall(name, p.text)]
    found += [(tree, m.removesuffix("/")) for tree in trees for m in re.findall(r"^ *([\w/-]+/) ", tree.text, re.M)]
    return [Words(piece.document, piece.line, words, piece.in_prose) for piece, words in found]
