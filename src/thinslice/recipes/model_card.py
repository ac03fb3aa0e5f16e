"""The documented schema of a model card: which entries `thinslice` writes and reads, with their types.

A card may hold further entries; `thinslice.recipes.card` bounds them all. docs/reference/model-cards.md is made from
this model (`python tools/generate_docs.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    """A part of a card, which may hold more than is listed."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


class CardScore(_Part):
    """One row of `scores`: a method on a case."""

    case: str = Field(description="label of the case")
    factor: int = Field(description="thin slices per thick interval")
    model: str = Field(description="the network, or an interpolation beside it")
    psnr: float = Field(description="PSNR in dB")
    ssim: float = Field(description="SSIM, mean over axial slices")
    consistency_rms_hu: float | None = Field(
        default=None, description="the thin slices averaged back, against the thick ones, RMS HU"
    )
    slices_scored: int | None = Field(default=None, description="thin slices that the score counts")


class CardScores(_Part):
    """Scores of `thinslice models score --write-card`."""

    protocol: str = Field(description="protocol of the scores")
    note: str = Field(default="", description="a sentence on the measurement")
    rows: tuple[CardScore, ...] = Field(description="scores by case, factor and method")


class CardValidation(_Part):
    """Scores of the last validation of a training run."""

    protocol: str = Field(description="protocol of the scores")
    cases: int = Field(description="number of cases")
    psnr: float = Field(description="mean PSNR in dB")
    ssim: float = Field(description="mean SSIM")


class CardTrainingData(_Part):
    """Training data by digests of their voxels, never by names."""

    sha256: Sha256 = Field(description="digest of all")
    cases: tuple[str, ...] = Field(description="digest of each case")


class CardStart(_Part):
    """The weights that a run began with."""

    name: str | None = Field(description="their name")
    sha256: Sha256 | None = Field(description="digest of their file")


class CardSpan(_Part):
    """One length of a run that was lengthened."""

    from_step: int = Field(description="first step")
    steps: int = Field(description="length that the schedule had from there on")


class ModelCard(_Part):
    """What a weights file states about its weights; every entry but `name` may be missing."""

    name: str = Field(description="name of the weights, up to 120 printable characters")
    version: str | None = Field(default=None, description="version of the weights, up to 120 printable characters")
    summary: str | None = Field(default=None, description="one sentence")
    limits: tuple[str, ...] | str | None = Field(
        default=None, description="what the weights are not for or not tested on"
    )
    training: str | None = Field(default=None, description="how thick slices were made, in words")
    data: tuple[str, ...] | str | None = Field(default=None, description="the training data, in words")
    data_licences: str | None = Field(default=None, description="licences of the training data")
    weights_licence: str | None = Field(default=None, description="licence of the weights, SPDX where one fits")
    widest_slice: float | None = Field(
        default=None,
        description="thickest slices of the training over their distance; thicker ones are warned of",
    )
    slice_profile: dict[str, Any] | None = Field(
        default=None, description="slice profile measured on the pairs that the weights were trained on"
    )
    scores: CardScores | None = Field(default=None, description="scores of `models score --write-card`")
    clinical: dict[str, Any] | None = Field(
        default=None, description="clinical measures of `models check --write-card` ([JSON keys](json.md))"
    )
    validation: CardValidation | None = Field(default=None, description="scores of the run's last validation")
    deviation: dict[str, Any] | None = Field(
        default=None, description="training and `calibration` of the head for standard deviations"
    )
    recipe: dict[str, Any] | None = Field(default=None, description="the training recipe, without its card")
    recipe_sha256: Sha256 | None = Field(default=None, description="digest of the recipe")
    steps: int | None = Field(default=None, ge=0, description="steps of the training")
    lengthened: tuple[CardSpan, ...] | None = Field(default=None, description="lengths of a run that was lengthened")
    seed: int | None = Field(default=None, description="seed of the training")
    start: CardStart | None = Field(default=None, description="the weights that the run began with")
    training_data: CardTrainingData | None = Field(default=None, description="digests of the training data")
    adapted: dict[str, Any] | None = Field(default=None, description="settings of an adaptation to one volume")
    origin: str | None = Field(default=None, description="where converted weights come from")
    source_config: dict[str, Any] | None = Field(default=None, description="config of the converted checkpoint")
    licences: str | None = Field(default=None, description="what is known of the licence of converted weights")
    source_sha256: Sha256 | None = Field(default=None, description="digest of the converted checkpoint")
    accepted: dict[str, Any] | None = Field(
        default=None, description="source whose tensors were taken on trust by `convert`, as it stated no digest"
    )
    thinslice: str | None = Field(default=None, description="version of thinslice that trained them")
    torch: str | None = Field(default=None, description="version of torch")
    python: str | None = Field(default=None, description="version of Python")


PARTS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("A card", ModelCard),
    ("`scores`", CardScores),
    ("A row of `scores.rows`", CardScore),
    ("`validation`", CardValidation),
    ("`training_data`", CardTrainingData),
    ("`start`", CardStart),
    ("An entry of `lengthened`", CardSpan),
)
"""Titles and models of the page, in its order."""


def read_card(card: Mapping[str, Any]) -> ModelCard:
    """A card by its schema.

    Args:
        card: JSON values.

    Raises:
        pydantic.ValidationError: an entry of the schema with a value of another type; correct it.

    >>> read_card({"name": "mine", "steps": 2000, "hospital": "ours"}).steps
    2000
    """
    return ModelCard.model_validate_json(json.dumps(card))
