"""Inputs drawn for a reader, most of which are not what they should be, and a verdict on what it does with them."""

import io
import json
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from faults.fault import Outcome
from videopolicy.errors import BadInput

PATIENCE = 10.0  # [s] after which reading counts as hanging
SHELL = "!!python/object/apply:os.system [true]"
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([0, -1, 1e308, "nan", "../../etc/passwd", "null", "yes", SHELL, 10**400]),
)
VALUES = st.recursive(
    SCALARS, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=4), x, max_size=3), max_leaves=6
)


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def fuzz(n: int, strategy: st.SearchStrategy, read: Callable[[Any], object], bomb: Path) -> Outcome:
    """Give `n` drawn inputs to a reader, which must take them or raise `BadInput`, soon, and execute nothing."""
    verdicts: list[str] = []  # of each input; "" where all went as it should

    @settings(
        max_examples=n,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def one(value: Any) -> None:
        started = time.monotonic()
        problem = _problem(lambda: read(value))
        if bomb.exists():
            problem = "it was executed"
        elif time.monotonic() - started > PATIENCE:
            problem = f"it took {time.monotonic() - started:.0f} s"
        verdicts.append(f"{problem}; of {str(value)[:200]}" if problem else "")

    one()
    failed = [verdict for verdict in verdicts if verdict]
    return Outcome(len(verdicts), len(verdicts) - len(failed), 0, failed=failed)


def _problem(read: Callable[[], object]) -> str:
    """What is wrong with how a reader ends; "" for nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
    except BadInput as error:
        return f"several lines: {error}" if "\n" in str(error).split(":\n")[0] else ""
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return ""


def changed(tree: Any) -> st.SearchStrategy:
    """A JSON tree in which one value, anywhere, is another, a key is missing, or one is new."""

    @st.composite
    def draw(draw: st.DrawFn) -> Any:
        copy = deepcopy(tree)
        place, keys = copy, _keys(copy)
        while keys and draw(st.integers(0, 2)):
            inner = place[draw(st.sampled_from(keys))]
            if not _keys(inner):
                break
            place, keys = inner, _keys(inner)
        keys = _keys(place)
        what = draw(st.sampled_from(["change", "change", "change", "drop", "add"]))
        key = draw(st.sampled_from(keys))
        if what == "drop":
            del place[key]
        elif what == "add" and isinstance(place, dict):
            place[draw(st.text(max_size=6))] = draw(VALUES)
        else:
            place[key] = draw(VALUES)
        return copy

    return draw()


def _keys(tree: Any) -> list:
    if isinstance(tree, dict):
        return sorted(tree)
    return list(range(len(tree))) if isinstance(tree, list) else []


def damaged(contents: bytes) -> st.SearchStrategy:
    """Bytes of which some are others, some missing, or all are something else."""
    n = len(contents)
    flips = st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, 255)), min_size=1, max_size=4)
    flipped = flips.map(lambda changes: bytes(_with(contents, changes)))
    return st.one_of(flipped, st.integers(0, n - 1).map(lambda i: contents[:i]), st.binary(max_size=64))


def columns(contents: bytes) -> st.SearchStrategy[bytes]:
    """A sound parquet file of which a column is missing, of another type, empty or far off."""
    table = pq.read_table(io.BytesIO(contents))

    def change(name: str, how: str) -> bytes:
        i, n = table.column_names.index(name), len(table)
        others = {
            "null": pa.nulls(n),
            "text": pa.array(["one"] * n),
            "halves": pa.array([0.5] * n),
            "below": pa.array([-1] * n),
            "huge": pa.array([2**62] * n),
            "lists": pa.array([[1, 2]] * n),
        }
        changed = table.drop_columns([name]) if how == "missing" else table.set_column(i, name, others[how])
        out = io.BytesIO()
        pq.write_table(changed, out)
        return out.getvalue()

    kinds = ["missing", "null", "text", "halves", "below", "huge", "lists"]
    return st.builds(change, st.sampled_from(table.column_names), st.sampled_from(kinds))


def _with(contents: bytes, changes: list[tuple[int, int]]) -> bytearray:
    found = bytearray(contents)
    for i, value in changes:
        found[i] = value
    return found


def as_bytes(tree: Any) -> bytes:
    """A tree as JSON in UTF-8, or as whatever text it is; lone surrogates make it no UTF-8."""
    try:
        text = json.dumps(tree, ensure_ascii=False)
    except (ValueError, TypeError):
        text = str(tree)
    return text.encode(errors="surrogatepass")
