"""Thousands of damaged inputs through a reader, each in a child process under a ceiling of memory and time.

    python fuzz/mutate.py READER --count 10000 --seed 1 [--keep FOLDER] [--json FILE]
    python fuzz/mutate.py all --count 1000
    python fuzz/mutate.py READER --count 10000 --seed 1 --log FILE         # goes on where the last run ended
    python fuzz/mutate.py READER --seed 1 --only 4711 --keep FOLDER     # one input again, with its files

The verdicts are described in fuzz/README.md; the exit code is 1 where one of `BAD` occurred.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from mutations import mutate
from readers import READERS, Reader, Reading
from seeds import Seed

from thinslice.errors import ThinsliceError

CEILING_MIB = 512
"""Memory that an input of some kB may take beyond what the process holds before."""

SECONDS_EACH = 10.0
"""Time that an input may take."""

GOOD = ("refused", "same", "said", "voxels", "encoded", "declared")
BAD = ("WRONG", "FAULT", "MEMORY", "CRASH", "HANG")


@dataclass(frozen=True)
class Case:
    """One damaged input: what is written instead of the seed's files."""

    seed_index: int
    changed: dict[str, bytes]


def make_case(reader: Reader, all_seeds: list[Seed], seed: int, index: int) -> Case:
    """The input of this number; the same for the same seed and number."""
    random = np.random.default_rng([seed, index])
    seed_index = int(random.integers(len(all_seeds)))
    chosen = all_seeds[seed_index]
    names = list(chosen.mutated)
    # One file of several; or all of them by the same damage, as a faulty exporter does it.
    if len(names) > 1 and random.random() < 0.3:
        state = int(random.integers(2**31))
        changed = {name: mutate(chosen.files[name], np.random.default_rng(state), reader.kinds) for name in names}
    else:
        name = names[int(random.integers(len(names)))]
        changed = {name: mutate(chosen.files[name], random, reader.kinds)}
    return Case(seed_index, changed)


def judge(reader: Reader, seed: Seed, whole: Reading, path: Path, case: Case) -> tuple[str, str]:
    """The verdict on one input, and a line about it."""
    try:
        found = reader.read(path)
    except ThinsliceError as error:
        text = str(error)
        if error.exit_code == 1:
            return "FAULT", f"{type(error).__name__}: {text}"
        if not text or any(ord(c) < 32 or ord(c) == 127 for c in text):
            return "FAULT", f"a message that is no sentence, or not printable: {text!r}"
        return "refused", type(error).__name__
    except MemoryError:
        return "MEMORY", "MemoryError"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/thinslice/" in frame.filename]
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else f"{where.filename}:{where.lineno}"
        return "FAULT", f"{type(error).__name__} at {place}: {str(error)[:160]}"
    if found.equals(whole):
        return "same", ""
    if set(found.warnings) - set(whole.warnings):
        return "said", ""
    first = seed.mutated[0]
    sealed = seed.sealed_from is not None and set(case.changed) == {first}
    if sealed and case.changed[first][: seed.sealed_from] == seed.files[first][: seed.sealed_from]:
        return "WRONG", "differs without a warning although a checksum covers what was damaged"
    if voxels_alone(reader, seed, whole, case):
        return ("encoded" if seed.coded else "voxels"), ""
    # The other reader is no subject of the ceiling.
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        other = reader.oracle(path)
    except Exception as error:
        return (
            "WRONG",
            f"differs without a warning, and the other reader refuses ({type(error).__name__}: {str(error)[:80]})",
        )
    if found.equals(other, tolerance=0.51):
        return "declared", ""
    return "WRONG", "differs without a warning, and the other reader reads something else"


def voxels_alone(reader: Reader, seed: Seed, whole: Reading, case: Case) -> bool:
    """Whether the damaged files with the seed's voxels are read as the whole input: only voxels were damaged."""
    mended = {name: with_voxels_of(seed, name, content) for name, content in case.changed.items()}
    if None in mended.values():
        return False
    with tempfile.TemporaryDirectory(prefix="mended-") as place:
        try:
            alone = seed.write(Path(place), {name: content for name, content in mended.items() if content is not None})
            return reader.read(alone).equals(whole)
        except Exception:
            return False


def with_voxels_of(seed: Seed, name: str, content: bytes) -> bytes | None:
    """A damaged file with the voxels of the seed, where it keeps them without a checksum; None where that fails."""
    whole, first = seed.files[name], seed.voxels_from.get(name)
    if first is None:
        return content
    if seed.coded != "deflated":
        return content[: len(content) - len(whole) + first] + whole[first:]
    try:
        damaged, sound = (zlib.decompress(data[first:], -zlib.MAX_WBITS) for data in (content, whole))
    except zlib.error:
        return None
    voxels = int(pydicom.dcmread(io.BytesIO(whole)).get_item("PixelData").length)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    # What goes before the voxels has its length, or moved with the end of the stream.
    head = damaged[: len(sound) - voxels]
    head = head if head[-12:] == sound[-voxels - 12 : -voxels] else damaged[:-voxels]
    return content[:first] + packer.compress(head + sound[-voxels:]) + packer.flush()


def whole_readings(reader: Reader) -> tuple[list[Seed], list[Reading]]:
    """The seeds, and what the reader makes of each; a seed that it does not read is named and left out."""
    kept, wholes = [], []
    for seed in reader.seeds():
        with tempfile.TemporaryDirectory(prefix="seed-") as place:
            try:
                wholes.append(reader.read(seed.write(Path(place))))
            except ThinsliceError as error:
                print(f"    the seed {seed.name!r} is left out, since it is refused whole: {error}", flush=True)
            else:
                kept.append(seed)
    return kept, wholes


def serve(
    reader: Reader, all_seeds: list[Seed], wholes: list[Reading], seed: int, indices: list[int], write_end: int,
    ceiling: int,
) -> None:  # fmt: skip
    """Judge inputs in this process and write one JSON line for each."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    # Address space that is asked for and not touched takes no memory: hence twice the ceiling.
    limit = pages * resource.getpagesize() + 2 * (ceiling << 20)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for index in indices:
        with tempfile.TemporaryDirectory(prefix="mutant-") as place:
            folder = Path(place)
            case = make_case(reader, all_seeds, seed, index)
            chosen = all_seeds[case.seed_index]
            path = chosen.write(folder, case.changed)
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            os.write(write_end, b'{"begun": true}\n')
            before, begun = _resident_mib("VmRSS"), time.monotonic()
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")
            verdict, line = judge(reader, chosen, wholes[case.seed_index], path, case)
            taken = _resident_mib("VmHWM") - before
            if verdict in GOOD and taken > ceiling:
                verdict, line = "MEMORY", f"{taken:.0f} MiB"
            answer = {
                "verdict": verdict, "line": line, "seed": chosen.name, "seconds": round(time.monotonic() - begun, 3),
                "mib": round(taken, 1),
            }  # fmt: skip
            os.write(write_end, json.dumps(answer).encode() + b"\n")


def _resident_mib(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def run(
    reader: Reader, *, count: int, seed: int, ceiling: int, start: int = 0, log: Path | None = None
) -> list[dict[str, object]]:
    """Judge `count` inputs in children that are replaced when they die; the answers by number of the input.

    With `log` each answer is appended to that file as it comes, and the answers in it are not asked for again.
    """
    all_seeds, wholes = whole_readings(reader)
    answers = logged(log)[:count] if log else []
    while len(answers) < count:
        known = len(answers)
        todo = [start + k for k in range(known, min(count, known + 500))]
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read_end)
            code = 1
            try:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                serve(reader, all_seeds, wholes, seed, todo, write_end, ceiling)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(write_end)
        lines = _Lines(read_end)
        for index in todo:
            begun = lines.next(60 + SECONDS_EACH)
            answer = lines.next(SECONDS_EACH) if begun else None
            if answer is None:
                running = os.waitpid(child, os.WNOHANG) == (0, 0)
                if running:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                case = make_case(reader, all_seeds, seed, index)
                verdict = "HANG" if running else "CRASH"
                answers.append(
                    {"verdict": verdict, "line": "", "seed": all_seeds[case.seed_index].name, "index": index}
                )
                append(log, answers[-1])
                child = 0
                break
            answers.append({**answer, "index": index})
            append(log, answers[-1])
        os.close(read_end)
        if child:
            os.waitpid(child, 0)
    return answers


def logged(log: Path) -> list[dict[str, object]]:
    """The answers of an earlier run, without the piece of a line that a killed run leaves."""
    if not log.exists():
        return []
    lines = log.read_text().split("\n")
    if lines[-1]:
        log.write_text("".join(f"{line}\n" for line in lines[:-1]))
    return [json.loads(line) for line in lines[:-1]]


def append(log: Path | None, answer: dict[str, object]) -> None:
    """Write one more answer to the log."""
    if log:
        with log.open("a") as file:
            file.write(json.dumps(answer) + "\n")


class _Lines:
    """JSON lines from a pipe, with a time limit."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._held = descriptor, b""

    def next(self, seconds: float) -> dict[str, object] | None:
        """The next line; None where none came in time, or the other end was closed."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._held:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
                return None
            piece = os.read(self._descriptor, 65536)
            if not piece:
                return None
            self._held += piece
        line, self._held = self._held.split(b"\n", 1)
        return json.loads(line)


def keep(reader: Reader, seed: int, index: int, folder: Path) -> Path:
    """Write the input of this number into a folder of its own."""
    all_seeds, _ = whole_readings(reader)
    case = make_case(reader, all_seeds, seed, index)
    place = folder / f"{seed}-{index}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return all_seeds[case.seed_index].write(place, case.changed)


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=[*READERS, "all"])
    parser.add_argument("--count", type=int, default=1000, help="inputs for each reader")
    parser.add_argument("--seed", type=int, default=0, help="decides on every input")
    parser.add_argument("--start", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", type=int, help="one input alone, in this process, with its traceback")
    parser.add_argument("--ceiling", type=int, default=CEILING_MIB, help="MiB that one input may take")
    parser.add_argument("--keep", type=Path, help="folder for the inputs with a bad verdict")
    parser.add_argument("--log", type=Path, help="append every answer as it comes, and go on behind those in the file")
    parser.add_argument("--json", type=Path, help="write every answer")
    options = parser.parse_args()
    if options.only is not None:
        reader = READERS[options.reader]
        path = keep(reader, options.seed, options.only, options.keep or Path(tempfile.mkdtemp()))
        print(path)
        print(reader.read(path))
        return 0
    if options.log is not None and options.reader == "all":
        parser.error("--log is for one reader")
    bad = 0
    everything = {}
    warnings.simplefilter("ignore")
    for name in READERS if options.reader == "all" else [options.reader]:
        begun = time.monotonic()
        answers = run(
            READERS[name], count=options.count, seed=options.seed, ceiling=options.ceiling, start=options.start,
            log=options.log,
        )  # fmt: skip
        everything[name] = answers
        counted = Counter(str(answer["verdict"]) for answer in answers)
        slowest = max(float(str(answer.get("seconds", 0))) for answer in answers)
        most = max(float(str(answer.get("mib", 0))) for answer in answers)
        print(
            f"{name:10s} {len(answers)} inputs in {time.monotonic() - begun:.0f} s: "
            + ", ".join(f"{verdict} {counted[verdict]}" for verdict in (*GOOD, *BAD) if counted[verdict])
            + f"; slowest {slowest:.1f} s, most memory {most:.0f} MiB",
            flush=True,
        )
        kinds = Counter((str(a["verdict"]), str(a["line"])[:150]) for a in answers if a["verdict"] in BAD)
        for (verdict, line), times in kinds.most_common(40):
            example = next(a for a in answers if (str(a["verdict"]), str(a["line"])[:150]) == (verdict, line))
            print(f"    {times} x {verdict} [{example['seed']}, input {example['index']}] {line}", flush=True)
            if options.keep:
                keep(READERS[name], options.seed, int(str(example["index"])), options.keep / name)
        bad += sum(kinds.values())
    if options.json:
        options.json.write_text(json.dumps(everything))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
