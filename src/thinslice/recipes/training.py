"""The recipe of a training run: network, data, crops, loss, optimiser, stages, validation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, ValidationError, field_validator, model_validator

from thinslice.errors import UsageError
from thinslice.recipes.card import check_card
from thinslice.recipes.checked import Checked, first_fault, read_toml
from thinslice.recipes.names import FileStem

ProfileName = Literal["mean", "gaussian", "trapezoid", "heavy-tailed", "subsample"]
Axis = Literal["depth", "height", "width"]
Objective = Literal["output", "views", "stages", "deviation"]

MOST_HU = 3072.0
"""Width of the networks' window, the most that noise or a threshold can mean."""


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("the first value of a range is the smaller one")
    return limits


Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[int, Field(ge=2, le=16)]
NoiseHu = Annotated[float, Field(ge=0, le=MOST_HU)]
LevelHu = Annotated[float, Field(ge=-32768, le=32767)]
Steps = Annotated[int, Field(ge=1, le=100_000_000)]
LearningRate = Annotated[float, Field(gt=0, le=10)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Width = Annotated[float, Field(gt=0, le=8)]
WidthRange = Annotated[tuple[Width, Width], AfterValidator(_ascending)]
NoiseRange = Annotated[tuple[NoiseHu, NoiseHu], AfterValidator(_ascending)]


class NetworkRecipe(Checked):
    """The network to train.

    Attributes:
        name: name in the catalog.
        config: values that replace those of the catalog's preset.
    """

    name: str
    config: dict[str, Any] = Field(default_factory=dict)


class DatasetRecipe(Checked):
    """Pairs of a data set (`thinslice dataset`).

    Attributes:
        root: folder of the data set, relative to --data.
        split: split for training.
        validation: split for validation; None, or "" in a file, for no validation.
        thick: "paired" for the data set's own thick slices, or the name of a slice profile by which they are simulated
            from the thin ones (the paper's pseudo-LR experiment). Validation always uses the data set's own.
        noise_hu: standard deviation of white noise on simulated thick slices.
        cases: largest number of cases of the split, the first ones; None for all.
        without: patients whose pairs are left out of the split, as in the manifest (case names where it has none).
        profile: slice profile that the network gets: "header" for the box of the slice thickness; "measured" for the
            one that the pairs of the split have (`thinslice.data.measured_profile`), which the card then holds, so that
            `upscale` uses it on scans of this protocol.
        simulated_share: share of steps whose crops are not pairs: thick slices are simulated from the thin ones by
            `simulation`, so that the network keeps other factors and profiles.
    """

    root: str
    split: str = "train"
    validation: str | None = "val"
    thick: Literal["paired"] | ProfileName = "paired"
    noise_hu: NoiseHu = 0.0
    cases: int | None = Field(None, ge=1)
    without: tuple[str, ...] = ()
    profile: Literal["header", "measured"] = "header"
    simulated_share: Share = 0.0

    @field_validator("validation")
    @classmethod
    def _none_in_toml(cls, value: str | None) -> str | None:
        return value or None


class CropRecipe(Checked):
    """Random crops of pairs.

    Attributes:
        depth: thick slices of a crop.
        plane: in-plane extent of a crop, pixels.
        flips: axes that are mirrored with probability one half.
        transpose: whether rows and columns are exchanged with probability one half.
        least_body: least share of thick voxels above -950 HU in a crop (a few draws are tried).
    """

    depth: int = Field(4, ge=2, le=512)
    plane: int = Field(256, ge=8, le=4096)
    flips: tuple[Axis, ...] = ("width",)
    transpose: bool = False
    least_body: Share = 0.0


class SimulationRecipe(Checked):
    """Random crops of thin volumes with thick slices simulated from them.

    Attributes:
        factors: factors drawn; repeat one to draw it more often.
        profiles: slice profiles drawn, by name, with weights. Of "heavy-tailed" ones, core, tail and decay are drawn as
            well (`thinslice.data.simulated_profiles`).
        box_width: a second range of slice thickness over slice distance, drawn with `box_width_share`; otherwise 1.
        box_width_share: share of crops with overlap or gap.
        box_width_law: "even", or "logarithmic": as often by a factor narrower as by the same factor wider.
        width_error: range of the simulated slice thickness over the nominal one, which the network gets: the slices of
            scanners are a little thicker or thinner than in their headers.
        width_error_share: share of steps in which the two differ.
        known_profile_share: share of steps in which the network gets the simulated profile itself, as from a file, and
            not the box of the nominal slice thickness.
        noise_hu: largest standard deviation of noise added to the thick slices; drawn from [0, noise_hu].
        noise_share: share of crops with such noise.
        low_dose_hu: range of the standard deviation of the noise of low-dose crops.
        low_dose_share: share of crops with noise of that strength in place of `noise_hu`.
        grain_share: share of noisy crops whose noise has the in-plane spectrum of a reconstruction kernel, soft to
            sharp; in the others it is white. Where `box_width_share` makes slices overlap, such noise is averaged
            like the slices.
        in_plane_share: share of crops in which an in-plane axis plays the through-plane one.
        coarse_mm: volumes whose slices lie further apart than this give crops along their slice axis at factor 2 alone,
            and along an in-plane axis otherwise; None for no such rule.
        blur_pixels: largest Gaussian in-plane blur (standard deviation, pixels), so that soft kernels are seen.
        blur_share: share of crops blurred.
        sharpen_gain: largest gain of an in-plane unsharp mask, so that sharp kernels are seen; drawn from
            [0, sharpen_gain].
        sharpen_share: share of crops sharpened.
        sown_share: share of crops into which ellipsoids of any density are put (`thinslice.data.ellipsoids`).
        nodule_share: share of crops into which small nodules, solid and ground glass, are inserted where they hold lung
            (`thinslice.data.inserts`).
        shell_share: share of crops into which a curved plate of bone is inserted.
        metal_share: share of crops into which metal with its streaks is inserted.
        depth: thick slices per crop.
        plane: in-plane extent of a crop, pixels.
        least_body: share of voxels above -950 HU that a crop must have (a few draws are tried).
        floor_hu: thin voxels at or below carry no loss: clipped values and what lies outside the field of view.
        outside_hu: voxels of a volume at or below carry no loss either, whatever blur makes of them; None for no such
            rule.
    """

    factors: tuple[Factor, ...] = Field((2, 3, 4, 5, 5, 6, 7, 8), min_length=1, max_length=1000)
    profiles: dict[ProfileName, Weight] = Field(default={"mean": 0.8, "trapezoid": 0.2}, min_length=1)
    box_width: WidthRange = (0.5, 2.0)
    box_width_share: Share = 0.15
    box_width_law: Literal["even", "logarithmic"] = "even"
    width_error: WidthRange = (1.0, 1.0)
    width_error_share: Share = 0.0
    known_profile_share: Share = 0.0
    noise_hu: NoiseHu = 12.0
    noise_share: Share = 0.4
    low_dose_hu: NoiseRange = (12.0, 40.0)
    low_dose_share: Share = 0.0
    grain_share: Share = 0.0
    in_plane_share: Share = 0.35
    coarse_mm: float | None = Field(None, gt=0, le=1000)
    blur_pixels: float = Field(0.8, ge=0, le=64)
    blur_share: Share = 0.2
    sharpen_gain: float = Field(1.0, ge=0, le=100)
    sharpen_share: Share = 0.0
    sown_share: Share = 0.0
    nodule_share: Share = 0.0
    shell_share: Share = 0.0
    metal_share: Share = 0.0
    depth: int = Field(8, ge=2, le=512)
    plane: int = Field(96, ge=8, le=4096)
    least_body: Share = 0.3
    floor_hu: LevelHu = -1024.0
    outside_hu: LevelHu | None = None

    @field_validator("profiles")
    @classmethod
    def _one_is_drawn(cls, value: dict[ProfileName, float]) -> dict[ProfileName, float]:
        if not sum(value.values()):
            raise ValueError("at least one profile needs a weight above 0")
        return value


_LATER = (
    "box_width_law",
    "width_error",
    "width_error_share",
    "known_profile_share",
    "low_dose_hu",
    "low_dose_share",
    "grain_share",
    "coarse_mm",
    "sharpen_gain",
    "sharpen_share",
    "nodule_share",
    "shell_share",
    "metal_share",
    "outside_hu",
)
"""Values of `SimulationRecipe` that older recipes lack; a digest holds them where they differ from their defaults."""

_LATER_OF_PAIRS: dict[str, Any] = {"without": (), "profile": "header", "simulated_share": 0.0}
"""The same for `DatasetRecipe`, with their defaults."""


class LossRecipe(Checked):
    """The loss.

    Attributes:
        kind: "l1"; "mse"; or "huber", squared error below `knee_hu` and absolute error above.
        knee_hu: error at which "huber" changes from squared to absolute; HU.
        trim: thin slices at either end without loss (the released TVSRN: 3).
        gradient: weight of the L1 distance of differences to the 26 neighbours (ResVox).
        contrast: weight of the L1 distance after display windows of lung and soft tissue (this project's reading of
            MPU-Net's contrast-aware loss).
        side_outputs: weight of each side output, for the objective "stages" (MPU-Net).
        deviation: distribution of errors whose likelihood the objective "deviation" maximises: "gaussian", "laplace",
            or "student" with four degrees of freedom.
    """

    kind: Literal["l1", "mse", "huber"] = "huber"
    knee_hu: float = Field(100.0, gt=0, le=MOST_HU)
    trim: int = Field(0, ge=0, le=4096)
    gradient: Weight = 0.0
    contrast: Weight = 0.0
    side_outputs: Weight = Field(1.0, validation_alias=AliasChoices("side_outputs", "side"), serialization_alias="side")
    deviation: Literal["gaussian", "laplace", "student"] = "student"


class OptimiserRecipe(Checked):
    """Optimiser and schedule.

    Attributes:
        method: "adamw", "adam" or "muon" (`thinslice.training.muon`).
        steps: optimiser steps in all.
        batch: crops per step, over all processes; the crops of a step share their factor.
        micro_batch: crops per forward pass; gradients of the passes of a step are accumulated. None for one pass per
            process. Stochastic depth is seeded by pass, so runs on one and on more processes agree at equal values.
        learning_rate: peak learning rate, reached after `warmup` steps.
        schedule: "cosine" lowers it to zero along half a cosine; "constant"; "plateau" multiplies it by
            `plateau_factor` when validation has not improved `plateau_patience` times in a row.
        warmup: steps of linear warm-up.
        plateau_patience: see `schedule`.
        plateau_factor: see `schedule`.
        weight_decay: decoupled weight decay of AdamW and Muon, or Adam's L2 term.
        clip_norm: largest gradient norm; 0 for no clipping.
        average: decay of the running average of the weights, which is validated and kept; 0 for none.
        start_share: share of the initial weights in those that are validated and kept, so that a network that is
            trained further forgets little; 0 for none.
    """

    method: Literal["adamw", "adam", "muon"] = "adamw"
    steps: Steps = 10_000
    batch: int = Field(2, ge=1, le=65_536)
    micro_batch: int | None = Field(None, ge=1, le=65_536)
    learning_rate: LearningRate = 2e-3
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    warmup: int = Field(200, ge=0, le=100_000_000)
    plateau_patience: int = Field(10, ge=0)
    plateau_factor: float = Field(0.5, gt=0, lt=1)
    weight_decay: Weight = 1e-4
    clip_norm: Weight = 1.0
    average: float = Field(0.999, ge=0, lt=1)
    start_share: float = Field(0.0, ge=0, lt=1)


class ValidationRecipe(Checked):
    """Scores on whole volumes during training, upscaled with the full window plan.

    Attributes:
        every: steps between validations; the last step is always validated.
        cases: largest number of cases, the first ones; None for all.
        plane: side in pixels of the central part that is used; None for the whole plane.
        patience: validations without a better PSNR after which training stops early; None for no early stop.
        pictures: whether each validation saves a picture of its first case.
    """

    every: int = Field(1000, ge=1)
    cases: int | None = Field(None, ge=1)
    plane: int | None = Field(None, ge=16)
    patience: int | None = Field(None, ge=1)
    pictures: bool = True


class StageRecipe(Checked):
    """One of several stages, which are trained one after the other; each starts from the weights of the one before.

    Attributes:
        name: name of the stage and its folder.
        trainable: prefixes of the names of the parameters that are trained; the others are frozen.
        objective: values that are compared with the truth: the network's "output", its sagittal and coronal "views"
            before fusion, or the outputs of all "stages" of a progressive decoder. "deviation" compares the network's
            standard deviations with its errors.
        steps: optimiser steps of the stage.
        learning_rate: peak learning rate; None for that of the recipe.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=40)
    trainable: tuple[str, ...] = Field(
        ("",), validation_alias=AliasChoices("trainable", "trains"), serialization_alias="trains"
    )
    objective: Objective = "output"
    steps: Steps
    learning_rate: LearningRate | None = None


class TrainRecipe(Checked):
    """One training run.

    Attributes:
        name: name of the run and of the weights.
        network: network to train.
        data: thin volumes (NIfTI, NRRD, MetaImage or DICOM folders) from which thick slices are simulated; a relative
            path is relative to --data, and a folder of NIfTI files stands for all of them. A file that is named again,
            also beside its folder, is drawn more often.
        dataset: pairs, in place of `data`.
        simulation: crops of `data`, and those of `dataset` that are simulated (`simulated_share`).
        crops: crops of `dataset`.
        loss: loss.
        start: initial weights: a name of the catalog or a weights file, whose config holds for keys that
            `network.config` lacks. None for random weights.
        trainable: as in `StageRecipe`, for a run without stages.
        objective: as in `StageRecipe`, for a run without stages.
        stages: stages of networks that are trained part by part; their steps replace `optimiser.steps`.
        optimiser: optimiser and schedule.
        validation: validation on `dataset.validation`.
        seed: seed of all random numbers.
        precision: precision of Lightning Fabric: "32-true", "bf16-mixed" or "16-mixed".
        save_every_s: seconds between resumable states.
        log_every: steps between lines of the log.
        card: facts for the model card: data, licences, limits.
    """

    name: FileStem
    network: NetworkRecipe
    data: tuple[str, ...] = ()
    dataset: DatasetRecipe | None = None
    simulation: SimulationRecipe = SimulationRecipe()
    crops: CropRecipe = CropRecipe()
    loss: LossRecipe = LossRecipe()
    start: str | None = None
    trainable: tuple[str, ...] = Field(
        ("",), validation_alias=AliasChoices("trainable", "trains"), serialization_alias="trains"
    )
    objective: Objective = "output"
    stages: tuple[StageRecipe, ...] = ()
    optimiser: OptimiserRecipe = OptimiserRecipe()
    validation: ValidationRecipe = ValidationRecipe()
    seed: int = Field(0, ge=0, lt=2**32)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    save_every_s: float = Field(120.0, ge=0, le=1e6)
    log_every: int = Field(50, ge=1)
    card: dict[str, Any] = Field(default_factory=dict)

    @field_validator("card")
    @classmethod
    def _card_is_sound(cls, value: dict[str, Any]) -> dict[str, Any]:
        check_card(value)
        return value

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        if bool(self.data) == (self.dataset is not None):
            raise ValueError("a recipe needs either data (thin volumes) or dataset (pairs)")
        if self.dataset is not None and self.dataset.profile == "measured" and self.dataset.thick != "paired":
            raise ValueError("the profile of simulated thick slices is known; measure it on paired ones")
        if self.dataset is not None and self.dataset.thick == "paired" and self.dataset.noise_hu:
            raise ValueError(
                "dataset.noise_hu adds noise to simulated thick slices, and paired ones are taken as they are; remove "
                "it, or simulate them (dataset.thick)"
            )
        if self.optimiser.schedule == "plateau" and not self.validates:
            raise ValueError("the plateau schedule needs a dataset with a validation split")
        if len({stage.name for stage in self.stages}) < len(self.stages):
            raise ValueError("stages need different names")
        # Crops of a data set have the factor of its pairs, which is not known here.
        fewest = (self.simulation.depth - 1) * min(self.simulation.factors) + 1
        if self.data and 2 * self.loss.trim >= fewest:
            raise ValueError(f"loss.trim of {self.loss.trim} leaves no slice of a crop of {fewest} thin slices")
        return self

    @property
    def validates(self) -> bool:
        """Whether whole volumes are scored during training; the objective "deviation" does not change the output."""
        return self.dataset is not None and self.dataset.validation is not None and self.objective != "deviation"

    @property
    def digest(self) -> str:
        """SHA-256 of all values that change the weights, hexadecimal; scores and cards record it."""
        # Keys of later versions count only where they are set, so old recipes keep their digest.
        unsaid = ["start"] if self.start is None else []
        unsaid += ["trainable"] if self.trainable == ("",) else []
        unsaid += [] if self.simulation.sown_share else ["simulation.sown_share"]
        plain = SimulationRecipe()
        unsaid += [f"simulation.{name}" for name in _LATER if getattr(self.simulation, name) == getattr(plain, name)]
        if self.dataset is not None:
            plain_pairs = _LATER_OF_PAIRS.items()
            unsaid += [f"dataset.{name}" for name, value in plain_pairs if getattr(self.dataset, name) == value]
        unsaid += [] if self.optimiser.start_share else ["optimiser.start_share"]
        unsaid += ["loss.deviation"] if self.objective != "deviation" and not self._stages_of("deviation") else []
        return self.digest_without(("card", "save_every_s", "log_every", *unsaid))

    def _stages_of(self, objective: Objective) -> bool:
        return any(stage.objective == objective for stage in self.stages)

    def at_stage(self, index: int) -> TrainRecipe:
        """The recipe of one stage as a recipe without stages.

        >>> recipe = TrainRecipe(name="x", network={"name": "saint"}, data=("a",),
        ...     stages=({"name": "one", "steps": 5, "trainable": ("fusion",)},))
        >>> recipe.at_stage(0).name, recipe.at_stage(0).optimiser.steps
        ('x-one', 5)
        """
        stage = self.stages[index]
        moved = {"steps": stage.steps, "learning_rate": stage.learning_rate or self.optimiser.learning_rate}
        return self.model_copy(
            update={
                "name": f"{self.name}-{stage.name}",
                "objective": stage.objective,
                "trainable": stage.trainable,
                "optimiser": self.optimiser.model_copy(update=moved),
                "stages": (),
            }
        )


RENAMED = {
    old: name
    for part in (CropRecipe, SimulationRecipe, LossRecipe, OptimiserRecipe, StageRecipe, TrainRecipe)
    for name, field in part.model_fields.items()
    if isinstance(field.validation_alias, AliasChoices)
    for old in field.validation_alias.choices
    if isinstance(old, str) and old != name
}
"""Old spellings of keys, which recipes and overrides may still use -> the current names. Digests hold the old ones."""


def _current(part: str | int, place: Any) -> str | int:
    """The current key for a key in either spelling."""
    if isinstance(part, str) and part not in place and RENAMED.get(part) in place:
        return RENAMED[part]
    return part


def read_train_recipe(path: Path) -> TrainRecipe:
    """Read and check a training recipe.

    Raises:
        UsageError: when the file is missing, not TOML, or has an unknown key or a wrong value; the message names it.
    """
    return read_toml(path, TrainRecipe)


def overridden(recipe: TrainRecipe, values: Mapping[str, Any]) -> TrainRecipe:
    """A copy of a recipe with some values changed, checked again.

    Args:
        recipe: recipe, which is not changed.
        values: dotted name -> value, as in `optimiser.steps`, `network.config.depth` or `stages.0.steps`.

    Raises:
        UsageError: an unknown name, or a value that does not fit; the message names it.

    >>> recipe = TrainRecipe(name="x", network={"name": "thinnet"}, data=("a",))
    >>> overridden(recipe, {"optimiser.steps": 5, "network.config.features": 8}).optimiser.steps
    5
    """
    # Through JSON, so that tuples are lists that can be changed.
    changed = recipe.model_dump(mode="json")
    for name, value in values.items():
        *path, last = (int(part) if part.isdecimal() else part for part in name.split("."))
        place: Any = changed
        try:
            for part in path:
                place = place[_current(part, place)]
            place[_current(last, place)] = value
        except (KeyError, IndexError, TypeError) as error:
            raise UsageError(f"The recipe has no value {name!r}; docs/reference/recipes.md lists them all.") from error
    try:
        return TrainRecipe(**changed)
    except ValidationError as error:
        raise UsageError(f"The changed recipe does not fit, {first_fault(error)}; correct it.") from error
