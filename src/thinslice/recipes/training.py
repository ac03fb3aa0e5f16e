"""The recipe of a training run: network, data, crops, loss, optimiser, stages, validation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator

from thinslice.errors import UsageError
from thinslice.recipes.card import check_card
from thinslice.recipes.checked import Checked, first_fault, read_toml
from thinslice.recipes.names import FileStem
from thinslice.recipes.training_data import MOST_HU, CropRecipe, DatasetRecipe, SimulationRecipe, Weight

Objective = Literal["output", "views", "stages", "deviation"]


Steps = Annotated[int, Field(ge=1, le=100_000_000)]
LearningRate = Annotated[float, Field(gt=0, le=10)]


class NetworkRecipe(Checked):
    """The network to train.

    Attributes:
        name: name in the catalog.
        config: values that replace those of the catalog's preset.
    """

    name: str
    config: dict[str, Any] = Field(default_factory=dict)


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
