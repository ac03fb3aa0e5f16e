"""Cases of a suite: their choice, the digest of their data, and reading."""

from __future__ import annotations

import hashlib
from pathlib import Path

from thinslice.data.manifest import ALL, Case, Dataset, Pair, content_mark, naming, open_dataset, read_pair
from thinslice.data.simulate import simulate_thick
from thinslice.errors import GeometryError, InputError
from thinslice.io.files import read
from thinslice.profile import SliceProfile
from thinslice.recipes import Suite, SuiteDataset


def dataset_root(dataset: SuiteDataset, folder: Path, data_root: Path | None) -> Path:
    """Folder of the suite's data set: below --data, or else below the suite file's folder."""
    return (folder if data_root is None else data_root) / dataset.root


def open_cases(suite: Suite, data_root: Path | None = None) -> tuple[Dataset, tuple[Case, ...]]:
    """The data set of a suite, and the cases to score.

    Args:
        suite: names root, split and limit.
        data_root: folder that its relative root starts from; None for the suite file's.

    Raises:
        UnreadableError: there is no data set.
        InputError: an unknown layout.
        UsageError: no such split.
    """
    dataset = open_dataset(dataset_root(suite.dataset, suite.folder, data_root))
    return dataset, chosen_cases(dataset, suite.dataset, suite.limit)


def chosen_cases(dataset: Dataset, chosen: SuiteDataset, limit: int | None) -> tuple[Case, ...]:
    """The first `limit` cases of a split, or of all where no split is named or the set has none."""
    whole = chosen.split is None or dataset.splits == (ALL,)
    cases = dataset.cases if whole else dataset.split(str(chosen.split))
    return cases[:limit]


def case_digest(case: Case, chosen: SuiteDataset) -> str:
    """SHA-256 that identifies the voxels of a case: size, first and last bytes of its files, and the way of reading."""
    simulated = chosen.simulate if case.thick is None else None
    parts = (
        content_mark(case.thin),
        "" if case.thick is None else content_mark(case.thick),
        case.layout,
        "" if simulated is None else simulated.model_dump_json(),
    )
    return hashlib.sha256(":".join(parts).encode()).hexdigest()


def cases_digest(cases: tuple[Case, ...], chosen: SuiteDataset) -> str:
    """SHA-256 that identifies the data behind a table: all scored cases by name and content."""
    lines = sorted(f"{case.case_id}:{case_digest(case, chosen)}\n" for case in cases)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_case(case: Case, suite: Suite) -> Pair:
    """A case as a pair, with simulated thick slices where it has none and the suite defines them.

    Raises:
        InputError: the case cannot be read, is misaligned, or has another factor than the suite's; it is named.
    """
    simulated = suite.dataset.simulate
    if case.thick is not None or simulated is None:
        pair = read_pair(case)
    else:
        with naming(case.case_id):
            if case.layout != "true":
                raise InputError("Thick slices are simulated only for volumes in HU with true geometry.")
            if suite.factor is None:
                raise InputError("To simulate thick slices, the suite must state the factor.")
            profile = SliceProfile.named(simulated.profile, suite.factor)
            thick, thin = simulate_thick(read(case.thin), profile, noise_hu=simulated.noise_hu)
            pair = Pair(case.case_id, thick, thin, suite.factor)
    if suite.factor is not None and pair.factor != suite.factor:
        raise GeometryError(
            f"Case {case.case_id}: the pair has factor {pair.factor}, the suite asks for {suite.factor}; leave factor "
            "out of the suite to take each pair's own."
        )
    return pair
