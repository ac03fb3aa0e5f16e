"""The command `train`: recipes from elsewhere, messages, interruption, and places that cannot be written."""

from __future__ import annotations

from pathlib import Path

from support.command_line import Run


def test_a_recipe_from_elsewhere_overwrites_nothing_outside_its_folder(tmp_path: Path, run: Run) -> None:
    victim = tmp_path / "victim.safetensors"
    victim.write_text("precious")
    for name in ("../../victim", "/absolute"):
        recipe = tmp_path / "r.toml"
        recipe.write_text(f'name = "{name}"\ndata = ["vol"]\n[network]\nname = "thinnet"\n')
        done = run("train", recipe, "--out", tmp_path / "runs" / "one")
        assert done.code == 2 and "r.toml, name: a name becomes a file" in done.err
    assert victim.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.toml", "victim.safetensors"]
