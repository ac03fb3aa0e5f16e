"""Coverage-guided fuzzing of a reader with atheris, for a time.

    pip install atheris                                  # not among the requirements: it has wheels for Linux alone
    python fuzz/target.py READER --seconds 600 [--corpus FOLDER] [--artifacts FOLDER]

The first file of a seed is what atheris changes; the other files of its folder stay as they are. A deliberate error of
the package is a good end. Any other exception, a crash, more than 10 s or more than 2 GiB stop the run, and the input
is written into the folder of artifacts: replay it with --replay FILE.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", help="a name of readers.READERS")
    parser.add_argument("--seconds", type=int, default=600, help="length of the run")
    parser.add_argument("--corpus", type=Path, help="folder of inputs that is kept and grows; default: a passing one")
    parser.add_argument("--artifacts", type=Path, default=Path.cwd() / "fuzz-artifacts", help="inputs that end a run")
    parser.add_argument("--replay", type=Path, help="one input alone, without atheris")
    options = parser.parse_args()
    if options.replay is None:
        try:
            import atheris
        except ImportError:
            print("atheris is not installed (pip install atheris); fuzz/mutate.py needs nothing.", file=sys.stderr)
            return 2
        # What is imported inside the block is instrumented: the reader itself at its first reading.
        with atheris.instrument_imports(include=["thinslice", "pydicom", "nibabel", "safetensors"]):
            from readers import READERS

            first = READERS[options.reader].seeds()[0]
            with tempfile.TemporaryDirectory(prefix="seed-") as place:
                READERS[options.reader].read(first.write(Path(place)))
    else:
        from readers import READERS

    from thinslice.errors import ThinsliceError

    reader = READERS[options.reader]
    every = reader.seeds()
    seed = every[0]
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    path = seed.write(folder)
    changed = folder / seed.mutated[0]
    warnings.simplefilter("ignore")

    def one_input(data: bytes) -> None:
        changed.write_bytes(data)
        try:
            reader.read(path)
        except ThinsliceError as error:
            if error.exit_code == 1:
                raise

    if options.replay is not None:
        one_input(options.replay.read_bytes())
        return 0
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix="corpus-"))
    corpus.mkdir(parents=True, exist_ok=True)
    options.artifacts.mkdir(parents=True, exist_ok=True)
    for each in every:
        (corpus / f"seed-{each.name.replace(' ', '-')}").write_bytes(each.files[each.mutated[0]])
    limits = [f"-max_total_time={options.seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=65536"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={options.artifacts}/", str(corpus)], one_input)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
