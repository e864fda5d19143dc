"""DeepSeek-V3's 45,000 tensors, as a header without data: found, and how long that takes cold.

python benchmarks/large_index.py [--runs 3]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from configured_sizes import nested, published, write_sparse

import archfind
from archfind.database.compile_model_types import read_presets
from archfind.database.entries import signatures_folder
from archfind.probing.probe import on_meta
from archfind.providers import transformers as library


def main() -> int:
    """Prints the answer and the seconds of each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    models = read_presets(Path(signatures_folder()) / "presets")["deepseek_v3"]
    name, fields = next(iter(models.items()))
    fields = {path: value for path, value in fields.items() if path != "class"}
    config = library.config_of("deepseek_v3", nested(fields, library.default_config("deepseek_v3")))
    cls = library.classes("deepseek_v3")["DeepseekV3ForCausalLM"]
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / "model.safetensors"
        shapes = published(on_meta(lambda: cls(config), {}))
        write_sparse(place, shapes)
        guess = archfind.guess(place)
        match = guess.matches[0]
        assert match.pretrained is not None, guess.status
        print(f"{name}: {len(shapes)} tensors, {guess.status} {match.pretrained.model_type}")
        for _ in range(options.runs):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", "pass"], check=True)
            bare = time.perf_counter() - start
            start = time.perf_counter()
            command = [sys.executable, "-m", "archfind", "guess", str(place)]
            subprocess.run(command, check=True, capture_output=True)
            print(f"{time.perf_counter() - start:.2f} s cold, python alone {bare:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
