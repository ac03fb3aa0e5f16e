"""3D Slicer module: a thick-slice CT volume of the scene in, a thin-slice one out, by the command line of thinslice.

The logic writes the volume to a temporary folder, starts `thinslice upscale`, and loads what it wrote; scripts call
`ThinSlicesLogic().run(volume, Choices())`. README.md beside the module's folder describes how to install it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ctk
import qt
import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from ThinSlicesLib.command import (
    MODELS,
    NOTICE,
    THIN,
    UNCERTAINTY,
    Choices,
    Run,
    ThinSlicesError,
    arguments,
    find_program,
)

PROGRAM_SETTING = "ThinSlices/Program"
"""Key of Slicer's settings that holds the path of the program."""

POLL_MS = 200
"""Time between two looks at a run."""

SUMMARY = ("slices ", "spacing ", "consistency ", "warning: ")
"""Beginnings of the lines of a run that the panel keeps."""


class ThinSlices(ScriptedLoadableModule):
    """What Slicer shows about the module."""

    def __init__(self, parent: object) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "Thin slices"
        self.parent.categories = ["Filtering"]
        self.parent.contributors = ["The thinslice engineers"]
        self.parent.helpText = (
            f"Makes thin-slice CT (1 mm) from thick-slice CT (2 to 8 times that) with the program thinslice. {NOTICE}"
        )
        self.parent.acknowledgementText = "thinslice, Apache-2.0."


@dataclass(frozen=True)
class Job:
    """A run that was started.

    Attributes:
        run: its process.
        thick: the volume node that it reads.
        folder: temporary folder with input and results.
    """

    run: Run
    thick: object
    folder: Path


class ThinSlicesLogic(ScriptedLoadableModuleLogic):
    """Volume node in, thin volume node out."""

    def start(self, thick: object, choices: Choices, *, from_dicom: bool = False) -> Job:
        """Write a volume to a temporary folder and start the command line.

        Args:
            thick: scalar volume node, HU.
            choices: what to make of it.
            from_dicom: read the DICOM files that the volume was loaded from instead of its voxels. Only these hold the
                slice thickness and the positions of all slices; changes since the volume was loaded are not in them.

        Raises:
            ThinSlicesError: no program, or a volume that cannot be written; the message names the remedy.
        """
        program = find_program(slicer.util.settingsValue(PROGRAM_SETTING, ""), slicer.util.startupEnvironment())
        folder = Path(slicer.util.tempDirectory("ThinSlices"))
        try:
            source = self._copy_dicom(thick, folder / "dicom") if from_dicom else self._export(thick, folder)
            # Slicer's own variables would give another Python Slicer's libraries, so the process gets the others.
            process = slicer.util.launchConsoleProcess(
                arguments(program, source, folder, choices), useStartupEnvironment=True
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Job(Run(process), thick, folder)

    def finish(self, job: Job) -> tuple[object, object | None]:
        """Load what a finished run wrote, and remove its folder.

        Returns:
            Node of the thin volume; node of the uncertainty in HU, or None where none was asked for.

        Raises:
            ThinSlicesError: the run made no volume; the message names the remedy.
        """
        try:
            job.run.check()
            name = job.thick.GetName()
            thin = self._load(job, THIN, f"{name} thin")
            # Shown would hide the thin volume behind it.
            uncertainty = self._load(job, UNCERTAINTY, f"{name} thin uncertainty HU", show=False)
            return thin, uncertainty
        finally:
            self.discard(job)

    def discard(self, job: Job) -> None:
        """Remove the folder of a run, which holds voxels of the patient."""
        shutil.rmtree(job.folder, ignore_errors=True)

    def run(
        self,
        thick: object,
        choices: Choices,
        *,
        from_dicom: bool = False,
        note: Callable[[str], None] = print,
    ) -> tuple[object, object | None]:
        """Upscale and wait, for scripts; arguments, results and errors as `start` and `finish`.

        Args:
            thick: scalar volume node, HU.
            choices: what to make of it.
            from_dicom: as for `start`.
            note: called with each line that the command line prints.
        """
        job = self.start(thick, choices, from_dicom=from_dicom)
        job.run.wait()
        for line in job.run.take():
            note(line)
        return self.finish(job)

    def _export(self, thick: object, folder: Path) -> Path:
        path = folder / "thick.nii"
        # exportNode leaves the node's own file name alone, and does not harden its transform.
        if not slicer.util.exportNode(thick, str(path)):
            raise ThinSlicesError(
                f"Slicer could not write {thick.GetName()} as NIfTI; choose a volume of one component."
            )
        return path

    def _copy_dicom(self, thick: object, folder: Path) -> Path:
        uids = (thick.GetAttribute("DICOM.instanceUIDs") or "").split()
        files = [slicer.dicomDatabase.fileForInstance(uid) for uid in uids]
        if not files or not all(name and Path(name).is_file() for name in files):
            raise ThinSlicesError(
                f"The DICOM files of {thick.GetName()} are not in Slicer's database; import the study there and load "
                "it again, or switch 'From the DICOM files' off."
            )
        folder.mkdir()
        for number, name in enumerate(files):
            shutil.copyfile(name, folder / f"{number:05}.dcm")
        return folder

    def _load(self, job: Job, file_name: str, name: str, *, show: bool = True) -> object | None:
        path = job.folder / file_name
        if not path.is_file():
            return None
        node = slicer.util.loadVolume(str(path), {"name": name, "show": show})
        # The file goes away; Slicer asks for a name when the scene is saved.
        node.SetAndObserveStorageNodeID(None)
        node.SetAndObserveTransformNodeID(job.thick.GetTransformNodeID())
        node.SetAttribute("thinslice.notice", NOTICE)
        return node


class ThinSlicesWidget(ScriptedLoadableModuleWidget):
    """The module's panel."""

    def setup(self) -> None:
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = ThinSlicesLogic()
        self.job = None
        self.timer = qt.QTimer()
        self.timer.setInterval(POLL_MS)
        self.timer.connect("timeout()", self.poll)

        box = ctk.ctkCollapsibleButton()
        box.text = "Upscale"
        self.layout.addWidget(box)
        form = qt.QFormLayout(box)

        self.thick = slicer.qMRMLNodeComboBox()
        self.thick.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.thick.addEnabled = self.thick.removeEnabled = False
        self.thick.noneEnabled = True
        self.thick.setMRMLScene(slicer.mrmlScene)
        form.addRow("Thick CT:", self.thick)

        self.model = qt.QComboBox()
        self.model.editable = True
        self.model.toolTip = "A network of 'thinslice models list', or the path of a weights file."
        self.model.addItems(list(MODELS))
        form.addRow("Network:", self.model)

        self.distance = qt.QComboBox()
        self.distance.addItem("nearest to 1 mm", "")
        for factor in range(2, 9):
            self.distance.addItem(f"factor {factor}", str(factor))
        self.distance.addItem("spacing in mm:", "mm")
        form.addRow("Thin slices:", self.distance)
        self.spacing = qt.QDoubleSpinBox()
        self.spacing.minimum, self.spacing.maximum, self.spacing.singleStep = 0.1, 10.0, 0.1
        self.spacing.value = 1.0
        form.addRow("Spacing, mm:", self.spacing)

        self.uncertainty = qt.QCheckBox()
        self.uncertainty.toolTip = "Also load the expected error of every voxel, in HU (networks with such a head)."
        form.addRow("Uncertainty:", self.uncertainty)
        self.texture = qt.QCheckBox()
        self.texture.toolTip = "Add synthetic noise: for measuring, never for reading small structures."
        form.addRow("Texture:", self.texture)
        self.from_dicom = qt.QCheckBox()
        self.from_dicom.toolTip = (
            "Read the DICOM files that the volume was loaded from: with slice thickness and all checks of geometry. "
            "Changes since then are not in them."
        )
        form.addRow("From the DICOM files:", self.from_dicom)
        self.more = qt.QLineEdit()
        self.more.toolTip = "Options of 'thinslice upscale', such as --axis 2 or --threads 4."
        form.addRow("More options:", self.more)
        self.program = ctk.ctkPathLineEdit()
        self.program.toolTip = "Path of the program thinslice; empty to look for it."
        self.program.currentPath = slicer.util.settingsValue(PROGRAM_SETTING, "")
        self.program.connect("currentPathChanged(QString)", self.keep_program)
        form.addRow("Program:", self.program)

        self.apply = qt.QPushButton("Upscale")
        self.apply.connect("clicked()", self.start_or_cancel)
        form.addRow(self.apply)
        self.bar = qt.QProgressBar()
        form.addRow(self.bar)
        self.state = qt.QLabel("")
        self.state.wordWrap = True
        form.addRow(self.state)
        notice = qt.QLabel(NOTICE)
        notice.wordWrap = True
        self.layout.addWidget(notice)
        self.layout.addStretch(1)

    def cleanup(self) -> None:
        """End a run whose panel goes away."""
        if self.job is not None:
            self.timer.stop()
            self.job.run.cancel()
            self.job.run.wait()
            self.logic.discard(self.job)
            self.job = None

    def keep_program(self, path: str) -> None:
        """Keep the path of the program in Slicer's settings."""
        qt.QSettings().setValue(PROGRAM_SETTING, path)

    def choices(self) -> Choices:
        """What the panel asks for."""
        distance = self.distance.currentData
        return Choices(
            model=self.model.currentText.strip() or MODELS[0],
            factor=int(distance) if distance.isdigit() else None,
            spacing_mm=self.spacing.value if distance == "mm" else None,
            uncertainty=self.uncertainty.checked,
            texture=self.texture.checked,
            more=self.more.text,
        )

    def start_or_cancel(self) -> None:
        """Start a run, or end the one that is under way."""
        if self.job is not None:
            self.apply.enabled = False
            self.state.text = "ending"
            self.job.run.cancel()
            return
        thick = self.thick.currentNode()
        if thick is None:
            self.state.text = "Choose the thick CT first."
            return
        try:
            self.job = self.logic.start(thick, self.choices(), from_dicom=self.from_dicom.checked)
        except ThinSlicesError as error:
            self.state.text = str(error)
            slicer.util.errorDisplay(str(error))
            return
        self.apply.text = "Cancel"
        self.state.text = "starting"
        self.timer.start()

    def poll(self) -> None:
        """Show the progress of the run; load its results once it ended."""
        job = self.job
        if job is None:
            return
        is_finished = job.run.is_finished
        for line in job.run.take():
            self.state.text = line
            self.bar.value = round(100 * job.run.share)
        if not is_finished:
            return
        self.timer.stop()
        was_cancelled = not self.apply.enabled
        self.job, self.bar.value = None, 0
        self.apply.text, self.apply.enabled = "Upscale", True
        if was_cancelled:
            self.logic.discard(job)
            self.state.text = "Cancelled; nothing was changed."
            return
        try:
            thin, _ = self.logic.finish(job)
        except ThinSlicesError as error:
            self.state.text = str(error)
            slicer.util.errorDisplay(str(error))
            return
        slicer.util.setSliceViewerLayers(background=thin, foreground=job.thick, foregroundOpacity=0.0)
        summary = [
            line for line in job.run.lines if line.startswith(("slices ", "spacing ", "consistency ", "warning: "))
        ]
        self.state.text = "\n".join((f"Loaded {thin.GetName()}.", *summary))


class ThinSlicesTest(ScriptedLoadableModuleTest):
    """Slicer's own test: a made volume, upscaled by cubic interpolation."""

    def runTest(self) -> None:  # noqa: N802, the name is Slicer's
        """Make a volume of 5 slices 5 mm apart; the thin one must have 21."""
        import numpy as np

        slicer.mrmlScene.Clear()
        thick = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "thick")
        slices = np.linspace(-900, 900, 5).astype(np.int16)[:, None, None]
        slicer.util.updateVolumeFromArray(thick, np.broadcast_to(slices, (5, 32, 32)).copy())
        thick.SetSpacing(0.8, 0.8, 5.0)
        thin, _ = ThinSlicesLogic().run(thick, Choices(model="cubic", factor=5))
        assert slicer.util.arrayFromVolume(thin).shape == (21, 32, 32)
