"""Pages of reports."""

from pathlib import Path
from typing import Any

import jinja2

from videopolicy.names import label


def page(template: Path, **values: Any) -> str:
    """A template, rendered; it may use those beside it and those of this folder. A value that is missing is an error.

    Filter `label`: a policy's name as in `names.py`.
    """
    folders = [template.parent, Path(__file__).parent]
    loader, strict = jinja2.FileSystemLoader(folders), jinja2.StrictUndefined
    templates = jinja2.Environment(autoescape=True, loader=loader, undefined=strict)
    templates.filters["label"] = label
    return templates.get_template(template.name).render(**values)
