"""Random state dicts through every writer: archfind's reading against the libraries' own.

    python benchmarks/differential_sweep.py [COUNT]        COUNT a writer, 1,000 by default

Keys, order, shapes, dtypes, strides, ties and every byte of the values, read by archfind's own
tensor reader, are compared with torch.load(weights_only=True), safetensors and onnx.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "values"))

import torch
from random_states import WRITERS
from test_differential import assert_same

from archfind import formats


def main() -> int:
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    failed = 0
    for writer, (file, save) in WRITERS.items():
        start, tensors, numbers, states, wrong = time.monotonic(), 0, 0, 0, 0
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, file)
            seed = 0
            while states < count:
                expected = save(random.Random(f"{writer} {seed}"), path)
                seed += 1
                if not expected:
                    continue
                states += 1
                tensors += len(expected)
                numbers += sum(one.numel() for one in expected.values())
                try:
                    assert_same(formats.open(path), expected)
                except Exception as error:
                    wrong += 1
                    print(f"  {writer}, seed {seed - 1}: {type(error).__name__}: {error}"[:300])
        failed += wrong
        print(
            f"{writer:<13} {states:,} state dicts, {tensors:,} tensors, {numbers:,} numbers: "
            f"{states - wrong:,} equal ({time.monotonic() - start:.0f} s)",
            flush=True,
        )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
