"""Runner of cases: all methods of a suite upscale a case and are scored; each result is stored at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy.typing as npt

from thinslice.about import __version__
from thinslice.data.manifest import Case, Pair
from thinslice.errors import ResourceError, ThinsliceError
from thinslice.evaluation.protocol import Scores, evaluate_all
from thinslice.experiments import provenance
from thinslice.experiments.benchmark.cases import case_digest, read_case
from thinslice.experiments.benchmark.cost import UpscaledCase, upscale_measured, wake
from thinslice.experiments.benchmark.downstream import CaseMeasures, nodule_values
from thinslice.experiments.benchmark.methods import LoadedMethod
from thinslice.experiments.benchmark.store import Identity, Outcome, Store
from thinslice.geometry import Geometry
from thinslice.inference.backends.choice import choose_device
from thinslice.inference.settings import UpscaleSettings
from thinslice.pictures.region import Cuts, FigureRegion, choose_region, cuts_of, thick_cuts_of
from thinslice.recipes import Suite
from thinslice.typing import Notify
from thinslice.volume import Volume

NODULES = "phantom with nodules"
"""What stands for a case where measures of that phantom are stored."""


@dataclass(frozen=True)
class Failure:
    """A method or a case that failed.

    Attributes:
        label: of the method; empty where the case failed for all.
        case_id: of the case; empty where the method failed for all.
        reason: a sentence.
        error: the exception, raised again where nothing succeeded.
    """

    label: str
    case_id: str
    reason: str
    error: Exception = field(repr=False, compare=False)


@dataclass(frozen=True)
class FigureCase:
    """Planes of one case by every method, for the paper's Fig. 4.

    Attributes:
        case_id: the case.
        region: the same for all.
        grid: of the thin volume.
        truth, thick: planes of the pair.
        methods: label -> planes.
    """

    case_id: str
    region: FigureRegion
    grid: Geometry
    truth: Cuts
    thick: Cuts
    methods: Mapping[str, Cuts]


class CaseRunner:
    """The cases of one run, one after the other.

    Args:
        suite: to run.
        store: of finished results.
        device: as for `thinslice.upscale`.
        threads: CPU threads; None leaves them.
        ready: the methods.
        notify: called with lines about the progress.

    Attributes:
        outcomes: (label, case, protocol) -> finished result, of the cases run so far.
        downstream: (label, case) -> downstream measures, where the suite asks for them.
        failures: of methods and cases.
    """

    def __init__(
        self,
        suite: Suite,
        store: Store,
        ready: Sequence[LoadedMethod],
        *,
        device: str = "auto",
        threads: int | None = None,
        notify: Notify | None = None,
    ) -> None:
        self.suite, self.store, self.ready = suite, store, ready
        self.device, self.threads, self.notify = device, threads, notify
        self.failures: list[Failure] = []
        self.outcomes: dict[tuple[str, str, str], Outcome] = {}
        self.downstream: dict[tuple[str, str], dict[str, Any]] = {}
        self._counted: dict[str, dict[tuple[int, int, int, int], int]] = {}
        self._awake: set[str] = set()

    def run(
        self, case: Case, *, shows: bool = False, advance: Callable[[int], None] | None = None
    ) -> FigureCase | None:
        """Score all methods on a case.

        Args:
            case: of the suite.
            shows: whether Fig. 4 shows it.
            advance: called with the number of methods done.

        Returns:
            Planes for Fig. 4, if it shows the case and the case could be read.
        """
        digest = case_digest(case, self.suite.dataset)
        identities: dict[tuple[str, str], Identity] = {
            (method.label, protocol): self._identity(method, case.case_id, digest, protocol)
            for method in self.ready
            for protocol in self.suite.protocols
        }
        for (label, protocol), identity in identities.items():
            stored = self.store.find(identity)
            if stored is not None:
                self.outcomes[label, case.case_id, protocol] = stored
        lacking = {label for label, protocol in identities if (label, case.case_id, protocol) not in self.outcomes}
        lacking |= self._find_downstream(case, identities)
        if not lacking and not shows:
            return None
        try:
            pair = read_case(case, self.suite)
            region = self._region(pair) if shows else None
        except Exception as error:
            self._fail("", case.case_id, error)
            return None
        measures = CaseMeasures(self.suite.downstream, pair, self.suite.folder)
        cuts: dict[str, Cuts] = {}
        for number, method in enumerate(self.ready, start=1):
            drawn = not shows or method.label in (self.suite.figures.methods or [m.label for m in self.ready])
            drawn_from = replace(identities[method.label, self.suite.protocols[0]], protocol="")
            name = _cuts_name(drawn_from, region) if region and drawn else None
            kept = self.store.find_cuts(name, drawn_from) if name else None
            if method.label in lacking or (name and kept is None):
                upscaled = self._scored(method, case, pair, identities, measures)
                if upscaled is not None and name and region:
                    kept = cuts_of(upscaled.thin.hu, pair.thin.geometry, region)
                    self.store.keep_cuts(name, drawn_from, kept)
            if kept is not None:
                cuts[method.label] = kept
            if advance:
                advance(number)
        if region is None:
            return None
        grid = pair.thin.geometry
        truth = cuts_of(pair.thin.hu, grid, region)
        return FigureCase(
            case.case_id, region, grid, truth, thick_cuts_of(pair.thick.hu, pair.factor, grid, region), cuts
        )

    def run_nodules(self) -> dict[str, dict[str, Any]]:
        """Label -> measures of the phantom with nodules, of each method that can do the suite's factor."""
        found: dict[str, dict[str, Any]] = {}
        factor = self.suite.factor
        if not self.suite.downstream.nodules or factor is None:
            return found
        for method in self.ready:
            identity = self._identity(method, NODULES, "", self._downstream_name)
            values = self.store.find_values(identity)
            if values is None:
                if self.notify:
                    self.notify(f"nodules of the phantom: {method.label}")
                try:
                    values = nodule_values(self.suite.downstream, factor, partial(self._thin, method))
                except Exception as error:
                    self._fail(method.label, NODULES, error)
                    continue
                self.store.keep_values(identity, values)
            found[method.label] = values
        return found

    def _thin(self, method: LoadedMethod, thick: Volume) -> npt.NDArray[Any]:
        return upscale_measured(
            method.model, thick, self._settings(method, self.suite.factor), adapt_steps=method.adapt_steps
        ).thin.hu

    def _settings(self, method: LoadedMethod, factor: int | None) -> UpscaleSettings:
        return UpscaleSettings(factor=factor, plan=method.plan, device=self.device, threads=self.threads)

    @property
    def _downstream_name(self) -> str:
        """What stands for a protocol where downstream measures are stored."""
        return f"downstream {self.suite.downstream.digest[:16]}"

    def _find_downstream(self, case: Case, identities: Mapping[tuple[str, str], Identity]) -> set[str]:
        """Take stored downstream measures of a case; the labels that lack them."""
        lacking: set[str] = set()
        if not self.suite.downstream.of_cases:
            return lacking
        for method in self.ready:
            of_method = identities[method.label, self.suite.protocols[0]]
            values = self.store.find_values(replace(of_method, protocol=self._downstream_name))
            if values is None:
                lacking.add(method.label)
            else:
                self.downstream[method.label, case.case_id] = values
        return lacking

    def _scored(
        self,
        method: LoadedMethod,
        case: Case,
        pair: Pair,
        identities: Mapping[tuple[str, str], Identity],
        measures: CaseMeasures,
    ) -> UpscaledCase | None:
        """Upscale, score under every protocol and keep the results; None where that failed."""
        try:
            self._wake(method)
            upscaled = upscale_measured(
                method.model,
                pair.thick,
                self._settings(method, pair.factor),
                adapt_steps=method.adapt_steps,
                counted=self._counted.setdefault(method.label, {}),
            )
            scores = _scores(upscaled, pair, self.suite.protocols)
        except Exception as error:
            self._fail(method.label, case.case_id, error)
            return None
        for protocol, measured in scores.items():
            identity = identities[method.label, protocol]
            outcome = _outcome(identity, measured, upscaled, pair.factor, self.threads)
            self.store.keep(identity, outcome)
            self.outcomes[method.label, case.case_id, protocol] = outcome
        key = method.label, case.case_id
        if self.suite.downstream.of_cases and key not in self.downstream:
            try:
                self.downstream[key] = measures.of(upscaled.thin)
            except Exception as error:
                self._fail(*key, error)
            else:
                first = identities[method.label, self.suite.protocols[0]]
                self.store.keep_values(replace(first, protocol=self._downstream_name), self.downstream[key])
        return upscaled

    def _identity(self, method: LoadedMethod, case_id: str, digest: str, protocol: str) -> Identity:
        return Identity(
            method=method.name,
            weights_sha256=method.weights_sha256,
            adapt_steps=method.adapt_steps,
            case_id=case_id,
            case_digest=digest,
            protocol=protocol,
            plan=method.plan,
            factor=self.suite.factor,
            device=kind_of(self.device),
            version=__version__,
        )

    def _wake(self, method: LoadedMethod) -> None:
        if method.label not in self._awake:
            self._awake.add(method.label)
            try:
                wake(method.model, choose_device(self.device))
            except (RuntimeError, ThinsliceError):
                return  # a lasting fault appears again when the volume is upscaled

    def _region(self, pair: Pair) -> FigureRegion:
        box = self.suite.figures.region
        if box is None:
            return choose_region(pair.thin, pair.factor)
        return choose_region(pair.thin, pair.factor, depth=box.depth, height=box.height, width=box.width)

    def _fail(self, label: str, case_id: str, error: Exception) -> None:
        self.failures.append(failure(label, case_id, error, self.notify))


def _scores(upscaled: UpscaledCase, pair: Pair, protocols: tuple[str, ...]) -> dict[str, Scores]:
    """Scores by protocol."""
    thick = pair.thick if "clinical" in protocols else None
    return evaluate_all(upscaled.thin, pair.thin, protocols, intensity="hu", thick=thick)


def _outcome(identity: Identity, scores: Scores, upscaled: UpscaledCase, factor: int, threads: int | None) -> Outcome:
    return Outcome(
        identity=asdict(identity),
        psnr=None if scores.identical else scores.psnr,
        ssim=scores.ssim,
        ssim_per_slice=scores.ssim_per_slice,
        slices_scored=scores.slices_scored,
        clinical=scores.clinical,
        plan=upscaled.plan,
        factor=factor,
        cost=asdict(upscaled.cost),
        consistency_rms_hu=upscaled.consistency_rms_hu,
        device=upscaled.device,
        device_name=provenance.device_name(upscaled.device),
        threads=threads,
        commit=provenance.commit(),
        made=provenance.now(),
        warnings=(*upscaled.warnings, *scores.warnings),
    )


def _cuts_name(identity: Identity, region: FigureRegion) -> str:
    """Name of stored planes: of the region, and of scores of any protocol."""
    box = "-".join(str(n) for n in (*region.start, *region.stop, *region.cut))
    return f"cuts-{identity.key}-{box}"


def failure(label: str, case_id: str, error: Exception, notify: Notify | None = None) -> Failure:
    """The failure of a method or case as a value; with THINSLICE_DEBUG=1 a programming error is raised instead.

    Args:
        label: of the method, or empty.
        case_id: of the case, or empty.
        error: the exception.
        notify: called with a line about it.
    """
    if isinstance(error, ThinsliceError):
        reason = str(error)
    elif isinstance(error, MemoryError):
        reason = "Memory ran out; close other programs, or use a machine with more."
        error = ResourceError(reason)
    elif os.environ.get("THINSLICE_DEBUG") == "1":
        raise error
    else:
        # Messages of other packages may quote patient data.
        reason = f"A fault of ours or of the network's ({type(error).__name__}); THINSLICE_DEBUG=1 shows where."
    if notify:
        at = " on ".join(part for part in (label, f"case {case_id}" if case_id else "") if part)
        notify(f"failed: {at}: {reason}")
    return Failure(label, case_id, reason, error)


def kind_of(device: str) -> str:
    """Kind of the device that a name means: "cpu", "cuda" or "mps".

    Raises:
        UsageError, DeviceError: as `thinslice.inference.backends.choice.choose_device`.

    >>> kind_of("cpu")
    'cpu'
    """
    return choose_device(device).partition(":")[0]
