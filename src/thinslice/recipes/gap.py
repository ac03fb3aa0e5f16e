"""The suite of a domain-gap experiment: networks trained on real and on simulated thick slices, tested on real pairs.

Source: paper, section 3.2 and Fig. 3(c). The paper describes its degradation only in the supplement; here each
degradation has a name.
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
from thinslice.recipes.training import overridden, read_train_recipe
from thinslice.recipes.training_data import NoiseHu, ProfileName

PAIRED = "paired"
"""Name of training on the data set's own thick slices, in tables, figures and recipes."""

MAX_DEGRADATIONS = 7
"""Together with training on pairs, the number of series that a plot can distinguish."""

_SET_HERE = ("dataset.thick", "dataset.noise_hu")


class GapNetwork(Checked):
    """A network of the experiment.

    Attributes:
        label: name in tables and figures.
        recipe: training recipe, relative to the suite file; it must train on pairs (`dataset`).
        override: values of the recipe to change, by dotted name; change `name` with them.
        plan: window plan; None for that of the suite.
        adapt_steps: steps of test-time adaptation to each volume, for networks that support it (davsr); 0 for none.
    """

    label: str = Field(pattern=r"^[^·]+$", max_length=30)
    recipe: str
    override: dict[str, Any] = Field(default_factory=dict)
    plan: Plan | None = None
    adapt_steps: int = Field(0, ge=0, le=100_000)


class Degradation(Checked):
    """A simulation of the thick slices that a network is trained on.

    Attributes:
        label: name in tables and figures, and in the name of the training run.
        profile: slice profile (`thinslice.profile.SIMULATED`).
        noise_hu: standard deviation of white noise added to the thick slices.
    """

    label: str = Field(pattern=r"^[^·]*[A-Za-z0-9][^·]*$", max_length=24)
    profile: ProfileName
    noise_hu: NoiseHu = 0.0

    @property
    def slug(self) -> str:
        """The label as part of a file name.

        >>> Degradation(label="mean, 8 HU", profile="mean", noise_hu=8).slug
        'mean-8-hu'
        """
        return re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-")


class ExternalDataset(SuiteDataset):
    """Another set of real pairs to test on.

    Attributes:
        optional: whether a missing folder is accepted without a failure.
    """

    optional: bool = False


class GapSuite(SuiteFile):
    """A domain-gap experiment. `dataset` holds the real pairs for testing, recipes and `training` those for training.

    Attributes:
        external: other sets of real pairs, such as another scanner's; each is scored in a table of its own.
        networks: networks of the experiment; each is trained on paired slices and once on each degradation, otherwise
            by the same recipe.
        degradations: simulations of the thick slices for training.
        baselines: names of the catalog that are scored too, such as interpolations: lines in the figure.
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
    def _labels_differ(self) -> Self:
        for kind, names in (
            ("networks are labelled", [network.label for network in self.networks]),
            ("degradations are labelled", [PAIRED, *(degradation.slug for degradation in self.degradations)]),
            ("baselines are named", list(self.baselines)),
            ("sets tested on are", [f"{one.root}, {one.split or 'all'}" for one in (self.dataset, *self.external)]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two {kind} {twice[0]!r}")
        if self.shown is not None and self.shown not in [network.label for network in self.networks]:
            raise ValueError(f"shown names {self.shown!r}, which is no network's label")
        for values in (self.training, *(network.override for network in self.networks)):
            for name in _SET_HERE:
                if name in values:
                    raise ValueError(f"the degradations set {name}; leave it out")
        return self


@dataclass(frozen=True)
class Variant:
    """A network trained one way.

    Attributes:
        network: label of the network.
        training: label of the degradation, or `PAIRED`.
    """

    network: str
    training: str

    @property
    def label(self) -> str:
        """The label of the variant's row in the expanded suite.

        >>> Variant("TVSRN", "mean").label
        'TVSRN · mean'
        """
        return f"{self.network} · {self.training}"


def variants(gap: GapSuite) -> tuple[Variant, ...]:
    """All trainings of an experiment, network by network, paired slices first."""
    trainings = (PAIRED, *(degradation.label for degradation in gap.degradations))
    return tuple(Variant(network.label, training) for network in gap.networks for training in trainings)


def expanded(gap: GapSuite, dataset: SuiteDataset | None = None) -> Suite:
    """The ordinary suite of an experiment: baselines, then a method for each variant.

    A network trained on paired slices keeps the name of its recipe, so an earlier run of the recipe in the same folder
    is used; the names of other runs end with the degradation's slug.

    Args:
        gap: experiment.
        dataset: cases to score; None for the experiment's own.

    Raises:
        UsageError: a recipe that cannot be read, does not train on pairs, or shares its name with another; the message
            names it.
    """
    methods = [Method(label=name, model=name) for name in gap.baselines]
    names: dict[str, str] = {}
    for network in gap.networks:
        values = {**gap.training, **network.override}
        recipe = overridden(read_train_recipe(gap.folder / network.recipe), values)
        if recipe.dataset is None:
            raise UsageError(
                f"The recipe of {network.label!r} trains on thin volumes (data), so nothing paired can be compared; "
                "use a recipe with a dataset."
            )
        for thick, noise_hu, training, name in [
            (PAIRED, 0.0, PAIRED, recipe.name),
            *((d.profile, d.noise_hu, d.label, f"{recipe.name}-{d.slug}") for d in gap.degradations),
        ]:
            if name in names:
                raise UsageError(
                    f"Two trainings, of {names[name]!r} and {network.label!r}, are both named {name!r}; change "
                    "the name of one recipe in its override."
                )
            names[name] = network.label
            simulated = {"dataset.thick": thick, "dataset.noise_hu": noise_hu, "name": name}
            methods.append(
                Method(
                    label=Variant(network.label, training).label,
                    recipe=network.recipe,
                    override={**network.override, **simulated},
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
        UsageError: when the file is missing, not TOML, or has an unknown key or a wrong value; the message names it.
    """
    return read_toml(path, GapSuite).placed(path.resolve().parent)


def read_any_suite(path: Path) -> Suite | GapSuite:
    """Read and check a suite file: a domain-gap experiment where it has degradations, else a benchmark.

    Raises:
        UsageError: when the file is missing, not TOML, or has an unknown key or a wrong value; the message names it.
    """
    return read_gap_suite(path) if "degradations" in toml_values(path) else read_suite(path)
