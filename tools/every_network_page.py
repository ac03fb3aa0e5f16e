"""Fill docs/results/every-network from a finished run of suites/every-network.toml: no figure there is typed by hand.

    python tools/every_network_page.py benchmarks/every-network benchmarks/every-network.json

Copies the leaderboard, the tables and two figures beside the page, and writes the page's table and its provenance from
the leaderboard. A test compares the page with the leaderboard that lies beside it.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from thinslice.experiments.benchmark.leaderboard import LeaderboardRow, read_leaderboard
from thinslice.experiments.document import markdown_table
from thinslice.experiments.text import count_text, mean_text

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "results" / "every-network"
PAGE = FOLDER / "index.md"
LEADERBOARD = "leaderboard.json"
SUITE = "every-network"

BEGIN = "<!-- made by: python tools/every_network_page.py -->\n"
END = "<!-- end -->\n"

COPIED = ("table.md", "table.csv", "cases.csv", "figures/bars.png", "figures/psnr-over-time.png")
"""Files of the run that the page links to."""

HEADS = ("method", "PSNR (dB)", "SSIM", "parameters", "s / volume", "trained")


def rows_of(path: Path) -> list[LeaderboardRow]:
    """The suite's latest row of each method, best PSNR first."""
    latest: dict[str, LeaderboardRow] = {}
    for row in read_leaderboard(path).rows:
        if row.suite == SUITE and (row.label not in latest or latest[row.label].date <= row.date):
            latest[row.label] = row
    return sorted(latest.values(), key=lambda row: float("inf") if row.psnr is None else row.psnr, reverse=True)


def filled(path: Path) -> str:
    """The part of the page between the marks, from a leaderboard.

    Raises:
        ValueError: the leaderboard has no row of the suite; run the suite with --leaderboard first.
    """
    rows = rows_of(path)
    if not rows:
        raise ValueError(f"{path.name} has no row of the suite {SUITE}; run it with --leaderboard first.")
    lines = [
        [
            row.label,
            "infinite" if row.psnr is None else mean_text(row.psnr, row.psnr_sd, 2),
            mean_text(row.ssim, row.ssim_sd, 4),
            count_text(row.parameters),
            f"{row.seconds:.2g}",
            "here" if row.recipe_sha256 and row.place.recipe else "embedded" if row.weights_sha256 else "-",
        ]
        for row in rows
    ]
    first = rows[0]
    commits = ", ".join(sorted({(row.commit or "an installed package")[:12] for row in rows}))
    days = sorted({row.date[:10] for row in rows})
    people = f"{first.patients} patient{'' if first.patients == 1 else 's'}"
    made = (
        f"Protocol {first.protocol}, {first.cases} cases of {people}, factor {first.factor or 'of each pair'}; commit "
        f"{commits}; {' to '.join(dict.fromkeys((days[0], days[-1])))}; data sha256 {first.data_sha256[:16]}."
    )
    return f"{markdown_table(HEADS, lines)}\n\n{made}\n"


def split(page: str) -> tuple[str, str, str]:
    """The page before the marks, between them and after them."""
    before, _, rest = page.partition(BEGIN)
    between, _, after = rest.partition(END)
    return before + BEGIN, between, END + after


def main() -> None:
    """Copy the files and fill the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="--out of thinslice benchmark")
    parser.add_argument("leaderboard", type=Path, help="--leaderboard of thinslice benchmark")
    chosen = parser.parse_args()
    for name in COPIED:
        shutil.copyfile(chosen.results / name, FOLDER / Path(name).name)
    shutil.copyfile(chosen.leaderboard, FOLDER / LEADERBOARD)
    before, _, after = split(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(before + filled(FOLDER / LEADERBOARD) + after, encoding="utf-8")


if __name__ == "__main__":
    main()
