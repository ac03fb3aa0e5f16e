"""Suites: errors that name the place, and where relative paths start."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from thinslice.errors import UsageError
from thinslice.experiments.benchmark.published import PUBLISHED, published
from thinslice.recipes import Suite, overridden, read_suite, read_train_recipe

PROJECT = Path(__file__).parents[2]

SUITE = """
name = "tiny"
dataset = {root = "data"}
methods = [{label = "cubic", model = "cubic"}, {label = "ours", model = "default", published = "tvsrn"}]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "suite.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_suite_has_its_folder_and_is_frozen(tmp_path: Path) -> None:
    suite = read_suite(written(tmp_path, SUITE))
    assert suite.folder == tmp_path.resolve()
    assert suite.protocols == ("rplhr",) and suite.comparisons[0].kind == "above"
    with pytest.raises(ValidationError):
        suite.limit = 3
    smaller = suite.model_copy(update={"limit": 1})
    assert smaller.folder == suite.folder and smaller.digest != suite.digest
    assert read_suite(written(tmp_path, SUITE + "\n# a comment")).digest == suite.digest


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('folder = "x"', "folder"),
        ("factor = 9", "factor"),
        ("limit = 0", "limit"),
        ('name = "../x"', "name"),
        ('protocols = ["rplhr", "rplhr"]', "twice"),
        ('protocols = ["psnr"]', "protocols"),
        ('comparisons = [{kind = "others"}]', "names the method tested"),
        ('comparisons = [{kind = "others", tested = "nobody"}]', "no method's label"),
        ('comparisons = [{kind = "above", tested = "ours"}]', "does not"),
        ('figures = {methods = ["nobody"]}', "no method's label"),
        ("figures = {region = {depth = [5, 5]}}", "range"),
        ('figures = {rows = [["axial", "brain"]]}', "figures"),
        ('methods = [{label = "a", model = "cubic"}, {label = "a", model = "linear"}]', "two methods"),
        ('methods = [{label = "a"}]', "either model or recipe"),
        ('methods = [{label = "a", model = "cubic", recipe = "x.toml"}]', "either model or recipe"),
        ('methods = [{label = "a", model = "cubic", override = {x = 1}}]', "no recipe to override"),
        ('methods = [{label = "a", model = "cubic", plan = "best"}]', "plan"),
        ("methods = []", "methods"),
    ],
)
def test_what_a_suite_refuses(tmp_path: Path, change: str, expected: str) -> None:
    key = change.partition(" ")[0]
    kept = [line for line in SUITE.splitlines() if not line.startswith(f"{key} ")]
    with pytest.raises(UsageError, match="suite.toml") as refused:
        read_suite(written(tmp_path, "\n".join([*kept, change])))
    assert expected in str(refused.value)


def test_no_file_and_no_toml(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no file"):
        read_suite(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="not a TOML file"):
        read_suite(written(tmp_path, "methods = ["))


def test_every_value_changes_the_digest(tmp_path: Path) -> None:
    base = read_suite(written(tmp_path, SUITE))
    changes = {"seed": 1, "factor": 5, "plan": "paper", "limit": 2, "title": "x", "protocols": ("clinical",)}
    digests = {base.model_copy(update={name: value}).digest for name, value in changes.items()}
    assert len(digests | {base.digest}) == len(changes) + 1


def test_published_numbers_are_those_of_the_specification(shared: Path) -> None:
    text = (shared / "spec" / "protocol.md").read_text(encoding="utf-8")
    section = text[text.index("## Published numbers") :]
    for row in PUBLISHED.values():
        digits = 3 if row.psnr_sd is not None else 2
        spread = "" if row.psnr_sd is None else f" +- {row.psnr_sd:.3f}"
        assert f"{row.psnr:.{digits}f}{spread} / {row.ssim:.3f}" in section
    paper = next((shared / "paper").glob("*.md")).read_text(encoding="utf-8")
    for row in PUBLISHED.values():
        if row.parameters is not None:
            assert f"{row.parameters / 1e6:.2f}M\t${row.psnr:.3f}" in paper.replace("<b><math>", "$")
            assert f"{row.ssim:.3f} \\pm {row.ssim_sd:.3f}" in paper


def test_an_unknown_published_key_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="tvsrn-encoder"):
        published("saint")


def test_a_suite_in_python() -> None:
    suite = Suite(name="x", dataset={"root": "a"}, methods=({"label": "c", "model": "cubic"},))
    assert suite.folder == Path()


def test_the_documented_suite_is_one(tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "reference" / "suites.md").read_text(encoding="utf-8")
    example = text.partition("```toml\n")[2].partition("```")[0]
    suite = read_suite(written(tmp_path, example))
    assert [method.label for method in suite.methods] == ["cubic", "TVSRN", "DA-VSR, adapted"]
    assert suite.methods[2].adapt_steps == 50 and suite.figures.region is not None


def suites_of_methods() -> list[Path]:
    paths = sorted((PROJECT / "suites").glob("*.toml"))
    return [path for path in paths if "[[methods]]" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", suites_of_methods(), ids=lambda path: path.stem)
def test_shipped_suites_name_recipes_and_published_rows_that_exist(path: Path) -> None:
    suite = read_suite(path)
    for method in suite.methods:
        if method.published is not None:
            published(method.published)
        if method.recipe is not None:
            overridden(read_train_recipe(suite.folder / method.recipe), {**suite.training, **method.override})


def test_default_figure_is_the_papers_and_no_digest_of_a_suite_depends_on_its_windows() -> None:
    suite = Suite(name="x", dataset={"root": "x"}, methods=({"label": "cubic", "model": "cubic"},))
    assert suite.figures.rows == (("axial", "lung"), ("coronal", "lung"), ("sagittal", "bone"))
    former = {"rows": [("axial", "lung"), ("coronal", "soft tissue"), ("sagittal", "bone")]}
    assert suite.digest == Suite(**{**suite.model_dump(), "figures": former}).digest


@pytest.mark.parametrize("name", ["mini", "rplhr", "ablations", "real-thin"])
def test_the_released_network_is_scored_under_the_plan_that_its_loss_needs(name: str) -> None:
    suite = read_suite(Path(__file__).parents[2] / "suites" / f"{name}.toml")
    plans = [m.plan for m in suite.methods if m.recipe is not None and m.recipe.endswith("released-tvsrn.toml")]
    assert plans == ["released"]
