"""Members of a torch zip that torch.load doesn't read: named where they are pickles, with what
they would run if something did read them."""

from __future__ import annotations

from archfind.errors import CheckpointError
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.formats.archives.zip_directory import ZipDirectory

_SCRIPT = frozenset(
    """constants.pkl bytecode.pkl attributes.pkl traced_inputs.pkl mobile_debug_handles.pkl
    model.json""".split()
)  # which torch.jit reads by itself
_SUFFIXES = (".pkl", ".pickle", ".p", ".joblib", ".dill", ".pt", ".pth", ".bin", ".ckpt", ".npy")
_LOOKED_AT = 1000  # members
_NAMED = 20


def name_second_pickles(
    directory: ZipDirectory, names: list[str], root: str, script: bool, report: Report
) -> None:
    """Adds a warning for each pickle among the members called `names`; `script`: they are those of
    TorchScript, which has some of its own."""
    named = 0
    for name in names[:_LOOKED_AT]:
        own = name.removeprefix(root)
        if script and (own in _SCRIPT or own.startswith(("code/", "constants/"))):
            continue
        text = _said_of(directory, name, report)
        if text:
            report.warnings.append(text)
            named += 1
        if named >= _NAMED:
            break


def _said_of(directory: ZipDirectory, name: str, report: Report) -> str:
    """A line about a member that is a pickle, or has a name as if it were one; else ""."""
    from archfind.formats import is_pickle

    member, shown = directory.members[name], escape(name)
    try:
        if not is_pickle(directory.head(member, 4096)):
            promised = name.lower().endswith(_SUFFIXES) and member.size
            return f'torch.load does not read "{shown}"' if promised else ""
        text = f'holds a second pickle, "{shown}", which torch.load does not read'
        if member.size > limits.PICKLE_BYTES:
            return text
        from archfind.formats.torch_files.inner_pickles import read_for_danger

        apart = Report(report)
        data = directory.read(member, limits.PICKLE_BYTES)
        read_for_danger(data, directory.source.path, name, apart)
    except CheckpointError:
        return f'torch.load does not read "{shown}", which is damaged'
    calls = apart.danger()
    return f"{text}: {calls[0].replace('this file with torch.load', 'that one')}" if calls else text
