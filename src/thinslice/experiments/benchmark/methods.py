"""Methods of a suite: loaded from the catalog or a file, or trained first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.errors import TRAINING_PACKAGES, MissingExtraError, UsageError
from thinslice.models import catalog, checkpoint
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.cost import parameters, weight_bytes
from thinslice.models.load import has_random_weights, load_model
from thinslice.recipes import Method, Suite, TrainRecipe, overridden, read_train_recipe
from thinslice.recipes.continuation import as_text, differences, flattened
from thinslice.typing import Notify

if TYPE_CHECKING:
    from thinslice.training import fit


@dataclass(frozen=True)
class LoadedMethod:
    """A method with its network.

    Attributes:
        label: of its row.
        model: the network, in eval mode on the CPU.
        name: the weights' own, else the catalog's.
        catalog_name: name of the catalog or plug-in; None for files.
        weights: the weights file; None for methods by name.
        weights_sha256: of the weights.
        recipe_sha256: of the recipe that they were trained by; None where the card lacks it.
        parameters: trained values.
        weight_bytes: of the tensors.
        plan: requested window plan; None for the network's own.
        adapt_steps: of test-time adaptation.
        published: key of published numbers.
        recipe: the recipe's file, where the suite names one.
        changes: values changed in that recipe, by dotted name.
        training_data_sha256: of the voxels that the weights were trained on, by their card; None where it lacks them.
        is_untrained: whether it is a plug-in's network with random weights.
    """

    label: str
    model: ThroughPlaneModel
    name: str
    catalog_name: str | None
    weights: Path | None
    weights_sha256: str | None
    recipe_sha256: str | None
    parameters: int
    weight_bytes: int
    plan: str | None
    adapt_steps: int
    published: str | None
    recipe: Path | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    training_data_sha256: str | None = None
    is_untrained: bool = False


def load_method(
    method: Method,
    suite: Suite,
    *,
    runs: Path,
    data_root: Path,
    device: str = "auto",
    threads: int | None = None,
    notify: Notify | None = None,
) -> LoadedMethod:
    """Load a method's network, training it first where its weights are missing.

    Args:
        method: of the suite.
        suite: for its folder and its plan.
        runs: folder of training runs; a run's folder there has its recipe's name.
        data_root: folder that the recipe's data paths start from.
        device: to train on.
        threads: CPU threads; None leaves them.
        notify: called with lines about training.

    Raises:
        UsageError: an unknown model, no such file, or a training run of another recipe.
        CheckpointError: weights that are damaged or missing.
        MissingExtraError: training needs packages that are not installed.
        ModelError: training diverged.
    """
    recipe_path: Path | None = None
    changes = {**suite.training, **method.override}
    if method.recipe is not None:
        recipe_path = suite.folder / method.recipe
        recipe = overridden(read_train_recipe(recipe_path), changes)
        catalog.check_config(recipe.network.name, recipe.network.config, where=recipe_path.name)
        places = (recipe_path.parent, data_root)
        source: str | Path = trained(
            recipe, runs / recipe.name, data_root, device=device, threads=threads, places=places, notify=notify
        )
    else:
        assert method.model is not None  # a method has either
        source = method.model if method.model in catalog.names() else _found(method.model, suite.folder, data_root)
    model = load_model(source)
    card = getattr(model, "card", None) or {}
    learned = parameters(model) > 0
    return LoadedMethod(
        label=method.label,
        model=model,
        name=str(card.get("name") or (source.stem if isinstance(source, Path) else source)),
        catalog_name=source if isinstance(source, str) else None,
        weights=source if isinstance(source, Path) else None,
        weights_sha256=checkpoint.weights_digest(model),
        recipe_sha256=card.get("recipe_sha256"),
        parameters=parameters(model),
        weight_bytes=weight_bytes(model),
        plan=method.plan or (suite.plan if learned else None),
        adapt_steps=method.adapt_steps,
        published=method.published,
        recipe=recipe_path,
        changes={} if recipe_path is None else changes,
        training_data_sha256=(card.get("training_data") or {}).get("sha256"),
        is_untrained=isinstance(source, str) and has_random_weights(source),
    )


def trained(
    recipe: TrainRecipe,
    folder: Path,
    data_root: Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    places: Sequence[Path] = (),
    notify: Notify | None = None,
) -> Path:
    """Weights of a recipe: of a finished run in `folder`, or of a run that is started or continued.

    Raises:
        UsageError: the folder holds a run of another recipe; and what `thinslice.training.fit` raises.
        MissingExtraError: training needs packages that are not installed.
    """
    weights = folder / f"{recipe.name}.safetensors"
    if weights.is_file():
        card = checkpoint.inspect(weights).card
        found: dict[str, Any] = {}
        if card.get("recipe_sha256") != recipe.digest:
            found = differences(flattened(card.get("recipe") or {}), recipe, steps_count=True)
        if found:
            raise UsageError(
                f"{folder.name!r} holds weights of another recipe than the present {recipe.name!r}: {as_text(found)}; "
                "rename the recipe, or remove that folder."
            )
        if _finished(card.get("steps"), recipe, folder):
            return weights
    try:
        from thinslice.training import fit
    except ModuleNotFoundError as error:
        raise MissingExtraError(TRAINING_PACKAGES) from error
    if notify:
        notify(f"training {recipe.name}")
    folder.mkdir(parents=True, exist_ok=True)
    done = fit.fit(
        recipe,
        folder,
        data_root=data_root,
        device=device,
        threads=threads,
        places=places,
        report=None if notify is None else lambda line: notify(_progress_text(recipe.name, line)),
    )
    assert done is not None  # without a time limit training ends
    return done


def _progress_text(name: str, line: fit.LogLine) -> str:
    left = f"about {line.seconds_left / 60:.0f} min left"
    if line.psnr is not None:
        return f"{name}: step {line.step} of {line.steps}, validation {line.psnr:.2f} dB, {left}"
    return f"{name}: step {line.step} of {line.steps}, loss {line.loss:.4f}, {left}"


def _finished(steps: object, recipe: TrainRecipe, folder: Path) -> bool:
    """Whether weights of this recipe are final: a running training may have been exported (train --export).

    The best weights may be of an earlier step than the last; then `fit` decides by the state of the run.
    """
    wanted = sum(stage.steps for stage in recipe.stages) or recipe.optimiser.steps
    return (isinstance(steps, int) and steps >= wanted) or not any(folder.rglob("state.pt"))


def _found(name: str, *folders: Path) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise UsageError(
        f"{name!r} is neither a model name ({', '.join(catalog.names())}) nor a weights file beside the suite or below "
        "--data."
    )
