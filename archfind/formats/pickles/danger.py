"""Which of the globals that a pickle names would be dangerous to load.

This list only decides what is reported: archfind itself runs none of them. It can't be complete,
so an empty report does not mean that a file may be loaded.
"""

from __future__ import annotations

from archfind.escape import escape
from archfind.formats import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.formats.pickles.nodes import Global

# whole modules, by their first component
_MODULES = frozenset(
    """os posix nt subprocess _posixsubprocess commands popen2 sys shutil socket
    _socket ssl importlib _frozen_importlib _imp imp zipimport pkgutil runpy ctypes _ctypes pty
    webbrowser antigravity pickle _pickle cPickle marshal shelve dill cloudpickle joblib timeit
    cProfile bdb pdb codeop asyncio multiprocessing urllib urllib2 http httplib ftplib smtplib
    telnetlib xmlrpc requests aiohttp httpx pip ensurepip setuptools distutils venv site lib2to3
    idlelib pydoc doctest tempfile fileinput signal fcntl mmap sqlite3 tkinter gc inspect
    _thread platform test unittest trace linecache zipfile tarfile pickletools
    glob""".split()
)
# inside any dotted name: protocol 4 follows attributes, so "torch.serialization.os.system" works
_ANYWHERE = frozenset(
    """os posix nt subprocess sys builtins __builtins__ __globals__ __subclasses__ __dict__
    __getattribute__ __import__ __code__ __reduce__ importlib runpy ctypes""".split()
)
_BUILTINS = frozenset(
    """eval exec execfile compile getattr setattr delattr __import__ open input raw_input breakpoint
    globals locals vars apply map filter reduce file type memoryview help super exit quit""".split()
)
_NAMES = (  # or what a name starts with
    "operator.attrgetter",
    "operator.methodcaller",
    "operator.itemgetter",
    "operator.call",
    "functools.reduce",
    "functools.singledispatch",
    "types.CodeType",
    "types.FunctionType",
    "types.LambdaType",
    "types.MethodType",
    "io.open",
    "io.FileIO",
    "_io.open",
    "_io.FileIO",
    "codecs.open",
    "code.Interactive",
    "code.interact",
    "profile.run",
    "profile.Profile",
    "trace.Trace",
    "logging.config",
    "copyreg._inverted_registry",
    "uuid._",
    "torch.load",
    "torch.hub",
    "torch.serialization.",
    "torch.jit.",
    "torch.ops",
    "torch.classes",
    "torch.package",
    "torch.utils.cpp_extension",
    "torch.utils.model_zoo",
    "torch.utils.collect_env",
    "torch.utils._config_module",
    "torch.utils.bottleneck",
    "torch.utils.data.datapipes.utils.decoder",
    "torch.fx.graph_module.",  # runs the source text that it is given
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed.rpc",
    "torch.testing",
    "torch_utils.persistence.",
    "numpy.load",
    "numpy.lib.npyio.load",
    "numpy.fromfile",
    "numpy.memmap",
    "numpy.testing",
    "numpy.f2py",
    "numpy.distutils",
    "numpy.ctypeslib",
    "numpy.save",
    "numpy.lib.npyio",
    "numpy.lib._npyio",
    "pathlib.Path.",
    "pathlib.PosixPath.",
    "pandas.read_",
    "pandas.eval",
    "pandas.io",
    "yaml.",
    "sklearn.externals",
)


# Whose functions restore values and do nothing else, as far as the rest of this list knows
_LIBRARIES = frozenset(
    """builtins __builtin__ collections copyreg copy_reg _codecs datetime decimal fractions enum
    uuid re sre_compile functools itertools operator random types typing array torch torchvision
    torchaudio numpy scipy sklearn pandas xgboost lightgbm omegaconf lightning pytorch_lightning
    transformers timm fastai fastcore fairseq mmengine mmcv detectron2 fvcore ultralytics megatron
    deepspeed stable_baselines3 gym gymnasium cython _cython __cython__""".split()
)
_RESTORING = ("_reconstruct", "__reduce", "_rebuild", "_unpickle", "__pyx_unpickle", "__newobj__")


# whose argument is read as well, where it is in sight
_UNPICKLING = frozenset(
    """torch.load torch.serialization.load pickle.load pickle.loads _pickle.load _pickle.loads
    cPickle.loads dill.loads dill._dill.loads cloudpickle.loads joblib.load
    joblib.numpy_pickle.load pandas.read_pickle pandas.io.pickle.read_pickle""".split()
)


def is_unknown_function(name: str) -> bool:
    """Whether a call of this global runs a function that nobody vouches for.

    Classes are named in capitals, as in every honest whole network; a function that restores one
    says so in its name. What is left is how payloads use packages that no list has heard of.
    """
    return name.partition(".")[0] not in _LIBRARIES and is_function(name)


def is_function(name: str) -> bool:
    """Whether a global is named like a function, and not like one that restores values."""
    last = name.rpartition(".")[2]
    return not last.lstrip("_")[:1].isupper() and not any(word in last for word in _RESTORING)


def is_dangerous(name: str) -> bool:
    """Whether calling this global from a pickle can run code, or touch files or the network."""
    first, _, rest = name.partition(".")
    if first in _MODULES:
        return True
    if first in ("builtins", "__builtin__") and rest.split(".")[0] in _BUILTINS:
        return True
    if not _ANYWHERE.isdisjoint(name.split(".")[1:]):
        return True
    return name.startswith(_NAMES)


def danger_lines(globals_: dict[str, Global], where: str) -> list[str]:
    """One line for each dangerous global of the pickle called `where`."""
    lines: list[str] = []
    for name, node in globals_.items():
        known = is_dangerous(name)
        if node.make is not None and not (known and name in _UNPICKLING):
            continue
        unknown = not known and node.by_function and is_unknown_function(name)
        if known or unknown:
            act, at = ("call", node.called) if node.called >= 0 else ("import", node.at)
            what = ", a function of no known library" if unknown else ""
            lines.append(
                f"loading this file with torch.load would {act} {escape(name)} "
                f"({escape(where)}, byte {at}{what})"
            )
            if len(lines) >= limits.DANGER_LINES:
                break
    return lines
