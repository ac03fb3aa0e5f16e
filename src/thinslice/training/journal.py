"""Logs of a run in progress: CSV, TensorBoard, pictures.

A run that was killed continues from its last saved state, so lines after that state are removed and written again.
"""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from thinslice.typing import Notify

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG_COLUMNS = ("step", "loss", "learning_rate", "seconds_left")
VALIDATION_COLUMNS = ("step", "psnr", "ssim", "cases")


class Journal:
    """Writer of the logs of a run.

    Args:
        out: folder of the run.
        first: optimiser steps done; later lines are removed.
        writes: whether this process writes; only the first one does.
        notify: called with a line where TensorBoard is not installed.
    """

    def __init__(self, out: Path, *, first: int, writes: bool = True, notify: Notify = lambda line: None) -> None:
        self.out, self.first, self.writes, self.notify = out, first, writes, notify
        self._board: SummaryWriter | None = None

    def __enter__(self) -> Self:
        if self.writes:
            for name in ("log.csv", "validation.csv"):
                _cut(self.out / name, self.first)
            if self.first == 0:
                # Of a run whose state is gone; curves of two runs in one folder would be shown as one.
                for pattern in ("tensorboard/events.out.tfevents.*", "pictures/step-*.png"):
                    for file in self.out.glob(pattern):
                        file.unlink(missing_ok=True)
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                self.notify("TensorBoard is not installed: the curves are in log.csv and validation.csv alone")
            else:
                self._board = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.first + 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()

    def log(self, step: int, loss: float, rate: float, seconds_left: float) -> None:
        """Add a line on training."""
        row = (step, f"{loss:.8g}", f"{rate:.3e}", f"{seconds_left:.0f}")
        self._add("log.csv", LOG_COLUMNS, row, {"loss": loss, "learning_rate": rate})

    def validated(self, step: int, psnr: float, ssim: float, cases: int) -> None:
        """Add a line on a validation."""
        row = (step, f"{psnr:.6f}", f"{ssim:.6f}", cases)
        self._add("validation.csv", VALIDATION_COLUMNS, row, {"psnr": psnr, "ssim": ssim})

    def picture(self, step: int, png: bytes) -> None:
        """Save a picture of a validation case."""
        if self.writes:
            from thinslice.pictures.drawing import save_png

            folder = self.out / "pictures"
            folder.mkdir(exist_ok=True)
            save_png(png, folder / f"step-{step:08d}.png", overwrite=True)

    def _add(self, name: str, columns: tuple[str, ...], row: tuple[object, ...], scalars: dict[str, float]) -> None:
        if not self.writes:
            return
        path = self.out / name
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            if new:
                writer.writerow(columns)
            writer.writerow(row)
        if self._board is not None:
            for label, value in scalars.items():
                self._board.add_scalar(label, value, int(str(row[0])))


def _cut(path: Path, last: int) -> None:
    """Remove the lines of steps after `last`, and an incomplete last line."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as stream:
        header, *rows = list(csv.reader(stream)) or [[]]
    kept = [row for row in rows if len(row) == len(header) and row[0].isdigit() and int(row[0]) <= last]
    if len(kept) < len(rows):
        from thinslice.system.atomic import atomic_file

        with (
            atomic_file(path, overwrite=True) as part,
            part.open("w", newline="", encoding="utf-8") as target,
        ):
            csv.writer(target).writerows([header, *kept])
