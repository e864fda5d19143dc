"""Pickles that would run code, wherever a checkpoint has a place for one, and broken ones."""

from __future__ import annotations

import struct
import zlib

from .build import (
    FLOATS,
    PYTHON,
    SHELL,
    STATE,
    Member,
    call,
    legacy,
    mapping,
    name,
    number,
    numbers,
    pickled,
    storage,
    tensor,
    text,
    torch_tar,
    torch_zip,
    zip_bytes,
)
from .case import READ, REFUSED, Case, holding

_SOURCE = PYTHON.encode()

# What would run code, write a file or reach the network: a name, and the arguments of its call.
GADGETS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("os.system", (text(SHELL),)),
    ("posix.system", (text(SHELL),)),
    ("nt.system", (text(SHELL),)),
    ("os.popen", (text(SHELL),)),
    ("os.execv", (text("/bin/sh"), b"](" + text("sh") + b"e")),
    ("os.spawnl", (number(0), text("/bin/true"), text("true"))),
    ("posix.putenv", (text("A"), text("b"))),
    ("subprocess.Popen", (b"](" + text("sh") + text("-c") + text(SHELL) + b"e",)),
    ("subprocess.check_output", (text("true"),)),
    ("subprocess.getoutput", (text(SHELL),)),
    ("_posixsubprocess.fork_exec", ()),
    ("commands.getoutput", (text(SHELL),)),
    ("pty.spawn", (text("/bin/true"),)),
    ("builtins.exec", (text(PYTHON),)),
    ("builtins.eval", (text(PYTHON),)),
    ("__builtin__.eval", (text(PYTHON),)),
    ("__builtin__.execfile", (text("/tmp/x"),)),
    ("__builtin__.apply", (name("os.system"), numbers(()))),
    ("builtins.compile", (text(PYTHON), text("x"), text("exec"))),
    ("builtins.__import__", (text("antigravity"),)),
    ("builtins.open", (text("marker"), text("w"))),
    ("builtins.getattr", (call("builtins.__import__", text("os")), text("system"))),
    ("builtins.setattr", (name("torch.Tensor"), text("x"), number(1))),
    ("builtins.map", (name("os.system"), b"](" + text(SHELL) + b"e")),
    ("builtins.breakpoint", ()),
    ("builtins.input", ()),
    ("importlib.import_module", (text("antigravity"),)),
    ("importlib._bootstrap._load", ()),
    ("runpy._run_code", (text(PYTHON), b"}")),
    ("runpy.run_path", (text("/tmp/x"),)),
    ("code.InteractiveInterpreter", ()),
    ("code.interact", ()),
    ("codeop.compile_command", (text(PYTHON),)),
    ("timeit.timeit", (text(PYTHON),)),
    ("cProfile.run", (text(PYTHON),)),
    ("profile.run", (text(PYTHON),)),
    ("trace.Trace", ()),
    ("bdb.Bdb", ()),
    ("pdb.run", (text(PYTHON),)),
    ("doctest.debug_script", (text(PYTHON),)),
    ("test.support.script_helper.assert_python_ok", (text("-c"), text(PYTHON))),
    ("unittest.mock._importer", (text("antigravity"),)),
    ("pip.main", (b"](" + text("install") + text("x") + b"e",)),
    ("pip._internal.main", (b"](" + text("--version") + b"e",)),
    ("ensurepip._run_pip", (b"]",)),
    ("venv.main", ()),
    ("distutils.file_util.write_file", (text("marker"), b"]")),
    ("lib2to3.pgen2.grammar.Grammar.loads", (text("x"),)),
    ("idlelib.pyshell.ModifiedInterpreter.runcode", (text(PYTHON),)),
    ("pydoc.pipepager", (text("x"), text(SHELL))),
    ("webbrowser.open", (text("http://localhost:9/"),)),
    ("platform.popen", (text(SHELL),)),
    ("uuid._get_command_stdout", (text("sh"),)),
    ("logging.config.dictConfig", (b"}",)),
    ("ctypes.CDLL", (text("libc.so.6"),)),
    ("mmap.mmap", (number(-1), number(1))),
    ("socket.create_connection", (numbers(()),)),
    ("ssl.get_server_certificate", (numbers(()),)),
    ("urllib.request.urlretrieve", (text("http://localhost:9/"), text("marker"))),
    ("http.client.HTTPSConnection", (text("localhost"),)),
    ("ftplib.FTP", (text("localhost"),)),
    ("requests.get", (text("http://localhost:9/"),)),
    ("aiohttp.ClientSession", ()),
    ("shutil.rmtree", (text("/nonexistent/archfind"),)),
    ("tempfile.NamedTemporaryFile", ()),
    ("io.FileIO", (text("marker"), text("w"))),
    ("_io.open", (text("marker"), text("w"))),
    ("linecache.getlines", (text("/etc/hostname"),)),
    ("pathlib.Path.unlink", (text("/nonexistent/archfind"),)),
    ("zipfile.ZipFile", (text("marker"), text("w"))),
    ("tarfile.open", (text("marker"), text("w"))),
    ("sqlite3.connect", (text("marker"),)),
    ("pickle.loads", (b"C\x06cos\nx\n",)),
    ("_pickle.loads", (b"C\x06cos\nx\n",)),
    ("cloudpickle.loads", (b"C\x06cos\nx\n",)),
    ("dill.loads", (b"C\x06cos\nx\n",)),
    ("dill._dill._create_code", (number(0),)),
    ("joblib.load", (text("x"),)),
    ("marshal.loads", (b"C\x01N",)),
    ("shelve.open", (text("marker"),)),
    ("types.CodeType", (number(0),)),
    ("types.FunctionType", (b"N", b"}")),
    ("operator.attrgetter", (text("system"),)),
    ("operator.methodcaller", (text("system"), text(SHELL))),
    ("functools.reduce", (name("os.system"), b"](" + text(SHELL) + b"e")),
    ("asyncio.unix_events._UnixSubprocessTransport._start", (text(SHELL),)),
    ("multiprocessing.util.spawnv_passfds", (b"C\x09/bin/true",)),
    ("signal.raise_signal", (number(9),)),
    ("sys.setrecursionlimit", (number(10),)),
    ("gc.get_objects", ()),
    ("numpy.load", (text("x.npy"), b"N", b"\x88")),
    ("numpy.memmap", (text("marker"),)),
    ("numpy.testing._private.utils.runstring", (text(PYTHON), b"}")),
    ("numpy.f2py.crackfortran.getlincoef", (text(PYTHON), b"}")),
    ("numpy.f2py.crackfortran.myeval", (text(PYTHON),)),
    ("pandas.read_pickle", (text("http://localhost:9/"),)),
    ("pandas.eval", (text("1"),)),
    ("yaml.unsafe_load", (text("x"),)),
    ("torch.load", (text("x.pth"),)),
    ("torch.serialization.load", (text("x.pth"),)),
    ("torch.jit.load", (text("x.pt"),)),
    ("torch.hub.load", (text("a/b"), text("c"))),
    ("torch.utils.model_zoo.load_url", (text("http://localhost:9/"),)),
    ("torch.utils.cpp_extension.load_inline", (text("x"),)),
    ("torch.utils.collect_env.run", (text(SHELL),)),
    ("torch.utils.bottleneck.__main__.run_cprofile", (text(PYTHON), b"}")),
    ("torch.utils._config_module.ConfigModule.load_config", (b"C\x01N",)),
    ("torch.utils.data.datapipes.utils.decoder.basichandlers", (text("pkl"), b"C\x01N")),
    ("torch.fx.graph_module.reduce_graph_module", (b"}", text("import os"))),
    ("torch._dynamo.guards.GuardBuilder.get", (text(PYTHON),)),
    ("torch._inductor.codecache.compile_file", (text("x"),)),
    ("torch.ops.load_library", (text("x.so"),)),
    ("torch.classes.load_library", (text("x.so"),)),
    ("torch.package.PackageImporter", (text("x"),)),
    ("torch.distributed.rpc.internal._run_function", ()),
    ("torch.serialization.os.system", (text(SHELL),)),
    ("torch_utils.persistence._reconstruct_persistent_obj", (b"}",)),
    ("copyreg._inverted_registry", (number(1),)),
    ("my_project.plugins.run_hook", (text("x"),)),  # whoever installed it: a function, not a class
)


def _gadget(dotted: str) -> bytes:
    return call(dotted, *dict(GADGETS)[dotted])


def _word(dotted: str) -> str:
    return f"would call {dotted} "


def _bare(body: bytes) -> bytes:
    return pickled(body)


def _beside_weights(body: bytes) -> bytes:
    return torch_zip(pickled(mapping(weight=tensor(), hook=body)))


_SYSTEM = _gadget("os.system")
_STACKED = b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text(SHELL) + b"\x85R."
_MODULE = (  # a whole pickled module whose state restores by a call
    name("my.Net")
    + b")\x81"
    + mapping(_modules=b"}", _parameters=mapping(weight=tensor()), _buffers=b"}", hook=_SYSTEM)
    + b"b"
)


_REBUILD = "torch._utils._rebuild_tensor_v2"
_SHAPED = call(_REBUILD, storage(), number(0), _SYSTEM, numbers((1,)), b"\x89", b"N")
_HOOKED = call(_REBUILD, storage(), number(0), numbers((2, 3)), numbers((3, 1)), b"\x89", _SYSTEM)

# where else a call can hide; each must be seen, whatever becomes of the file
PLACES: tuple[tuple[str, bytes, int], ...] = (
    ("protocol 0", b"cos\nsystem\n(V" + SHELL.encode() + b"\ntR.", REFUSED),
    ("protocol 0 in a list", b"(lp0\ncos\nsystem\n(V" + SHELL.encode() + b"\ntRa.", REFUSED),
    ("protocol 4", _STACKED, REFUSED),
    ("protocol 5", b"\x80\x05" + _STACKED[2:], REFUSED),
    ("framed", b"\x80\x04\x95" + struct.pack("<Q", len(_STACKED) - 2) + _STACKED[2:], REFUSED),
    ("frame that lies", b"\x80\x04\x95" + b"\xff" * 8 + _STACKED[2:], REFUSED),
    ("two protocols", b"\x80\x02\x80\x04" + _STACKED[2:], REFUSED),
    ("INST", _bare(b"(" + text(SHELL) + b"ios\nsystem\n"), REFUSED),
    ("OBJ", _bare(b"(" + name("os.system") + text(SHELL) + b"o"), REFUSED),
    ("NEWOBJ", _bare(name("os.system") + b"(" + text(SHELL) + b"t\x81"), REFUSED),
    ("NEWOBJ_EX", _bare(name("os.system") + b"(" + text(SHELL) + b"t}\x92"), REFUSED),
    ("EXT1", _bare(b"\x82\x01)R"), REFUSED),
    ("EXT4", _bare(b"\x84\x01\0\0\0)R"), REFUSED),
    ("BUILD of a class", _bare(name("os.system") + b"}b"), REFUSED),
    ("popped", _bare(_SYSTEM + b"0N"), REFUSED),
    ("popped to a mark", _bare(b"(" + _SYSTEM + b"1N"), REFUSED),
    ("memoised", _bare(name("os.system") + b"q\x000h\x00(" + text(SHELL) + b"tR"), REFUSED),
    ("duplicated", _bare(name("os.system") + b"2(" + text(SHELL) + b"tR\x86"), REFUSED),
    ("in a key", _bare(b"}" + _SYSTEM + b"Ns"), REFUSED),
    ("in a tuple key", _bare(b"}(" + _SYSTEM + b"tNs"), REFUSED),
    ("in a set", _bare(b"\x8f(" + _SYSTEM + b"\x90"), REFUSED),
    ("in a frozenset", _bare(b"(" + _SYSTEM + b"\x91"), REFUSED),
    ("as an argument", _bare(call("collections.OrderedDict", b"](" + _SYSTEM + b"e")), REFUSED),
    ("as a persistent id", _bare(_SYSTEM + b"Q"), REFUSED),
    ("as a shape", torch_zip(pickled(mapping(weight=_SHAPED))), REFUSED),
    ("as a storage's class", torch_zip(pickled(mapping(weight=storage(kind="os.system")))), READ),
    ("as hooks", torch_zip(pickled(mapping(weight=_HOOKED))), READ),
    ("beside weights", _beside_weights(_SYSTEM), READ),
    ("in a module", torch_zip(pickled(_MODULE)), READ),
    ("by a partial", _beside_weights(call("functools.partial", name("os.system"), text(SHELL))),
     READ),
    ("through attributes", _beside_weights(
        b"\x8c\x13torch.serialization\x8c\x09os.system\x93" + text(SHELL) + b"\x85R"), READ),
    ("through a name with a dot", _beside_weights(
        b"\x8c\x08builtins\x8c\x0fint.__class__.x\x93)R"
        b"0\x8c\x05torch\x8c\x11_sources.os.popen\x93" + text(SHELL) + b"\x85R"), READ),
    ("deflated", torch_zip(pickled(mapping(weight=tensor(), hook=_SYSTEM)), method=8), READ),
    ("in TorchScript", zip_bytes([
        Member("m/data.pkl", pickled(mapping(weight=tensor(), hook=_SYSTEM))),
        Member("m/constants.pkl", pickled(b")")),
        Member("m/data/0", FLOATS)]), READ),
    ("in the first legacy pickle", legacy(magic=b"\x80\x02" + _SYSTEM
                                          + b"0\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."), REFUSED),
    ("in the third legacy pickle", legacy(system=pickled(_SYSTEM)), READ),
    ("in the fourth legacy pickle", legacy(pickled(mapping(weight=tensor(), x=_SYSTEM))), READ),
    ("in the fifth legacy pickle", legacy(keys=pickled(b"](" + text("0") + b"e" + _SYSTEM + b"0")),
     READ),
    ("in a tar", torch_tar(pickled(mapping(weight=text("2") + b"Q", hook=_SYSTEM))), READ),
    ("in a tar's storages", torch_tar(storages=pickled(_SYSTEM)), REFUSED),
    ("in a tar's tensors", torch_tar(tensors=pickled(_SYSTEM)), REFUSED),
    # nullifAI's way: the payload comes first, and then the pickle breaks
    ("before nonsense", torch_zip(b"\x80\x02" + _SYSTEM + b"\xff" * 20), REFUSED),
    ("before the end", torch_zip(b"\x80\x02" + _SYSTEM), REFUSED),
    ("before an early STOP", torch_zip(pickled(_SYSTEM) + STATE), REFUSED),
    ("before an unknown memo", torch_zip(b"\x80\x02" + _SYSTEM + b"h\xfe."), REFUSED),
    ("before a bad number", torch_zip(b"\x80\x02" + _SYSTEM + b"Ixyz\n."), REFUSED),
    ("before a long text", torch_zip(b"\x80\x02" + _SYSTEM + b"X\xff\xff\xff\x7f."), REFUSED),
    ("before a lost mark", torch_zip(b"\x80\x02" + _SYSTEM + b"t."), REFUSED),
    ("before a buffer", torch_zip(b"\x80\x05" + _SYSTEM + b"\x97."), REFUSED),
    ("in a file without storages", zip_bytes([
        Member("m/data.pkl", pickled(mapping(weight=tensor(), hook=_SYSTEM)))]), READ),
    ("in a legacy file cut off", legacy(pickled(mapping(weight=tensor(), x=_SYSTEM)))[:-20],
     REFUSED),
)  # fmt: skip

# pickles that call nothing dangerous, and are broken or lie
BROKEN: tuple[tuple[str, bytes, int, str], ...] = (
    ("empty data.pkl", torch_zip(b""), REFUSED, "data.pkl ends in the middle"),
    ("only a protocol", torch_zip(b"\x80\x02"), REFUSED, "data.pkl ends in the middle"),
    ("protocol 9", torch_zip(b"\x80\x09}."), REFUSED, "data.pkl makes no sense at byte 0"),
    ("unknown opcode", torch_zip(b"\x80\x02\xfe."), REFUSED, "data.pkl makes no sense at byte 2"),
    ("STOP of nothing", torch_zip(b"\x80\x02." + b" " * 20), REFUSED, "makes no sense"),
    ("text that is no UTF-8", torch_zip(b"\x80\x02X\x02\0\0\0\xff\xff."), REFUSED, "no sense"),
    ("odd entries", torch_zip(pickled(b"}(" + text("a") + b"u")), REFUSED, "makes no sense"),
    ("SETITEM on a list", torch_zip(pickled(b"]" + text("a") + b"Ns")), REFUSED, "a list of 0 values"),
    ("APPEND to an int", torch_zip(pickled(number(1) + b"Na")), REFUSED, "an int (1)"),
    ("after the end", torch_zip(STATE + b"more"), READ, "goes on for 4 bytes after its end"),
    ("a negative shape", torch_zip(pickled(mapping(a=tensor(size=(-2, 3))))), READ,
     "has an impossible shape"),
    ("a shape of 2**63", torch_zip(pickled(mapping(a=tensor(size=(1 << 63,), stride=(1,))))), READ,
     "has an impossible shape"),
    ("a shape that overflows", torch_zip(pickled(mapping(
        a=tensor(size=(1 << 33, 1 << 33), stride=(1 << 33, 1))))), READ, "beyond its storage"),
    ("a shape of bools", torch_zip(pickled(mapping(a=call(
        "torch._utils._rebuild_tensor_v2", storage(), number(0), b"\x88\x85", b"K\x01\x85", b"\x89",
        b"N")))), REFUSED, "not made of integers"),
    ("a shape of texts", torch_zip(pickled(mapping(a=call(
        "torch._utils._rebuild_tensor_v2", storage(), number(0), text("2") + b"\x85", b"K\x01\x85",
        b"\x89", b"N")))), REFUSED, "not made of integers"),
    ("a shape of 1,000 dimensions", torch_zip(pickled(mapping(
        a=tensor(size=(1,) * 1000, stride=(1,) * 1000)))), REFUSED, "has 1,000 dimensions"),
    ("more strides than sizes", torch_zip(pickled(mapping(a=tensor(stride=(6, 3, 1))))), READ,
     "strides that don't fit"),
    ("negative strides", torch_zip(pickled(mapping(a=tensor(stride=(-3, 1))))), READ,
     "strides that don't fit"),
    ("strides beyond the storage", torch_zip(pickled(mapping(a=tensor(stride=(1 << 40, 1))))), READ,
     "reaches beyond its storage"),
    ("an offset beyond", torch_zip(pickled(mapping(a=tensor(offset=1 << 50)))), READ,
     "reaches beyond its storage"),
    ("a negative offset", torch_zip(pickled(mapping(a=tensor(offset=-4)))), READ,
     "starts before its storage"),
    ("a storage that claims more", torch_zip(pickled(mapping(a=tensor(numel=1 << 40)))), READ,
     "claims 4,398,046,511,104 bytes of 24"),
    ("a storage under two dtypes", torch_zip(pickled(mapping(
        a=tensor(), b=tensor(kind="torch.DoubleStorage")))), READ, "reaches beyond its storage"),
    ("a storage that isn't there", torch_zip(pickled(mapping(a=tensor("../../etc/passwd")))), READ,
     'the first is "../../etc/passwd"'),
    ("control characters in a key", torch_zip(pickled(mapping(
        **{"a\x1b[31m\r\nexact\x07\u202e\u200b": tensor()}))), READ,
     "a\\x1b[31m\\x0d\\x0aexact\\x07\\u202e\\u200b"),
    ("a lone surrogate in a key", torch_zip(pickled(mapping(**{"a\ud800": tensor()}))), READ,
     "a\\ud800"),
    ("a C1 control in a key", torch_zip(pickled(mapping(**{"a\x9b31m": tensor()}))), READ,
     "a\\x9b31m"),
    ("control characters in a value", torch_zip(pickled(mapping(
        arch=text("\x1b]0;title\x07"), a=tensor()))), READ, "\\x1b]0;title\\x07"),
    ("control characters in a class", torch_zip(pickled(mapping(
        a=tensor(), b=b"\x8c\x02os\x8c\x08sy\x1b[31mm\x93)R"))), READ, "os.sy\\x1b[31mm"),
    ("a key of a megabyte", torch_zip(pickled(mapping(**{"k" * 1_000_000: tensor()}))), REFUSED,
     "a key of 1,000,000 characters"),
    ("a key of 900 dots", torch_zip(pickled(mapping(**{"a." * 900: tensor()}))), REFUSED,
     "a key of more than 200 parts"),
    ("dicts 900 deep", torch_zip(pickled((b"}" + text("a")) * 900 + tensor() + b"s" * 900)),
     REFUSED, "a key of more than 200 parts"),
    ("keys of dots alone", torch_zip(pickled(mapping(**{".": tensor(), "..": tensor(),
     "": tensor(), "a.": tensor(), ".a": tensor(), "a": tensor(), "a.b": tensor()}))), READ,
     "7 tensors"),
    ("keys that look like numbers", torch_zip(pickled(mapping(**{
        "a.\u00b2.b": tensor(), "a.\u0663.b": tensor(), "9" * 1_900: tensor(),
        "b." + "9" * 1_000 + ".c": tensor(), "b.-1.c": tensor()}))), READ, "5 tensors"),
    ("keys that look like patterns", torch_zip(pickled(mapping(**{
        "a{1..9}": tensor(), "{a|b}": tensor(), "a{": tensor(), "}": tensor(), "_": tensor(),
        "{": tensor(), "%s%n": tensor(), "{0}": tensor()}))), READ, "8 tensors"),
    ("a key of slashes", torch_zip(pickled(mapping(**{"../" * 50 + "etc/passwd": tensor()}))), READ,
     "passwd"),
    ("numpy array that lies", pickled(mapping(a=call(
        "numpy.core.numeric._frombuffer", b"C\x04abcd", call("numpy.dtype", text("f8")),
        numbers((1 << 40,)), text("C")))), READ, "beyond its storage"),
    ("numpy array of objects", pickled(call(
        "numpy.core.multiarray._reconstruct", name("numpy.ndarray"), numbers((0,)), b"C\x01b")
        + b"(K\x01" + numbers((2,)) + call("numpy.dtype", text("O8")) + b"\x89](NNet" + b"b"),
     REFUSED, "no tensors"),
    ("a random crc", torch_zip(crc=zlib.crc32(b"x")), REFUSED, "checksum"),
)  # fmt: skip

# what a tensor claims and can't have is reported as danger: loaders that believed it overran
_LIES = (
    "made of integers",
    "1,000 dimensions",
    "impossible",
    "beyond",
    "claims",
    "don't fit",
    "before its",
    "os.sy",
)

PICKLES: list[Case] = [
    *(
        Case(f"pickle/call {dotted}", holding(_bare(_gadget(dotted))), REFUSED, _word(dotted), True)
        for dotted, _ in GADGETS
    ),
    *(
        Case(f"pickle/hidden {place}", holding(data), code, "DANGER: loading this file", True)
        for place, data, code in PLACES
    ),
    *(
        Case(
            f"pickle/broken {place}",
            holding(data),
            code,
            says,
            any(word in says for word in _LIES),
        )
        for place, data, code, says in BROKEN
    ),
]
