"""A suite's own report as a part of a page: its tables, figures and words as they are, its pictures in files.

Only elements and attributes that reports are made of come through: a page of the site runs no script but its own.
"""

import base64
import binascii
import html
import re
from html.parser import HTMLParser
from pathlib import Path

from eval.site.media import Media, slug

TAGS = {"h2", "h3", "p", "b", "i", "code", "br", "div", "span", "ul", "li", "figure", "figcaption", "img", "video"}
TAGS |= {"table", "tr", "th", "td"}
EMPTY = {"img", "br"}  # without an end
ATTRIBUTES = {"class", "id", "alt", "colspan", "controls", "loop", "muted", "playsinline"}
SILENT = {"style", "script", "title", "h1", "head", "template"}  # what is in them is left out
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "video/mp4": ".mp4"}
DATA = re.compile(r"data:([a-z0-9/+.-]+);base64,([A-Za-z0-9+/=\s]+)")


class Fragment(HTMLParser):
    """What stands in a report's body after its heading; `title` is that heading, `contents` its (anchor, words)."""

    def __init__(self, report: Path, media: Media) -> None:
        super().__init__(convert_charrefs=True)
        self.folder, self.media, self.stem = report.parent, media, slug(report.parent.name)
        self.title, self.contents, self.missing = "", list[tuple[str, str]](), list[str]()
        self._parts: list[str] = []
        self._silent: list[str] = []
        self._heading: list[str] | None = None
        self._anchor = ""
        self._lost = 0  # videos without a file, whose ends are left out too
        self.feed(report.read_text())
        self.close()
        self.title = " ".join(self.title.split())

    @property
    def html(self) -> str:
        return "".join(self._parts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in SILENT:
            self._silent.append(tag)
        if self._silent or tag not in TAGS:
            return
        given = {name: value or "" for name, value in attrs}
        kept = {name: value for name, value in given.items() if name in ATTRIBUTES}
        if tag == "h2":
            self._anchor, self._heading = given.get("id", ""), []
            return
        if tag in ("img", "video"):
            link = self._link(given.get("src", ""))
            if link is None:
                self.missing.append(given.get("alt") or tag)
                self._parts.append(f'<span class="note">[missing: {html.escape(given.get("alt") or tag)}]</span>')
                self._lost += tag == "video"
                return
            kept = {"src": link, **kept} | ({"preload": "metadata"} if tag == "video" else {})
        words = "".join(f' {name}="{html.escape(value)}"' for name, value in kept.items())
        around = {"table": '<div class="scroll">', "img": f'<a href="{html.escape(kept.get("src", ""))}">'}.get(tag, "")
        self._parts.append(f"{around}<{tag}{words}>{'</a>' if tag == 'img' else ''}")

    def handle_endtag(self, tag: str) -> None:
        if self._silent:
            if tag == self._silent[-1]:
                self._silent.pop()
        elif tag == "h2" and self._heading is not None:
            words = " ".join("".join(self._heading).split())
            anchor, self._heading = slug(self._anchor or words), None
            self.contents.append((anchor, words))
            self._parts.append(f'<h2 id="{anchor}">{html.escape(words)}</h2>')
        elif tag == "video" and self._lost:
            self._lost -= 1
        elif tag in TAGS - EMPTY:
            self._parts.append(f"</{tag}></div>" if tag == "table" else f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if self._silent:
            self.title += data if self._silent[-1] == "h1" else ""
        elif self._heading is not None:
            self._heading.append(data)
        else:
            self._parts.append(html.escape(data, quote=False))

    def _link(self, source: str) -> str | None:
        """Where on the site a picture is that stands in the report, or beside it; None where it is neither."""
        if embedded := DATA.fullmatch(source):
            try:
                data = base64.b64decode(embedded[2], validate=True)
            except binascii.Error:
                return None
            return self.media.write(data, self.stem, SUFFIXES[embedded[1]]) if embedded[1] in SUFFIXES else None
        beside = (self.folder / source).resolve()
        inside = beside.is_relative_to(self.folder.resolve()) and beside.suffix in SUFFIXES.values()
        return self.media.add(beside) if inside and beside.is_file() else None
