"""Recipes of what a network is trained on: a data set, crops of it, and thick slices simulated from thin CT."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from thinslice.recipes.checked import Checked

MOST_HU = 3072.0
"""Width of the networks' window, the most that noise or a threshold can mean."""


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("the first value of a range is the smaller one")
    return limits


ProfileName = Literal["mean", "gaussian", "trapezoid", "heavy-tailed", "subsample"]
Axis = Literal["depth", "height", "width"]
Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[int, Field(ge=2, le=16)]
NoiseHu = Annotated[float, Field(ge=0, le=MOST_HU)]
LevelHu = Annotated[float, Field(ge=-32768, le=32767)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Width = Annotated[float, Field(gt=0, le=8)]
WidthRange = Annotated[tuple[Width, Width], AfterValidator(_ascending)]
NoiseRange = Annotated[tuple[NoiseHu, NoiseHu], AfterValidator(_ascending)]


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
