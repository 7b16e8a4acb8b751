"""The claims table in docs/RESULTS.md: every number of the manuscripts, what measures it here, and what came out.

python -m eval.claims            write the table into docs/RESULTS.md, between its two marks; the rest stays
python -m eval.claims --check    write nothing; exit status 2, and one line for each fault, where
    - a number of the manuscripts (docs/claims/manuscripts) has no row, or an entry of docs/claims or docs/results is
      not as it should be;
    - the table is not what these files make of it;
    - README.md or a document under docs, but for LOG.md (a diary) and RESULTS.md, quotes a figure that was not
      measured; what counts as one is said in eval/claims/quotes.py.
"""

import argparse
import sys
from pathlib import Path

from eval.claims.comparison import Known, Line, compare
from eval.claims.listing import fill, read_mapping
from eval.claims.manuscripts import Cell, read_manuscripts
from eval.claims.markdown import insert, render, without_section
from eval.claims.quotes import FILE, Quote, check, gather
from eval.claims.results import Result, read_results
from eval.claims.rows import read_tables
from videopolicy.config import guarded
from videopolicy.data.files import reading, replace
from videopolicy.errors import BadInput

TARGET = "docs/RESULTS.md"
NOT_CHECKED = ("docs/LOG.md", TARGET)


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--root", type=Path, default=Path(), help="of the repository, or of a copy of its documents")
    options = parser.parse_args(args)
    if not (options.root / TARGET).is_file():
        raise BadInput(
            f"there is no {options.root / TARGET}; run it in the repository's folder, or name that by --root"
        )
    faults: list[str] = []
    section, n_numbers, results = claims(options.root, faults)
    document = _read(options.root / TARGET)
    try:
        wanted = insert(document, section)
    except BadInput as error:
        raise BadInput(f"{TARGET} {error}") from error
    if options.check:
        if not faults and wanted != document:
            faults.append(f"{TARGET}: the claims table is not up to date; python -m eval.claims makes it anew")
        faults += quoted(options.root, without_section(document), results)
    if faults:
        print("\n".join(faults), file=sys.stderr)
        raise SystemExit(2)
    if not options.check and wanted != document:
        replace(options.root / TARGET, lambda path: path.write_text(wanted))
    print(f"{n_numbers} numbers of the manuscripts, {len(results)} results: {TARGET} is up to date")


def claims(root: Path, faults: list[str]) -> tuple[str, int, list[Result]]:
    """The table as markdown, how many numbers the manuscripts have, and all results; faults are added to the list."""
    titles, cells = read_manuscripts(root, faults)
    results = read_results(root, faults)
    tables = read_tables(root, faults)
    by_claim: dict[str, list[Cell]] = {}
    for cell in cells:
        by_claim.setdefault(cell.claim, []).append(cell)
    known = Known(by_claim, {r.id: r for r in results}, root)
    compared: list[list[Line | None]] = [compare(table, known, faults) for table in tables]
    rows = {row.claim for table in tables for row in table.rows}
    faults += [f"{cell} has no row in docs/claims/tables" for cell in cells if cell.claim not in rows]
    for table in tables:
        faults += [f"{table.where}: takes {c}, which has no row there" for c in table.takes if c not in rows]
    return (render(titles, tables, compared) if not faults else ""), len(cells), results


def quoted(root: Path, measured: str, results: list[Result]) -> list[str]:
    """Faults of all documents that may quote what was measured."""
    paths = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    names = {path.relative_to(root).as_posix(): path for path in paths if path.is_file()}
    faults: list[str] = []
    listed = read_mapping(root / FILE)
    evidence = gather(measured, results)
    strangers = [name for name in listed if name not in names or name in NOT_CHECKED]
    faults += [f"{FILE}: {n!r} is no document that is checked; allowed: README.md, those under docs" for n in strangers]
    for name, path in names.items():
        if name not in NOT_CHECKED:
            entries = listed.get(name) or []
            quotes = [fill(Quote, entry, f"{FILE}: {name}", faults) for entry in entries]
            faults += check(name, _read(path), [q for q in quotes if q is not None], evidence)
    return faults


def _read(path: Path) -> str:
    with reading(path):
        return path.read_text()


if __name__ == "__main__":
    guarded(main)
