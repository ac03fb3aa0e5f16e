"""The few names of 3D Slicer that `integrations/slicer` uses, without Slicer: nodes, files, processes and widgets.

A node holds voxels and a matrix as Slicer's does; files are written and read by nibabel, processes are real ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest


class VolumeNode:
    """A vtkMRMLScalarVolumeNode: voxels (i, j, k) and their matrix to RAS mm."""

    def __init__(self, name: str, voxels: npt.NDArray[Any], ijk_to_ras: npt.NDArray[np.float64]) -> None:
        self.name, self.voxels, self.ijk_to_ras = name, voxels, ijk_to_ras
        self.attributes: dict[str, str] = {}
        self.transform_id: str | None = None
        self.storage_id: str | None = "storage"

    def GetName(self) -> str:
        return self.name

    def GetAttribute(self, key: str) -> str | None:
        return self.attributes.get(key)

    def SetAttribute(self, key: str, value: str) -> None:
        self.attributes[key] = value

    def GetTransformNodeID(self) -> str | None:
        return self.transform_id

    def SetAndObserveTransformNodeID(self, transform_id: str | None) -> None:
        self.transform_id = transform_id

    def SetAndObserveStorageNodeID(self, storage_id: str | None) -> None:
        self.storage_id = storage_id


class Widget:
    """Any widget: attributes are set and read, signals connected and sent."""

    def __init__(self, *content: object) -> None:
        self.content = content
        self.enabled, self.checked, self.text, self.value = True, False, "", 0
        self.slots: dict[str, list[Callable[..., None]]] = {}

    def connect(self, signal: str, slot: Callable[..., None]) -> None:
        self.slots.setdefault(signal, []).append(slot)

    def send(self, signal: str, *values: object) -> None:
        for slot in self.slots[signal]:
            slot(*values)

    def click(self) -> None:
        if self.enabled:
            self.send("clicked()")


class ComboBox(Widget):
    """A QComboBox, with the node selector's part of its neighbour."""

    def __init__(self, *content: object) -> None:
        super().__init__(*content)
        self.items: list[tuple[str, object]] = []
        self.currentIndex = 0
        self.node: VolumeNode | None = None

    def addItem(self, text: str, data: object = None) -> None:
        self.items.append((text, data))

    def addItems(self, texts: list[str]) -> None:
        self.items += [(text, None) for text in texts]

    @property
    def currentText(self) -> str:
        return self.items[self.currentIndex][0]

    @property
    def currentData(self) -> object:
        return self.items[self.currentIndex][1]

    def setMRMLScene(self, scene: object) -> None:
        self.scene = scene

    def currentNode(self) -> VolumeNode | None:
        return self.node


class Layout:
    """Any layout: the rows and widgets that were added."""

    def __init__(self, parent: object = None) -> None:
        self.rows: list[tuple[object, ...]] = []

    def addRow(self, *row: object) -> None:
        self.rows.append(row)

    def addWidget(self, widget: object) -> None:
        self.rows.append((widget,))

    def addStretch(self, factor: int) -> None:
        pass


class Timer(Widget):
    """A QTimer whose time-outs the test sends."""

    is_active = False

    def setInterval(self, milliseconds: int) -> None:
        self.interval = milliseconds

    def start(self) -> None:
        self.is_active = True

    def stop(self) -> None:
        self.is_active = False


class FakeSlicer:
    """What a test sees of the fake: settings, loaded nodes, shown layers and errors.

    Attributes:
        settings: Slicer's settings.
        environment: variables of the process that started Slicer.
        files: path of each DICOM instance in the database.
        loaded: nodes in the order of loading, with the properties asked for.
        layers: arguments of the last call that set the slice views.
        errors: texts of error dialogs.
        folders: temporary folders that were made.
    """

    def __init__(self, work: Path) -> None:
        self.settings: dict[str, Any] = {}
        self.environment = dict(os.environ)
        self.files: dict[str, str] = {}
        self.loaded: list[tuple[VolumeNode, dict[str, Any]]] = []
        self.layers: dict[str, Any] = {}
        self.errors: list[str] = []
        self.folders: list[Path] = []
        self._work = work

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make `import slicer`, `qt` and `ctk` give this fake."""
        fake = self
        slicer, util, qt, ctk = (ModuleType(name) for name in ("slicer", "slicer.util", "qt", "ctk"))
        scripted = ModuleType("slicer.ScriptedLoadableModule")

        class Module:
            def __init__(self, parent: Any) -> None:
                self.parent = parent

        class ModuleWidget:
            def __init__(self, parent: Any = None) -> None:
                self.layout = Layout()

            def setup(self) -> None:
                pass

        class Settings:
            def setValue(self, key: str, value: object) -> None:
                fake.settings[key] = value

        class Database:
            def fileForInstance(self, uid: str) -> str:
                return fake.files.get(uid, "")

        scripted.ScriptedLoadableModule = Module  # type: ignore[attr-defined]
        scripted.ScriptedLoadableModuleWidget = ModuleWidget  # type: ignore[attr-defined]
        scripted.ScriptedLoadableModuleLogic = type("ScriptedLoadableModuleLogic", (), {})  # type: ignore[attr-defined]
        scripted.ScriptedLoadableModuleTest = type("ScriptedLoadableModuleTest", (), {})  # type: ignore[attr-defined]
        for name in ("tempDirectory", "exportNode", "loadVolume", "launchConsoleProcess", "startupEnvironment"):
            setattr(util, name, getattr(self, f"_{name}"))
        util.settingsValue = fake.settings.get  # type: ignore[attr-defined]
        util.errorDisplay = fake.errors.append  # type: ignore[attr-defined]
        util.setSliceViewerLayers = lambda **layers: fake.layers.update(layers)  # type: ignore[attr-defined]
        slicer.util, slicer.mrmlScene, slicer.dicomDatabase = util, object(), Database()  # type: ignore[attr-defined]
        slicer.qMRMLNodeComboBox = ComboBox  # type: ignore[attr-defined]
        for name in ("QCheckBox", "QDoubleSpinBox", "QLabel", "QLineEdit", "QProgressBar", "QPushButton"):
            setattr(qt, name, Widget)
        qt.QComboBox, qt.QFormLayout, qt.QTimer, qt.QSettings = ComboBox, Layout, Timer, Settings  # type: ignore[attr-defined]
        ctk.ctkCollapsibleButton = ctk.ctkPathLineEdit = Widget  # type: ignore[attr-defined]
        for module in (slicer, util, scripted, qt, ctk):
            monkeypatch.setitem(sys.modules, module.__name__, module)

    def _tempDirectory(self, key: str) -> str:
        self.folders.append(Path(tempfile.mkdtemp(prefix=key, dir=self._work)))
        return str(self.folders[-1])

    def _exportNode(self, node: VolumeNode, filename: str) -> bool:
        nibabel.save(nibabel.Nifti1Image(node.voxels, node.ijk_to_ras), filename)
        return True

    def _loadVolume(self, filename: str, properties: dict[str, Any]) -> VolumeNode:
        image = nibabel.load(filename)
        node = VolumeNode(properties["name"], np.asanyarray(image.dataobj), np.array(image.affine))
        self.loaded.append((node, properties))
        return node

    def _startupEnvironment(self) -> dict[str, str]:
        return self.environment

    def _launchConsoleProcess(self, args: list[str], useStartupEnvironment: bool) -> subprocess.Popen[str]:
        assert useStartupEnvironment
        return subprocess.Popen(
            args, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
        )
