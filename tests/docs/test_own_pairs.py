"""The page on own pairs works as typed, from DICOM to thin slices of a network of one's own, on phantoms."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import thinslice
from support.hospital import write_scan
from support.snippets import DOCS, PROJECT, Runner, blocks
from thinslice.data.phantoms.painting import render
from thinslice.data.phantoms.thorax import phantom_grid, thorax
from thinslice.models import checkpoint

FEWER = {
    "steps = 1000": "steps = 2",
    "depth = 8": "depth = 3",
    "plane = 96": "plane = 16",
    "factors = [2, 3, 4, 5, 5, 6, 7, 8]": "factors = [2, 3]",
    'start = "default"': 'start = "fast"',
}
"""Lines of the recipe, which a test has no time for -> others."""


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Three studies of a thick and a thin series of one phantom each."""
    folder = tmp_path / "inputs"
    for seed in range(3):
        chest = render(thorax(seed + 1), phantom_grid((45, 40, 40), (1.0, 4.5, 4.5)))
        write_scan(folder / "hospital-dicom" / f"study-{seed}", seed, hu=chest.hu)
    return folder


def test_the_page_runs_as_typed(
    runner: Callable[..., Runner], inputs: Path, small_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = runner(inputs)
    shutil.copy(small_files / "thick.nii.gz", "thick.nii.gz")
    Path("recipes").unlink()
    shutil.copytree(PROJECT / "recipes", "recipes")
    recipe = Path("recipes/finetune.toml")
    text = recipe.read_text(encoding="utf-8")
    for line, other in FEWER.items():
        assert line in text
        text = text.replace(line, other)
    recipe.write_text(text, encoding="utf-8")

    page = DOCS / "how-to" / "train-on-your-own-pairs.md"
    wanted = ("dataset build hospital-dicom/ pairs/", "dataset verify", "finetune.toml", "upscale thick")
    typed = [block for block in blocks(page) if block.language == "bash" and any(w in block.text for w in wanted)]
    assert len(typed) == 4
    for block in typed:
        running.run(block)

    printed = capsys.readouterr().out
    assert "left out              cubic  start  with profile  trained   gain" in printed
    thick, thin = thinslice.read("thick.nii.gz"), thinslice.read("thin.nii.gz")
    assert len(thin.hu) == 5 * (len(thick.hu) - 1) + 1
    card = checkpoint.inspect(Path("runs/mine/mine.safetensors")).card
    assert len(card["leave_one_out"]["patients"]) == 3 and card["slice_profile"]["thick_spacing_mm"] == 5.0
