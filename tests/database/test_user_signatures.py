"""A user's own database: a file's keys and shapes recorded, files recognised by them, and folders
of strangers' signatures merged."""

from __future__ import annotations

import json
import math
import random
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import archfind
from archfind.cli import main
from archfind.database import entries
from archfind.database.user_text import RESERVED, parsed_signature
from archfind.errors import SignatureError
from archfind.providers import CONFIGURED, PROVIDERS

pytestmark = pytest.mark.light

Shapes = Mapping[str, tuple[int, ...]]
NAME = "team/net"
FIRST = "# archfind signature 1\n\n"
GOOD = FIRST + "[team/net]\na.weight  4 3\nb.{0..3}.weight  4 4\n"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without signatures, whose data are of this test."""
    monkeypatch.delenv("ARCHFIND_SIGNATURES", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("archfind.database.user_folder.sys.platform", "linux")
    return tmp_path / "data" / "archfind" / "signatures"


def net(width: int = 24, depth: int = 3, classes: int = 10) -> dict[str, tuple[int, ...]]:
    """The tensors of a network that no library has."""
    shapes: dict[str, tuple[int, ...]] = {"stem.weight": (width, 3, 5, 5), "stem.bias": (width,)}
    for place in (f"stages.{n}" for n in range(depth)):
        shapes[f"{place}.mix.weight"] = width, width, 3, 3
        shapes[f"{place}.norm.weight"] = shapes[f"{place}.norm.bias"] = (width,)
    return {**shapes, "top.weight": (classes, width), "top.bias": (classes,)}


def saved(path: Path, shapes: Shapes, dtype: str = "F32", prefix: str = "") -> Path:
    """A .safetensors of zeros, its keys in their order."""
    header: dict[str, object] = {}
    at = 0
    for key, shape in shapes.items():
        size = (2 if dtype == "F16" else 4) * max(1, math.prod(shape))
        header[prefix + key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))
    return path


def learn(path: Path, name: str = NAME, *more: str) -> int:
    return main(["signatures", "learn", "--from", str(path), "--name", name, *more])


def test_a_file_is_recorded_and_its_like_are_recognised(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "a.safetensors", net())
    assert archfind.guess(path).status == "unknown"
    assert learn(path) == 0
    assert f"{NAME}: recorded, 13 tensors, num_classes 10 in this file" in capsys.readouterr().out
    text = (data / "team" / "net.txt").read_text()
    assert "stages.{0..2}.mix.weight  24 24 3 3\n" in text and "from    a.safetensors" in text

    headless = {key: shape for key, shape in net().items() if not key.startswith("top")}
    two = {
        "top.0.weight": (16, 24),
        "top.0.bias": (16,),
        "top.2.weight": (5, 16),
        "top.2.bias": (5,),
    }
    cases = {
        "same": (net(), {}, 10),
        "prefixed": (net(), {"prefix": "module."}, 10),
        "deeper": (net(), {"prefix": "model.net."}, 10),
        "half": (net(), {"dtype": "F16"}, 10),
        "seven": (net(classes=7), {}, 7),
        "headless": (headless, {}, 0),
        "head": ({**headless, **two}, {}, None),
    }
    for name, (shapes, how, classes) in cases.items():
        guess = archfind.guess(saved(tmp_path / f"{name}.safetensors", shapes, **how))
        best = guess.matches[0]
        # Its name is known, and what it computes isn't: that is said, and the answer not exact.
        assert (guess.status, guess.is_named, best.entry.id, best.fits) == (
            "ambiguous", True, NAME, True,
        ), name  # fmt: skip
        assert best.assumed[-1].place == "implementation"
        if classes is not None:
            assert best.config["num_classes"].value == classes
    told = archfind.guess(path, settings={"implementation": NAME})
    assert told.status == "exact"
    wide = archfind.guess(saved(tmp_path / "wide.safetensors", net(32, 5)))
    assert wide.status == "unknown"  # another network, of which nobody said anything


def test_the_answer_says_what_the_record_says_and_that_nothing_builds_it(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "a.safetensors", net())
    learn(path)
    capsys.readouterr()
    assert main(["guess", str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(
        "ambiguous: team/net, as recorded; what it computes is known by name alone"
    )
    record = data / "team" / "net.txt"
    assert f"  record    learnt from a.safetensors; {record}" in lines
    main(["guess", "--json", str(path)])
    document = json.loads(capsys.readouterr().out)
    assert (document["build"], document["class"]) == (None, None)
    assert document["record"] == {"path": str(record), "source": "a.safetensors"}
    assert main(["export", str(path), str(tmp_path / "copy.pth")]) == 0  # tensors are tensors


def test_records_are_found_where_they_are_told_to_be(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, place = saved(tmp_path / "a.safetensors", net()), tmp_path / "elsewhere"
    assert learn(path, NAME, "--signatures", str(place)) == 0
    assert not data.exists() and archfind.guess(path).status == "unknown"
    assert archfind.guess(path, signatures=str(place)).matches[0].entry.id == NAME
    assert main(["guess", "-q", "--signatures", str(place), str(path)]) == 1
    assert main(["scan", "--no-cache", "--signatures", str(place), str(path)]) == 0
    assert capsys.readouterr().out.count(NAME) == 5
    assert archfind.guess(path).status == "unknown"  # which was for that one answer
    monkeypatch.setenv("ARCHFIND_SIGNATURES", str(place))
    assert archfind.guess(path).matches[0].entry.id == NAME
    assert main(["signatures", "list", "team"]) == 0
    assert main(["signatures", "show", NAME]) == 0
    assert (place / "team" / "net.txt").read_text() in capsys.readouterr().out
    monkeypatch.setenv("ARCHFIND_SIGNATURES", str(tmp_path / "gone"))
    with pytest.raises(SignatureError, match="ARCHFIND_SIGNATURES"):
        archfind.guess(path)
    assert main(["guess", "--signatures", str(tmp_path / "gone"), str(path)]) == 2


def test_a_name_stands_for_one_network(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = saved(tmp_path / "one.safetensors", net())
    two = saved(tmp_path / "two.safetensors", net(48))
    assert learn(one) == 0 and learn(one) == 0
    assert "known already" in capsys.readouterr().out
    assert learn(two) == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert archfind.guess(one).matches[0].entry.id == NAME
    assert learn(two, NAME, "--force") == 0  # the same process sees the new text
    assert archfind.guess(two).matches[0].entry.id == NAME
    assert archfind.guess(one).matches[0].resized  # half as wide, as a pruned one is
    # Two names of the same tensors are both said, and neither chosen.
    assert learn(two, "other/net") == 0
    guess = archfind.guess(two)
    assert (guess.status, guess.is_named) == ("ambiguous", False)
    names = {guess.matches[0].entry.id, *(t.architecture for t in guess.matches[0].twins)}
    assert names == {NAME, "net"} or names == {"other/net", "net"}
    assert archfind.guess(two, choose="other/net").matches[0].entry.id == "other/net"
    outside = "../net", "team/../../net", "team/.net"
    for wrong in ("net", "timm/net", "code/net", "team/a b", "t/" + "n" * 200, *outside):
        assert learn(one, wrong) == 2, wrong
    assert sorted(path.name for path in data.rglob("*.txt")) == ["net.txt", "net.txt"]


def test_a_librarys_network_stays_the_answer(mobilenet: Path, data: Path) -> None:
    before = archfind.guess(mobilenet)
    assert learn(mobilenet, "team/phone") == 0
    after = archfind.guess(mobilenet)
    assert (after.status, after.matches[0].entry) == (before.status, before.matches[0].entry)
    chosen = archfind.guess(mobilenet, choose="team/phone")
    assert (chosen.status, chosen.matches[0].entry.id) == ("ambiguous", "team/phone")


def test_what_is_no_network_is_not_recorded(tmp_path: Path, data: Path) -> None:
    lora = {f"x.{n}.lora_{part}.weight": (4, 4) for n in range(4) for part in ("A", "B")}
    odd = {"a{0}.weight": (3, 3), "b": (3, 3)}
    for shapes in (lora, odd, {"a  b": (3, 3), "c": (3, 3)}):
        assert learn(saved(tmp_path / "x.safetensors", shapes)) == 2
    assert learn(tmp_path / "nothing.pth") == 2
    assert not data.exists()


def test_strangers_signatures_are_merged(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, theirs = saved(tmp_path / "a.safetensors", net()), tmp_path / "theirs"
    learn(path, "them/net", "--signatures", str(theirs))
    learn(saved(tmp_path / "b.safetensors", net(48)), "them/wide", "--signatures", str(theirs))
    (theirs / "broken.txt").write_text(GOOD + "c.weight  4 x y(\n")
    (theirs / "readme.md").write_text("not a signature, and not asked to be one")
    capsys.readouterr()
    assert main(["signatures", "add", str(theirs)]) == 2  # one file of three is refused
    out = capsys.readouterr().out.splitlines()
    assert [line for line in out if "refused:" in line] == [
        f"{theirs / 'broken.txt'}: refused: not a size: 'y(' in 'c.weight  4 x y('"
    ]
    assert out[-1] == f"{data}: 2 added, 0 known already, 1 refused"
    assert sorted(p.relative_to(data).as_posix() for p in data.rglob("*.txt")) == [
        "them/net.txt", "them/wide.txt",
    ]  # fmt: skip
    assert archfind.guess(path).matches[0].entry.id == "them/net"
    assert main(["signatures", "add", str(theirs / "them")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("0 added, 2 known already, 0 refused")
    conflicting = tmp_path / "more"
    learn(saved(tmp_path / "c.safetensors", net(8)), "them/net", "--signatures", str(conflicting))
    assert main(["signatures", "add", str(conflicting)]) == 2
    assert archfind.guess(path).matches[0].entry.id == "them/net"
    assert main(["signatures", "add", str(tmp_path / "none")]) == 2


def test_a_file_that_is_no_signature_is_a_warning_beside_the_answer(
    tmp_path: Path, data: Path
) -> None:
    path = saved(tmp_path / "a.safetensors", net())
    learn(path)
    (data / "team" / "broken.txt").write_bytes(b"\xff\xfe")
    guess = archfind.guess(path)
    assert guess.matches[0].entry.id == NAME
    assert guess.warnings == (f"{data / 'team' / 'broken.txt'}: not UTF-8 text",)


BAD = {
    "another first line": "[team/net]\na  3\n",
    "no name": FIRST + "a  3\n",
    "a library's name": GOOD.replace("team/", "timm/"),
    "a path": GOOD.replace("team/net", "../../net"),
    "no tensors": FIRST + "[team/net]\n",
    "no floats": FIRST + "[team/net]\nn  () int64\n",
    "a key twice": GOOD + "a.{weight|bias}  4 3\n",
    "more keys than any": GOOD + "c.{0..999999999}.w  1\n",
    "more keys than any, by products": GOOD + "c.{0..999}.{0..999}.{0..999}.w  1\n",
    "an endless number": GOOD + f"c.{{0..{'9' * 5000}}}.w  1\n",
    "a brace": GOOD + "c.{0..3.w  1\n",
    "no shape": GOOD + "c.w\n",
    "a size": GOOD + "c.w  99999999999999999999\n",
    "a digit of another script": GOOD + "c.w  \u00b2\n",
    "dimensions": GOOD + f"c.w  {'1 ' * 100}1\n",
    "a size of no field": GOOD + "c.w  width\n",
    "a condition of no field": GOOD + "c.w  3 if x\n",
    "another field": GOOD.replace("]\n", "]\nfields  width=3\n"),
    "a field of many digits": GOOD.replace("]\n", f"]\nfields  num_classes={'9' * 5000}\n"),
    "control characters": GOOD + "c\x1b[31m.w  3\n",
    "arguments that are no object": GOOD.replace("]\n", "]\nclass  a.B\nargs  [1]\n"),
    "arguments that are no names": GOOD.replace("]\n", ']\nclass  a.B\nargs  {"a b": 1}\n'),
    "arguments beyond depth": GOOD.replace("]\n", f"]\nclass  a.B\nargs  {'[' * 9000}\n"),
    "a class that is none": GOOD.replace("]\n", "]\nclass  os.system('x')\n"),
    "a second entry": GOOD + "\n[team/other]\na.weight  3\n",
    "a family of no class": GOOD + "\n[a.B/1]\nbase    team/net\na.weight  4 3\n",
    "a long key": GOOD + "k" * 3000 + "  3\n",
    "an empty text": "",
    "a long line": GOOD + "c" * 30_000 + "\n",
}


@pytest.mark.parametrize("what", BAD)
def test_a_text_that_no_archfind_wrote_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    with pytest.raises(SignatureError) as caught:
        parsed_signature(BAD[what].encode(), "x.txt")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    parsed_signature(GOOD.encode())


def test_every_byte_of_a_text_may_be_wrong() -> None:
    """Whatever a damaged text holds, it's a signature or it's refused."""
    data = (
        GOOD.replace(
            "]\n", ']\nclass   a.B\nargs    {"x": {"tuple": [1]}}\nfields  num_classes=3\n'
        )
    ).encode()
    for at in range(len(data)):
        for byte in b"\x00{}[]()|. \n9\xff":
            for damaged in (data[:at] + bytes([byte]) + data[at + 1 :], data[:at]):
                try:
                    parsed_signature(damaged)
                except SignatureError:
                    continue


RULES = (
    FIRST + '[team/net]\nclass   a.Net\nargs    {"width": 4, "depth": 2}\n'
    "stem.weight  4 3 5 5\nstages.{0..1}.mix.weight  4 4 3 3\ntop.bias  4\n\n"
    "[a.Net/1]\nbase    team/net\nheld    8 8\nleaf    width 4 options [8]\n"
    "leaf    depth 2 options [3]\npreset  team/net {}\n"
    "stem.weight  width 3 5 5\nstages.{i<depth}.mix.weight  width width 3 3\ntop.bias  width\n"
)


def test_rules_of_a_stranger_are_refused_or_answer(tmp_path: Path) -> None:
    """Rules that are damaged in any way: the text is refused, or a guess goes on with them."""
    shapes = {"stem.weight": (6, 3, 5, 5), "top.bias": (6,)}
    shapes |= {f"stages.{n}.mix.weight": (6, 6, 3, 3) for n in range(3)}
    path = saved(tmp_path / "a.safetensors", shapes)
    rows = RULES.split("\n")
    first = rows.index("[a.Net/1]")
    words = "9999999999 0 -1 ( ) * ** {i< if None 'x' options [ \"a\" in . depth*10000000".split()
    chance = random.Random(0)
    kept = 0
    for number in range(1500):
        damaged = [*rows]
        at = chance.randrange(first + 1, len(rows) - 1)
        parts = damaged[at].split(" ")
        parts[chance.randrange(len(parts))] = chance.choice(words)
        damaged[at] = " ".join(parts)
        try:
            parsed_signature("\n".join(damaged).encode())
        except SignatureError:
            continue
        kept += 1
        place = tmp_path / str(number)
        place.mkdir()
        (place / "net.txt").write_text("\n".join(damaged))
        assert archfind.guess(path, signatures=str(place)).status
    assert kept > 10
    (tmp_path / "net.txt").write_text(RULES)
    guess = archfind.guess(path, signatures=str(tmp_path))
    assert {name: one.value for name, one in guess.matches[0].config.items()} == {
        "width": 6, "depth": 3,
    }  # fmt: skip


@pytest.mark.parametrize("options", ['"abc"', "3", "[[1]]", "[NaN]", "[1e400]", '{"a": 1}'])
def test_options_that_no_argument_has_are_refused(options: str) -> None:
    parsed_signature(RULES.encode())
    with pytest.raises(SignatureError):
        parsed_signature(RULES.replace("options [3]", f"options {options}").encode())


def test_names_of_libraries_are_reserved() -> None:
    assert {*PROVIDERS, CONFIGURED, "code"} == RESERVED


def test_who_has_no_signatures_pays_one_look_at_the_disk(mobilenet: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nlooks = []\n"
        "def look(event, args):\n"
        "    if args and 'archfind-data' in str(args[0]): looks.append((event, args))\n"
        "sys.addaudithook(look)\n"
        "from archfind.cli import main\nmain(['guess', '-q', sys.argv[1]])\n"
        "loaded = [name for name in sys.modules if '.user_' in name]\n"
        "assert not looks, looks\n"
        "assert loaded == ['archfind.database.user_folder', 'archfind.matching.user_records']\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(mobilenet)],
        capture_output=True,
        text=True,
        env={"XDG_DATA_HOME": str(tmp_path / "archfind-data"), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr


def test_the_two_databases_are_asked_as_one(tmp_path: Path, data: Path) -> None:
    shipped = entries.shipped()
    learn(saved(tmp_path / "a.safetensors", net()))
    both = entries.default()
    assert len(both) == len(shipped) + 1
    assert both.named(NAME) == [len(shipped)] and both.named("timm/resnet18") == shipped.named(
        "timm/resnet18"
    )
    for key, shape in (("conv1.weight", (64, 3, 7, 7)), ("top.bias", None), ("nothing", None)):
        known = shipped.holding(key, shape)
        members = [*both.members(both.holding(key, shape))] if both.holding(key, shape) >= 0 else []
        before = [*shipped.members(known)] if known >= 0 else []
        assert members == before + [len(shipped)] * (key in net())
