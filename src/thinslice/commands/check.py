"""Is a network any good on this scan? The command `check`, which needs no thin slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.arguments import check_callback, check_instance
from thinslice.commands.check_report import EXIT_CODES, CheckReport, outside
from thinslice.evaluation.scan_traits.findings import Finding, findings
from thinslice.evaluation.scan_traits.reference import TrainingSet, training_set
from thinslice.evaluation.scan_traits.scores import ThickerTest
from thinslice.evaluation.scan_traits.traits import ScanTraits, measure_traits
from thinslice.experiments.thicker import MIN_THICKER, measure_thicker
from thinslice.options import option
from thinslice.planning.eligibility import WIDTH_TOLERANCE
from thinslice.plausibility import examine
from thinslice.typing import PhaseProgress
from thinslice.volume import Volume

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel
    from thinslice.models.stored import Stored

LEAST_GAIN_DB = 0.3
"""Gain over interpolation on the scan's own thicker slices below which the network is hardly worth its risk."""


def check(
    volume: Volume | str | Path | Sequence[str | Path],
    *,
    model: str | Path | ThroughPlaneModel | Stored = "default",
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    phase: PhaseProgress | None = None,
    reference: TrainingSet | None = None,
) -> CheckReport:
    """Whether a network is good for a thick scan, from the scan alone.

    The scan's slices are averaged to thicker ones, and the network must bring them back better than interpolation.
    Noise, sharpness, values and the relation of neighbouring slices are compared with the training scans and with the
    header.

    Args:
        volume: the thick scan, or the path that `thinslice.read` reads it from.
        model: a name of the catalog, a weights file, or a network that meets `thinslice.models.base`.
        device, backend, threads: as for `thinslice.upscale`.
        phase: called with "measuring" or "network", and the share of it that is done.
        reference: traits of the training scans; None for those that come with the package.

    Returns:
        The report. A good verdict is no promise: faults that show in no trait remain possible.

    Raises:
        ArgumentTypeError: for a value of another type; the message describes what is taken.
        ThinsliceError: as for `thinslice.read`, `thinslice.load_model` and the settings of `thinslice.upscale`.
    """
    from thinslice.inference.backends.choice import choose_backend, choose_device
    from thinslice.inference.networks import load_network
    from thinslice.inference.settings import UpscaleSettings
    from thinslice.io.files import read

    check_callback("phase", phase)
    if reference is not None:
        check_instance("reference", reference, TrainingSet, "a TrainingSet, or None")
    settings = UpscaleSettings(model=model, device=device, backend=backend, threads=threads)
    choose_device(settings.device, choose_backend(settings.backend))
    scan = volume if isinstance(volume, Volume) else read(volume)
    network = load_network(model, backend=settings.backend)
    training = training_set() if reference is None else reference
    report = phase or (lambda name, share: None)
    traits = measure_traits(scan, phase=phase)
    report("network", 0.0)
    tests = measure_thicker(
        scan,
        network,
        device=device,
        backend=backend,
        threads=threads,
        share=lambda done: report("network", done),
    )
    card: dict[str, Any] = getattr(network, "card", None) or {}
    name = str(card.get("name") or (Path(model).stem if isinstance(model, str | Path) else type(model).__name__))
    sha256 = getattr(network, "sha256", None)
    found = [
        *unlikely_values(scan),
        *findings(traits, training),
        *_beyond_training(traits, card, name),
        *_gains(scan, tests, name, training, sha256),
    ]
    found.sort(key=lambda finding: -EXIT_CODES[finding.verdict])
    verdict = found[0].verdict if found else "good"
    usual = {trait: span for trait in ScanTraits.model_fields if (span := _usual(training, trait)) is not None}
    return CheckReport(
        verdict=verdict,
        sentence=_sentence(found, tests, name, len(outside(traits, usual))),
        exit_code=EXIT_CODES[verdict],
        findings=tuple(found),
        tests=tests,
        training_gain_db={
            test.factor: gains for test in tests if (gains := training.gains_db(sha256, test.factor)) is not None
        },
        card_gain_db={test.factor: gain for test in tests if (gain := card_gain_db(card, test.factor)) is not None},
        traits=traits,
        usual=usual,
        model=name,
        model_sha256=sha256,
    )


def card_gain_db(card: dict[str, Any], factor: int) -> float | None:
    """Mean gain over the better interpolation, at a factor, over the cases of a model card; None without scores.

    >>> rows = [{"case": "a", "factor": 2, "model": name, "psnr": db} for name, db in (("cubic", 30.0), ("mine", 32.5))]
    >>> card_gain_db({"name": "mine", "scores": {"rows": rows}}, 2)
    2.5
    """
    rows = [row for row in card.get("scores", {}).get("rows", []) if row["factor"] == factor]
    gains = []
    for case in dict.fromkeys(row["case"] for row in rows):
        psnr = {row["model"]: row["psnr"] for row in rows if row["case"] == case}
        others = [value for method, value in psnr.items() if method.startswith("cubic")]
        if others and len(psnr) > len(others):
            gains.append(max(value for method, value in psnr.items() if not method.startswith("cubic")) - max(others))
    return round(sum(gains) / len(gains), 2) if gains else None


def _usual(training: TrainingSet, trait: str) -> tuple[float, float] | None:
    if trait in ("repeated", "jump_at", "slices", "boundaries", "edges"):
        return None
    return training.usual(trait)


def unlikely_values(scan: Volume) -> list[Finding]:
    """A finding where the values are certainly, or probably, no HU."""
    sentence = examine(scan.hu, padding=scan.provenance.padding_hu).sentence()
    return [] if sentence is None else [Finding(trait="values", verdict="not for this network", sentence=sentence)]


def _beyond_training(traits: ScanTraits, card: dict[str, Any], name: str) -> list[Finding]:
    """What `upscale` would refuse: too much overlap for this network."""
    from thinslice.inference.prepare import WIDEST_TRAINED

    widest = float(card.get("widest_slice", WIDEST_TRAINED))
    if not card or traits.header_thickness <= widest + WIDTH_TOLERANCE:
        return []
    return [
        Finding(
            trait="header_thickness",
            verdict="not for this network",
            value=traits.header_thickness,
            sentence=f"By the header slices are {traits.header_thickness:.3g} times as thick as they are apart, and "
            f"{name} was trained up to {widest:g} times. Check the slice thickness, or take "
            f"{option('model', 'cubic-consistent')}.",
        )
    ]


def _gains(
    scan: Volume, tests: tuple[ThickerTest, ...], name: str, training: TrainingSet, sha256: str | None
) -> list[Finding]:
    """Whether the network brings the scan's own thicker slices back."""
    if not tests:
        return [
            Finding(
                trait="thicker_slices",
                verdict="look closely",
                value=float(scan.shape[0]),
                sentence=f"{scan.shape[0]} slices are too few to try {name} on thicker ones: "
                f"{2 * MIN_THICKER + 1} or more are necessary.",
            )
        ]
    worst = min(tests, key=lambda test: test.gain_db)
    # The smallest average leaves most slices to compare; where it gains, a loss at the next one is noise or distance.
    first = tests[0].gain_db
    if first >= LEAST_GAIN_DB:
        return []
    return [
        Finding(
            trait="thicker_slices",
            verdict="not for this network" if first < 0.0 and worst.gain_db < 0.0 else "look closely",
            value=round(first, 3),
            usual=training.gains_db(sha256, tests[0].factor),
            sentence=f"On this scan's own slices, averaged by {tests[0].factor}, {name} is {abs(first):.1f} dB "
            f"{'better' if first >= 0 else 'worse'} than interpolation, where {LEAST_GAIN_DB} dB are the least to be "
            f"worth its risk: take {option('model', 'cubic-consistent')}.",
        )
    ]


def _sentence(found: list[Finding], tests: tuple[ThickerTest, ...], name: str, others_outside: int) -> str:
    if not found:
        gain = f"{name} is {tests[0].gain_db:.1f} dB better than interpolation on this scan's own thicker slices"
        if not others_outside:
            return f"Good: {gain}, and all traits are within those of the scans that it was trained on."
        traits = "one trait lies" if others_outside == 1 else f"{others_outside} traits lie"
        return (
            f"Good: {gain}, and nothing was found that is known to harm; {traits} outside those of the scans that it "
            "was trained on."
        )
    others = f" ({len(found) - 1} more below)" if len(found) > 1 else ""
    verdict = found[0].verdict
    return f"{verdict[0].upper()}{verdict[1:]}{others}: {found[0].sentence}"
