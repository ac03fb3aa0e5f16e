"""Recipes: frozen, checked models of everything that defines an experiment, read from TOML. No eval, no pickle."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thinslice.errors import UsageError

ProfileName = Literal["mean", "gaussian", "trapezoid", "subsample"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkRecipe(_Frozen):
    """Which network to train.

    Attributes:
        name: row of the catalog.
        config: values that override the row's preset.
    """

    name: str
    config: dict[str, Any] = Field(default_factory=dict)


class SimulationRecipe(_Frozen):
    """Random crops of thin volumes with thick slices simulated from them.

    Attributes:
        factors: factors drawn; repeat one to draw it more often.
        profiles: slice profiles drawn, by name, with weights.
        box_width: a second range of slice thickness over slice distance, drawn with `box_width_share`; otherwise 1.
        box_width_share: share of crops with overlap or gap.
        noise_hu: largest standard deviation of noise added to the thick slices; drawn from [0, noise_hu].
        noise_share: share of crops with such noise.
        in_plane_share: share of crops in which an in-plane axis plays the through-plane one.
        blur_pixels: largest Gaussian in-plane blur (standard deviation, pixels), so that soft kernels are seen.
        blur_share: share of crops blurred.
        depth: thick slices per crop.
        plane: in-plane extent of a crop, pixels.
        least_body: share of voxels above -950 HU that a crop must have (a few draws are tried).
        floor_hu: thin voxels at or below carry no loss: clipped values and what lies outside the field of view.
    """

    factors: tuple[int, ...] = (2, 3, 4, 5, 5, 6, 7, 8)
    profiles: dict[ProfileName, float] = {"mean": 0.8, "trapezoid": 0.2}
    box_width: tuple[float, float] = (0.5, 2.0)
    box_width_share: float = Field(0.15, ge=0, le=1)
    noise_hu: float = Field(12.0, ge=0)
    noise_share: float = Field(0.4, ge=0, le=1)
    in_plane_share: float = Field(0.35, ge=0, le=1)
    blur_pixels: float = Field(0.8, ge=0)
    blur_share: float = Field(0.2, ge=0, le=1)
    depth: int = Field(8, ge=2)
    plane: int = Field(96, ge=8)
    least_body: float = Field(0.3, ge=0, le=1)
    floor_hu: float = -1024.0


class OptimiserRecipe(_Frozen):
    """Loss, optimiser and schedule.

    Attributes:
        steps: optimiser steps in all.
        batch: crops per step; a batch shares its factor.
        learning_rate: peak, reached after `warmup` steps and lowered to zero along a half cosine.
        warmup: steps.
        weight_decay: of AdamW.
        clip_norm: largest gradient norm.
        knee_hu: error at which the loss turns from square to absolute (Huber, in HU).
        average: decay of the running average of the weights that is kept.
    """

    steps: int = Field(10_000, ge=1)
    batch: int = Field(2, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    warmup: int = Field(200, ge=0)
    weight_decay: float = Field(1e-4, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    knee_hu: float = Field(100.0, gt=0)
    average: float = Field(0.999, ge=0, lt=1)


class TrainRecipe(_Frozen):
    """One training run.

    Attributes:
        name: of the run and of the weights.
        network: what is trained.
        data: thin volumes (NIfTI, NRRD, MetaImage or DICOM folders); a relative path is relative to the recipe file,
            and a folder of NIfTI files stands for all of them.
        simulation: how crops are drawn.
        optimiser: how the weights move.
        seed: of everything random.
        precision: of Lightning Fabric: "32-true" or "bf16-mixed".
        save_every_s: seconds between resumable states.
        log_every: steps between lines of the log.
        card: facts for the model card: data, licences, limits.
    """

    name: str
    network: NetworkRecipe
    data: tuple[str, ...]
    simulation: SimulationRecipe = SimulationRecipe()
    optimiser: OptimiserRecipe = OptimiserRecipe()
    seed: int = 0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    save_every_s: float = 120.0
    log_every: int = 50
    card: dict[str, Any] = Field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of all values that change the weights, hexadecimal: what a score or a card names."""
        values = self.model_dump(mode="json", exclude={"card", "save_every_s", "log_every"})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_train_recipe(path: Path) -> TrainRecipe:
    """Read and check a training recipe.

    Raises:
        UsageError: when the file is missing, not TOML, or says something a recipe does not know.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return TrainRecipe(**values)
    except FileNotFoundError as error:
        raise UsageError(f"There is no recipe {path}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path.name} is not a TOML file: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path.name}, {where}: {first['msg']}") from error
