"""Values that the API takes and gives, as frozen pydantic models: the OpenAPI description is made from them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from thinslice.about import NOTICE, __version__


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelView(_Frozen):
    """A network that can be chosen."""

    name: str
    summary: str


class FolderRoot(_Frozen):
    """A folder that was allowed at the start."""

    number: int
    name: str


class About(_Frozen):
    """What this server is and offers."""

    version: str = __version__
    notice: str = NOTICE
    models: tuple[ModelView, ...]
    devices: tuple[str, ...] = Field(description="auto, and the devices that the workers found")
    folders: tuple[FolderRoot, ...]
    upload_bytes: int = Field(description="largest upload")
    upload_files: int = Field(description="most files of an upload")
    keep_days: float = Field(description="days after which results are removed")


class UploadView(_Frozen):
    """An upload that is open."""

    id: str
    files: int = 0
    bytes: int = 0


class FolderEntry(_Frozen):
    """A folder below an allowed one, or a file in it."""

    name: str
    folder: bool


class FolderList(_Frozen):
    """Content of a folder."""

    path: str = Field(description="from the allowed folder, with / between names; empty for itself")
    entries: tuple[FolderEntry, ...]
    truncated: bool = False


class FolderChoice(_Frozen):
    """A folder or file to be inspected where it lies."""

    folder: int = Field(description="number of the allowed folder")
    path: str = Field(default="", max_length=4096, description="below it, with / between names")


class SourceView(_Frozen):
    """What was uploaded or chosen, and the series in it once it has been inspected."""

    id: str
    kind: Literal["upload", "folder"]
    state: Literal["inspecting", "ready", "refused"]
    files: int
    bytes: int
    made_at_s: float
    reason: str | None = None
    series: tuple[dict[str, Any], ...] = Field(default=(), description="as `thinslice inspect --json` prints them")


class JobRequest(_Frozen):
    """A series to be upscaled, and how; names and values as in `thinslice upscale`."""

    source: str
    series: int | None = Field(default=None, ge=1, description="number in the source; the only eligible one if null")
    model: str = Field(default="default", max_length=64)
    factor: int | None = Field(default=None, ge=2, le=8)
    spacing_mm: float | None = Field(default=None, gt=0, le=100)
    plan: str | None = Field(default=None, max_length=64)
    device: str = Field(default="auto", max_length=16)
    backend: str = Field(default="auto", max_length=32)
    intensity: str = Field(default="auto", max_length=16)
    uncertainty: Literal["learned", "ensemble"] | None = None
    texture: bool = False
    texture_seed: int = Field(default=0, ge=0)
    axis: int | None = Field(default=None, ge=0, le=2)
    on_tilt: Literal["refuse", "resample"] = "refuse"
    on_spacing: Literal["refuse", "resample"] = "refuse"
    deidentify: bool = False


class JobView(_Frozen):
    """A job and its progress."""

    id: int
    source: str
    series: str = Field(description="what the series is, without identity")
    settings: dict[str, Any]
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    phase: str = ""
    share: float = 0.0
    left_s: float | None = None
    ahead: int | None = Field(default=None, description="queued jobs before this one")
    reason: str | None = None
    exit_code: int | None = None
    made_at_s: float
    begun_at_s: float | None = None
    ended_at_s: float | None = None
    warnings: tuple[str, ...] = ()
    consistency_rms_hu: float | None = None
    files: tuple[str, ...] = Field(default=(), description="names under /api/jobs/ID/files/")
    volumes: bool = Field(default=False, description="whether /api/jobs/ID/volumes has something to show")
    revision: int = 0


class JobList(_Frozen):
    """All jobs, oldest first, and the revision from which /api/events continues."""

    revision: int
    jobs: tuple[JobView, ...]


class VolumeView(_Frozen):
    """A raw volume for a viewer: little-endian int16, (depth, height, width), slice after slice."""

    name: Literal["thick", "thin", "uncertainty"]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float | None, float | None]
    origin_mm: tuple[float, float, float] = Field(description="LPS x, y, z of the centre of voxel [0, 0, 0]")
    direction: tuple[tuple[float, float, float], ...] = Field(
        description="3 x 3, columns: LPS unit vectors of the depth, height and width axes"
    )
    thickness_mm: float | None = None
    scale: float = Field(default=1.0, description="HU of one step of the stored numbers")
    padding_hu: float | None = Field(default=None, description="HU that marks padding")
    ready_slices: int = Field(description="slices that can be fetched already")
    dtype: Literal["int16"] = "int16"
    byte_order: Literal["little"] = "little"


class Problem(_Frozen):
    """Body of every refusal."""

    detail: str
    exit_code: int | None = None
