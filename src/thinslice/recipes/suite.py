"""The suite of a benchmark: methods, cases, protocols, statistical tests and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from thinslice.recipes.checked import Checked, read_toml
from thinslice.recipes.names import FileStem
from thinslice.recipes.training_data import NoiseHu, ProfileName

Protocol = Literal["rplhr", "clinical", "volume", "skimage", "lung"]
Plan = Literal["overlap", "released", "paper"]
View = Literal["axial", "coronal", "sagittal"]
Range = tuple[int, int]


class SimulatedThick(Checked):
    """Thick slices simulated from thin ones, for cases that have none of their own.

    Attributes:
        profile: slice profile (`thinslice.profile.SIMULATED`).
        noise_hu: standard deviation of white noise added to the thick slices.
    """

    profile: ProfileName = "mean"
    noise_hu: NoiseHu = 0.0


class SuiteDataset(Checked):
    """The cases of a suite.

    Attributes:
        root: folder of a data set, relative to --data or to the suite file. A folder with a manifest.csv serves for
            external test sets.
        split: split of the data set; None for all cases.
        simulate: simulation of thick slices for cases that have none; the suite must then set the factor.
    """

    root: str
    split: str | None = "test"
    simulate: SimulatedThick | None = None


class Method(Checked):
    """A row of the table.

    Attributes:
        label: name in tables and figures.
        model: name of the catalog, or weights file relative to the suite file.
        recipe: training recipe, relative to the suite file; the network is trained first where its weights are
            missing. Either `model` or `recipe` is set.
        override: values of the recipe to change, by dotted name ("optimiser.steps"); change `name` with them.
        plan: window plan; None for that of the suite, or else of the network.
        adapt_steps: steps of test-time adaptation to each volume, for networks that support it (davsr); 0 for none.
        published: key of the published scores beside the row (`thinslice.experiments.benchmark.published`).
    """

    label: str = Field(min_length=1, max_length=60)
    model: str | None = None
    recipe: str | None = None
    override: dict[str, Any] = Field(default_factory=dict)
    plan: Plan | None = None
    adapt_steps: int = Field(0, ge=0, le=100_000)
    published: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.model is None) == (self.recipe is None):
            raise ValueError(f"method {self.label!r} needs either model or recipe")
        if self.override and self.recipe is None:
            raise ValueError(f"method {self.label!r} has no recipe to override")
        return self


class Comparison(Checked):
    """A family of one-sided Wilcoxon signed-rank tests.

    Attributes:
        kind: "above" tests each row against the one above it (the paper's Table 1); "others" tests one method
            against each other one (Fig. 3).
        tested: label of the one method, for "others".
        methods: labels of the methods compared, in this order; empty for all.
    """

    kind: Literal["above", "others"]
    tested: str | None = None
    methods: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _tested_where_needed(self) -> Self:
        if (self.kind == "others") != (self.tested is not None):
            raise ValueError('"others" names the method tested, "above" does not')
        return self


class Region(Checked):
    """A box of thin voxels: a half-open range along each axis, or None for the whole extent."""

    depth: Range | None = None
    height: Range | None = None
    width: Range | None = None

    @field_validator("depth", "height", "width")
    @classmethod
    def _not_empty(cls, value: Range | None) -> Range | None:
        if value is not None and not 0 <= value[0] < value[1]:
            raise ValueError("a range is [start, stop) with 0 <= start < stop")
        return value


class Figures(Checked):
    """Content of Fig. 4 and the scatter plots.

    Attributes:
        case: case of Fig. 4; None for the first one.
        region: box that is shown, cut through its middle, the same for all methods; None for the box of the body.
        rows: pairs of view and display window, each with a map of the error below; by default those of the paper's
            Fig. 4.
        methods: labels of the methods in Fig. 4; empty for all.
        scatter: label of the method on the vertical axis of scatter plots; None for the last one.
    """

    case: str | None = None
    region: Region | None = None
    rows: tuple[tuple[View, Literal["lung", "soft tissue", "bone"]], ...] = (
        ("axial", "lung"),
        ("coronal", "lung"),
        ("sagittal", "bone"),
    )
    methods: tuple[str, ...] = ()
    scatter: str | None = None


class Segmentation(Checked):
    """A program that segments a thin volume.

    Attributes:
        name: in tables.
        command: its words; `{volume}` stands for the NIfTI file to read, `{labels}` for the one to write, `{suite}` for
            the folder of the suite file. No shell is used.
        labels: name -> label value; empty for all labels that the truth has.
        timeout_s: longest time for one volume.
    """

    name: str = Field(min_length=1, max_length=40, pattern=r"^[\w .+-]+$")
    command: tuple[str, ...] = Field(min_length=1)
    labels: dict[str, int] = Field(default_factory=dict)
    timeout_s: float = Field(3600.0, gt=0.0, le=7 * 86400.0)

    @model_validator(mode="after")
    def _reads_and_writes(self) -> Self:
        words = " ".join(self.command)
        if "{volume}" not in words or "{labels}" not in words:
            raise ValueError(f"the command of segmentation {self.name!r} needs {{volume}} and {{labels}}")
        return self


class Downstream(Checked):
    """Measurements on the methods' volumes beside those on the truth; all are off by default.

    Attributes:
        lung_density: LAA-950 and Perc15 over the lung of the truth.
        radiomics: share of radiomic features that agree with the truth's (extra `radiomics`).
        nodules: a phantom with known nodules, upscaled by each method; the suite must set the factor.
        nodule_pixels: height and width of that phantom; None for all of it.
        nodule_seed: of that phantom.
        segmentations: programs whose labels of the methods' volumes are compared with their labels of the truth.
    """

    lung_density: bool = False
    radiomics: bool = False
    nodules: bool = False
    nodule_pixels: int | None = Field(112, ge=112, le=240)
    nodule_seed: int = Field(0, ge=0)
    segmentations: tuple[Segmentation, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [one.name for one in self.segmentations]
        if len(set(names)) < len(names):
            raise ValueError("two segmentations have one name")
        return self

    @property
    def of_cases(self) -> bool:
        """Whether cases are measured."""
        return self.lung_density or self.radiomics or bool(self.segmentations)

    @property
    def digest(self) -> str:
        """SHA-256 of all values, hexadecimal."""
        return self.digest_without(())


_FORMER_ROWS = (("axial", "lung"), ("coronal", "soft tissue"), ("sagittal", "bone"))
"""Default of `Figures.rows` in earlier versions, under which digests still hold the default: rows change no score."""


class SuiteFile(Checked):
    """Settings of all suites.

    Attributes:
        name: name of the suite; by default its results go to benchmarks/NAME.
        title: heading of the report.
        dataset: cases.
        factor: thin slices per thick interval; None for each pair's own. A pair of another factor is an error.
        protocols: scoring protocols; tables and figures follow the first one.
        plan: window plan of networks with weights. Interpolation runs on whole columns unless its method sets a plan.
        training: values of all recipes to change, by dotted name, before a method's `override`.
        runs: folder of training runs, relative to the suite file; None for a folder of the results.
        limit: largest number of cases, the first ones; None for all.
        seed: seed of bootstrap intervals.
    """

    name: FileStem
    title: str = ""
    dataset: SuiteDataset
    factor: int | None = Field(None, ge=2, le=8)
    protocols: tuple[Protocol, ...] = Field(("rplhr",), min_length=1)
    plan: Plan | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    runs: str | None = None
    limit: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)

    _folder: Path = PrivateAttr(default=Path())

    @field_validator("protocols")
    @classmethod
    def _each_once(cls, value: tuple[Protocol, ...]) -> tuple[Protocol, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a protocol is named twice")
        return value

    @property
    def folder(self) -> Path:
        """Folder of the suite file, to which its paths are relative."""
        return self._folder

    @property
    def digest(self) -> str:
        """SHA-256 of all values, hexadecimal; results record it."""
        return self.digest_without(())

    def placed(self, folder: Path) -> Self:
        """A copy of the suite whose paths are relative to a folder."""
        copy = self.model_copy()
        copy._folder = folder
        return copy


class Suite(SuiteFile):
    """One benchmark.

    Attributes:
        methods: rows of the table, in order.
        comparisons: statistical tests of the table.
        figures: settings of the figures.
        downstream: further measurements.
    """

    methods: tuple[Method, ...] = Field(min_length=1)
    comparisons: tuple[Comparison, ...] = (Comparison(kind="above"),)
    figures: Figures = Figures()
    downstream: Downstream = Downstream()

    @property
    def digest(self) -> str:
        """SHA-256 of all values, hexadecimal; results record it. Downstream measures count where they are asked for."""
        unsaid = ("downstream",) if self.downstream == Downstream() else ()
        if self.figures.rows != Figures().rows:
            return self.digest_without(unsaid)
        before = self.figures.model_copy(update={"rows": _FORMER_ROWS})
        return self.model_copy(update={"figures": before}).digest_without(unsaid)

    @model_validator(mode="after")
    def _phantom_has_a_factor(self) -> Self:
        if self.downstream.nodules and self.factor is None:
            raise ValueError("downstream.nodules needs the suite's factor")
        return self

    @model_validator(mode="after")
    def _labels_agree(self) -> Self:
        labels = [method.label for method in self.methods]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"two methods are labelled {twice[0]!r}")
        named = [("comparisons", c.tested) for c in self.comparisons]
        named += [("comparisons", label) for c in self.comparisons for label in c.methods]
        named += [("figures", label) for label in (*self.figures.methods, self.figures.scatter)]
        for where, label in named:
            if label is not None and label not in labels:
                raise ValueError(f"{where} name {label!r}, which is no method's label ({', '.join(labels)})")
        return self


def read_suite(path: Path) -> Suite:
    """Read and check a suite.

    Raises:
        UsageError: when the file is missing, not TOML, or has an unknown key or a wrong value; the message names it.
    """
    return read_toml(path, Suite).placed(path.resolve().parent)
