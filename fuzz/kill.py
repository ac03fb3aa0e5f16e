"""SIGKILL at a random moment of a run, many times: outputs are whole or absent, and a second run gives the same bytes.

    python fuzz/kill.py upscale|batch|train|all --count 200 --seed 1

Runs are forked from this process, which has everything imported, so that a kill costs the run's time and not that of
starting Python. The exit code is 1 where a rule was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.dicom_factory import write_series
from support.pair_factory import small_recipe, write_pair

RECIPE = small_recipe(steps=24, every=12, top="save_every_s = 0.0")

Digests = dict[str, str]


def digests(folder: Path) -> Digests:
    """SHA-256 of every file below a folder that is no hidden one."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def hidden(folder: Path) -> list[str]:
    """Remains: hidden files and folders below a folder."""
    return sorted(path.name for path in folder.rglob(".*"))


def start(arguments: list[str]) -> int:
    """Fork a process that runs the command, as the leader of its own group; its number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setpgid(0, 0)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            from thinslice.cli import main

            main(arguments)
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(bool(leaving.code))
        finally:
            os._exit(code)
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    return child


def run(arguments: list[str]) -> tuple[int, float]:
    """Run the command to its end; exit code and seconds."""
    begun = time.monotonic()
    _, status = os.waitpid(start(arguments), 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - begun


def run_killed(arguments: list[str], after_s: float) -> bool:
    """Run the command and kill its whole group after so many seconds; False where it had ended before."""
    child = start(arguments)
    time.sleep(after_s)
    ended, _ = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if ended == 0:
        os.waitpid(child, 0)
    return ended == 0


@dataclass(frozen=True)
class Task:
    """A command that is killed.

    Attributes:
        arguments: the command, given the folder of its outputs.
        before: what lies in that folder before the run.
        groups: the names below the folder whose content must be whole or absent together; each name, of files and
            folders alike, is the first part of a path.
        kept: whether a file counts when two ends of the run are compared; logs with times do not.
    """

    arguments: Callable[[Path], list[str]]
    before: Callable[[Path], None]
    groups: tuple[tuple[str, ...], ...]
    kept: Callable[[str], bool] = lambda name: True


def upscale_tasks(place: Path) -> list[Task]:
    """Upscaling to every format, into an empty folder and over an older output."""
    source = place / "thick"
    write_series(source, shape=(8, 64, 64))
    tasks = []
    for name, group in (
        ("thin", ("thin",)), ("thin.nii", ("thin.nii",)), ("thin.nii.gz", ("thin.nii.gz",)),
        ("thin.nrrd", ("thin.nrrd",)), ("thin.mha", ("thin.mha",)), ("thin.mhd", ("thin.mhd", "thin.raw")),
    ):  # fmt: skip
        for older in (False, True):

            def arguments(out: Path, name: str = name) -> list[str]:
                return ["upscale", str(source), str(out / name), "--model", "linear", "--overwrite", "--quiet"]

            def before(out: Path, name: str = name, older: bool = older) -> None:
                if older:
                    code, _ = run([*arguments(out, name), "--factor", "3"])
                    assert code == 0, code

            tasks.append(Task(arguments, before, (group,)))
    return tasks


def batch_tasks(place: Path) -> list[Task]:
    """Every study of a folder."""
    for number in range(3):
        write_series(place / "studies" / str(number), shape=(5, 48, 48), seed=number)

    def arguments(out: Path) -> list[str]:
        return ["upscale", str(place / "studies"), str(out), "--all", "--model", "linear", "--quiet"]

    return [Task(arguments, lambda out: None, (), lambda name: not Path(name).name.startswith("summary"))]


def train_tasks(place: Path) -> list[Task]:
    """A training of 24 steps that saves its state after every step."""
    for split, numbers in (("train", (0, 1)), ("val", (100,))):
        for number in numbers:
            write_pair(place / "data" / "pairs", split, number)
    (place / "data" / "small.toml").write_text(RECIPE)

    def arguments(out: Path) -> list[str]:
        data = place / "data"
        options = ["--device", "cpu", "--threads", "1", "--quiet"]
        return ["train", str(data / "small.toml"), "--data", str(data), "--out", str(out), *options]

    return [Task(arguments, lambda out: None, (), lambda name: name.endswith(".safetensors"))]


KINDS: dict[str, Callable[[Path], list[Task]]] = {"upscale": upscale_tasks, "batch": batch_tasks, "train": train_tasks}


def judge(task: Task, out: Path, whole: Digests, old: Digests) -> list[str]:
    """Rules that the folder breaks after a kill: each group is that of a whole run, the older one, or absent."""
    found = digests(out)
    broken = []
    groups = task.groups or tuple((name,) for name in sorted({name.split("/")[0] for name in found if task.kept(name)}))
    for group in groups:
        here, new, older = (
            {name: value for name, value in each.items() if name.split("/")[0] in group and task.kept(name)}
            for each in (found, whole, old)
        )
        # Of an output folder that is filled study by study every file must be a whole one.
        partly = not task.groups and here.items() <= new.items()
        if here and here not in (new, older) and not partly:
            broken.append(f"{'+'.join(group)} is neither whole nor absent: {len(here)} of {len(new)} files")
    return broken


def kill_many(kind: str, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Kill runs of a kind; how often each course was taken, and every rule that was broken."""
    random = np.random.default_rng(seed)
    courses: Counter[str] = Counter()
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        place = Path(folder)
        tasks = KINDS[kind](place)
        wholes = []
        for number, task in enumerate(tasks):
            reference = place / f"whole{number}"
            reference.mkdir()
            code, _ = run(task.arguments(reference))
            assert code == 0, f"the whole run ended with {code}"
            # The second run has warm caches, as the killed ones have.
            shutil.rmtree(reference)
            reference.mkdir()
            code, seconds = run(task.arguments(reference))
            wholes.append((digests(reference), seconds))
        for index in range(count):
            number = int(random.integers(len(tasks)))
            task, (whole, seconds) = tasks[number], wholes[number]
            out = place / f"killed{index}"
            out.mkdir()
            task.before(out)
            old = digests(out)
            kills = 1 if kind == "upscale" else int(random.integers(1, 4))
            for _ in range(kills):
                killed = run_killed(task.arguments(out), float(random.uniform(0, seconds)))
                courses["killed" if killed else "ended before the kill"] += 1
                if kind != "train":
                    broken += [f"run {index}: {line}" for line in judge(task, out, whole, old)]
            code, _ = run(task.arguments(out))
            again = {name: value for name, value in digests(out).items() if task.kept(name)}
            expected = {name: value for name, value in whole.items() if task.kept(name)}
            if code != 0:
                broken.append(
                    f"run {index}: the next run ended with {code}: {' '.join(task.arguments(Path('OUT'))[2:])}"
                )
            elif again != expected:
                differing = sorted(n for n in again.keys() | expected.keys() if again.get(n) != expected.get(n))
                broken.append(f"run {index}: the next run gives other bytes: {differing[:5]}")
            if kind == "upscale" and hidden(out):
                broken.append(f"run {index}: remains after the next run: {hidden(out)[:5]}")
            shutil.rmtree(out)
    return courses, broken


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[*KINDS, "all"])
    parser.add_argument("--count", type=int, default=200, help="runs that are killed, of each kind")
    parser.add_argument("--seed", type=int, default=0, help="decides on tasks and moments")
    options = parser.parse_args()
    os.environ["SOURCE_DATE_EPOCH"] = "1770000000"
    import thinslice.inference.upscale
    import thinslice.training.fit  # noqa: F401 - imported once, here

    failed = False
    for kind in KINDS if options.kind == "all" else [options.kind]:
        begun = time.monotonic()
        courses, broken = kill_many(kind, options.count, options.seed)
        counts = ", ".join(f"{course} {times}" for course, times in courses.items())
        print(
            f"{kind:8s} {options.count} runs in {time.monotonic() - begun:.0f} s: {counts}; broken {len(broken)}",
            flush=True,
        )
        for line in broken[:20]:
            print(f"    {line}", flush=True)
        failed |= bool(broken)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
