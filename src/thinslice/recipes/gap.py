"""The recipe of a domain-gap experiment: networks trained on real and on simulated thick slices, tested on real pairs.

Source: paper, section 3.2 and Fig. 3(c). Its degradation is only in its supplement; here it has a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from thinslice.errors import UsageError
from thinslice.recipes.checked import Checked, read_toml, toml_values
from thinslice.recipes.suite import Figures, Method, Plan, Suite, SuiteDataset, SuiteFile, read_suite
from thinslice.recipes.training import ProfileName, overridden, read_train_recipe

PAIRED = "paired"
"""How training on the data set's own thick slices is called, in tables, figures and recipes."""

MAX_DEGRADATIONS = 7
"""With training on pairs, as many series as a plot can tell apart."""

_SET_HERE = ("dataset.thick", "dataset.noise_hu")


class GapNetwork(Checked):
    """A network of the experiment.

    Attributes:
        label: its name in tables and figures.
        recipe: its training recipe, relative to the suite file; it must train on pairs (`dataset`).
        override: values of that recipe to change, by dotted name; change `name` with them.
        plan: window plan; None for the suite's.
        adapt_steps: steps of test-time adaptation to each volume, for networks that can (davsr); 0 for none.
    """

    label: str = Field(pattern=r"^[^·]+$", max_length=30)
    recipe: str
    override: dict[str, Any] = Field(default_factory=dict)
    plan: Plan | None = None
    adapt_steps: int = Field(0, ge=0)


class Degradation(Checked):
    """A way to simulate the thick slices that a network is trained on.

    Attributes:
        label: its name in tables and figures, and in the name of the training run.
        profile: how a thick slice weighs thin ones (`thinslice.profile.SIMULATED`).
        noise_hu: standard deviation of white noise added to the thick slices.
    """

    label: str = Field(pattern=r"^[^·]*[A-Za-z0-9][^·]*$", max_length=24)
    profile: ProfileName
    noise_hu: float = Field(0.0, ge=0)

    @property
    def slug(self) -> str:
        """Its label as part of a file name.

        >>> Degradation(label="mean, 8 HU", profile="mean", noise_hu=8).slug
        'mean-8-hu'
        """
        return re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-")


class ExternalDataset(SuiteDataset):
    """Another set of real pairs to test on.

    Attributes:
        optional: whether to go on without a word of failure where there is nothing at its root.
    """

    optional: bool = False


class GapSuite(SuiteFile):
    """A domain-gap experiment. `dataset` holds the real pairs tested on; what is trained on, `training` tells.

    Attributes:
        external: other sets of real pairs, such as another scanner's, each scored in a table of its own.
        networks: each is trained on paired slices and once on each degradation, by one recipe otherwise.
        degradations: of the thin slices trained on.
        baselines: names of the catalog scored beside them, such as interpolations: lines in the figure.
        shown: label of the network whose pictures are shown; None for the last one.
    """

    external: tuple[ExternalDataset, ...] = ()
    networks: tuple[GapNetwork, ...] = Field(min_length=1)
    degradations: tuple[Degradation, ...] = Field(min_length=1, max_length=MAX_DEGRADATIONS)
    baselines: tuple[Annotated[str, Field(pattern=r"^[^·]+$", max_length=60)], ...] = ()
    shown: str | None = None

    @field_validator("dataset", "external")
    @classmethod
    def _real(cls, value: SuiteDataset | tuple[ExternalDataset, ...]) -> SuiteDataset | tuple[ExternalDataset, ...]:
        for dataset in (value,) if isinstance(value, SuiteDataset) else value:
            if dataset.simulate is not None:
                raise ValueError("the domain gap is measured on real pairs; leave simulate out")
        return value

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        for what, names in (
            ("networks are labelled", [network.label for network in self.networks]),
            ("degradations are labelled", [PAIRED, *(degradation.slug for degradation in self.degradations)]),
            ("baselines are named", list(self.baselines)),
            ("sets tested on are", [f"{one.root}, {one.split or 'all'}" for one in (self.dataset, *self.external)]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two {what} {twice[0]!r}")
        if self.shown is not None and self.shown not in [network.label for network in self.networks]:
            raise ValueError(f"shown names {self.shown!r}, which is no network's label")
        for values in (self.training, *(network.override for network in self.networks)):
            for name in _SET_HERE:
                if name in values:
                    raise ValueError(f"{name} is what the degradations tell; leave it out")
        return self


@dataclass(frozen=True)
class Variant:
    """A network trained one way.

    Attributes:
        network: label of the network.
        training: label of the degradation, or `PAIRED`.
        label: of its row in the expanded suite.
    """

    network: str
    training: str

    @property
    def label(self) -> str:
        """Of its row in the expanded suite.

        >>> Variant("TVSRN", "mean").label
        'TVSRN · mean'
        """
        return f"{self.network} · {self.training}"


def variants(gap: GapSuite) -> tuple[Variant, ...]:
    """All trainings, network by network, paired slices first."""
    trainings = (PAIRED, *(degradation.label for degradation in gap.degradations))
    return tuple(Variant(network.label, training) for network in gap.networks for training in trainings)


def expanded(gap: GapSuite, dataset: SuiteDataset | None = None) -> Suite:
    """The experiment as an ordinary suite: baselines, then a method for each variant.

    A network trained on paired slices keeps its recipe's name, so that a run of the same recipe in the same folder
    serves; the others have the degradation's behind it.

    Args:
        gap: the experiment.
        dataset: cases to score; None for the experiment's own.

    Raises:
        UsageError: a recipe that cannot be read, does not train on pairs, or shares its name with another.
    """
    methods = [Method(label=name, model=name) for name in gap.baselines]
    names: dict[str, str] = {}
    for network in gap.networks:
        values = {**gap.training, **network.override}
        recipe = overridden(read_train_recipe(gap.folder / network.recipe), values)
        if recipe.dataset is None:
            raise UsageError(
                f"The recipe of {network.label!r} trains on thin volumes (data), so nothing paired can be compared; "
                "give one with a dataset."
            )
        for thick, noise_hu, training, name in [
            (PAIRED, 0.0, PAIRED, recipe.name),
            *((d.profile, d.noise_hu, d.label, f"{recipe.name}-{d.slug}") for d in gap.degradations),
        ]:
            if name in names:
                raise UsageError(
                    f"Two trainings, of {names[name]!r} and {network.label!r}, are both named {name!r}; give one "
                    "recipe another name in its override."
                )
            names[name] = network.label
            told = {"dataset.thick": thick, "dataset.noise_hu": noise_hu, "name": name}
            methods.append(
                Method(
                    label=Variant(network.label, training).label,
                    recipe=network.recipe,
                    override={**network.override, **told},
                    plan=network.plan,
                    adapt_steps=network.adapt_steps,
                )
            )
    shown = gap.shown or gap.networks[-1].label
    pictured = [*gap.baselines[-1:], *(variant.label for variant in variants(gap) if variant.network == shown)]
    return Suite(
        name=gap.name,
        title=gap.title,
        dataset=SuiteDataset(**(dataset or gap.dataset).model_dump(exclude={"optional"})),
        factor=gap.factor,
        protocols=gap.protocols,
        plan=gap.plan,
        methods=tuple(methods),
        comparisons=(),
        figures=Figures(methods=tuple(pictured)),
        training=gap.training,
        runs=gap.runs,
        limit=gap.limit,
        seed=gap.seed,
    ).placed(gap.folder)


def read_gap_suite(path: Path) -> GapSuite:
    """Read and check a domain-gap experiment.

    Raises:
        UsageError: when the file is missing, not TOML, or says something such a suite does not know.
    """
    return read_toml(path, GapSuite).placed(path.resolve().parent)


def read_any_suite(path: Path) -> Suite | GapSuite:
    """What a suite file holds: a domain-gap experiment where it names degradations, else a benchmark.

    Raises:
        UsageError: when the file is missing, not TOML, or says something its kind of suite does not know.
    """
    return read_gap_suite(path) if "degradations" in toml_values(path) else read_suite(path)
