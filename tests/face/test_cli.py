"""The command line as people and programs meet it: README's sessions, JSON, exit codes, bad
files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import archfind
from archfind.cli import main
from archfind.demo import write_checkpoint
from archfind.providers import provider

README = Path(__file__).parents[2] / "README.md"


def run(*arguments: str, cwd: Path) -> tuple[int, str, str]:
    script = "import sys; from archfind.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=cwd, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def sessions() -> list[tuple[str, str]]:
    """Each `$` command in README.md with the output below it."""
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    return [
        (command, output)
        for block in blocks
        for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    ]


def settled(text: str) -> str:
    """Text less what may differ between machines: a rounding difference, a file's hash."""
    text = re.sub(r"(max \|diff\|) \S+( \S+ of the)?", r"\1 D", text)
    return re.sub(r"(sha256) +\w+", r"\1 H", re.sub(r" +\n", "\n", text))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("readme")
    write_checkpoint(str(place))
    _write_sparse(place / "clip.safetensors", "vit_base_patch32_clip_224")
    return place


def _write_sparse(path: Path, name: str) -> None:
    """A safetensors file of a timm network with a real header and no data: zeros on no disk."""
    header: dict[str, object] = {}
    end = 0
    with torch.device("meta"):
        state = provider("timm").create(name).state_dict()
    for key, tensor in state.items():
        start, end = end, end + tensor.nbytes
        header[key] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


@pytest.mark.parametrize(("command", "output"), sessions())
def test_readme_shows_what_happens(folder: Path, command: str, output: str) -> None:
    words = command.split()
    assert words[0] == "archfind"
    _, printed, errors = run(*words[1:], cwd=folder)
    assert settled(printed) == settled(output), errors


def test_readme_counts_what_it_knows() -> None:
    from archfind.learning.commands import list_lines

    summary = list_lines([])[-1]
    names, counts, distinct = re.fullmatch(r"(\d+) names: (.*); (\d+) distinct.*", summary).groups()  # pyright: ignore
    text = README.read_text()
    assert f"{names} names, {distinct} distinct sets of tensors" in text.replace("\n", " ")
    for count, library in (part.split() for part in counts.split(", ")):
        assert f"| {library} | {count} |" in text


def test_json_is_the_documented_object(folder: Path) -> None:
    code, printed, _ = run("guess", "--json", "001.pth", cwd=folder)
    document = json.loads(printed)
    assert code == 0 and printed.count("\n") == 1
    assert document["build"] == {
        "callable": "timm.create_model",
        "args": ["test_efficientnet"],
        "kwargs": {"num_classes": 10},
    }
    assert document["config"] == {"num_classes": {"value": 10, "source": "shape"}}
    assert document["keys"]["matched"] == document["keys"]["expected"] == 88
    assert document["steps"] == [["unwrap", "state_dict"], ["strip", "module."]]
    assert (document["schema"], document["status"], document["chosen_by"]) == (1, "exact", "only")
    assert document["class"] == "timm.models.efficientnet.EfficientNet"
    assert document["error"] is None and document["danger"] == []


def test_the_build_in_json_builds_the_network(folder: Path) -> None:
    import importlib

    _, printed, _ = run("guess", "--json", "001.pth", cwd=folder)
    build = json.loads(printed)["build"]
    module, _, function = build["callable"].rpartition(".")
    network = getattr(importlib.import_module(module), function)(*build["args"], **build["kwargs"])
    network.load_state_dict(archfind.load(folder / "001.pth").state_dict(), strict=True)


def test_several_files_give_a_line_each_and_the_worst_code(folder: Path, minilm: Path) -> None:
    code, printed, errors = run("guess", "-q", "001.pth", str(minilm), "nothing.pth", cwd=folder)
    assert code == 2
    assert [line.partition(": ")[0] for line in printed.splitlines()] == ["001.pth", str(minilm)]
    assert errors.startswith("nothing.pth: error: ") and errors.count("\n") == 1


def _bad_files(place: Path) -> dict[str, str]:
    """Files that are no checkpoints, and words that their error must have."""
    torch.save({"a": [1, 2], "b": "text"}, place / "scalars.pth")
    torch.save(torch.zeros(1000), place / "cut.pth")
    data = (place / "cut.pth").read_bytes()
    (place / "cut.pth").write_bytes(data[: len(data) // 2])
    (place / "page.pth").write_text("<!DOCTYPE html><html><body>Sign in</body></html>")
    (place / "lfs.pth").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 102530333\n"
    )
    (place / "empty.pth").write_bytes(b"")
    (place / "zeros.pth").write_bytes(bytes(5000))
    (place / "notes.pth").write_text("remember to train longer next time\n" * 20)
    (place / "folder.pth").mkdir()
    with zipfile.ZipFile(place / "packed.pth", "w") as archive:
        archive.writestr("resnet.pth", b"x" * 100)
    (place / "cut.safetensors").write_bytes((400).to_bytes(8, "little") + b'{"a":{"dtype":"F32"')
    return {
        "scalars.pth": "no tensors",
        "cut.pth": "cut",
        "page.pth": "web page",
        "lfs.pth": "git lfs pull",
        "empty.pth": "empty",
        "zeros.pth": "zeros",
        "notes.pth": "text",
        "folder.pth": "folder",
        "packed.pth": "resnet.pth",
        "missing.pth": "o such file",
        "cut.safetensors": "",
    }


@pytest.mark.parametrize("command", ["guess", "inspect"])
def test_bad_files_end_in_one_line(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, words in _bad_files(tmp_path).items():
        path = str(tmp_path / name)
        assert main([command, path]) == 2, name
        printed, errors = capsys.readouterr()
        assert printed == "" and errors.count("\n") == 1, name
        assert errors.startswith(f"{path}: error: ") and words in errors, errors


def test_a_bad_file_in_json_is_an_object_with_its_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.pth").write_bytes(b"")
    assert main(["guess", "--json", str(tmp_path / "empty.pth")]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["status"] is None and "empty" in document["error"]


def test_export_says_which_choice_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "twin.pth"
    torch.save(provider("timm").create("test_efficientnet_gn").state_dict(), path)
    assert main(["export", str(path), str(tmp_path / "out.onnx")]) == 2
    assert "--as" in capsys.readouterr().err
    assert (
        main(
            ["export", str(path), str(tmp_path / "out.safetensors"), "--as", "test_efficientnet_gn"]
        )
        == 0
    )
    assert (tmp_path / "out.safetensors").exists()


def test_danger_goes_to_stderr_and_may_decide_the_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, (f"touch {marker}",)

    path = tmp_path / "evil.pth"
    torch.save(
        {"state_dict": provider("timm").create("test_vit").state_dict(), "x": Payload()}, path
    )
    assert main(["guess", str(path)]) == 0
    printed, errors = capsys.readouterr()
    assert "timm/test_vit" in printed and "system" in errors and "DANGER" in errors
    assert main(["guess", "--fail-on-danger", str(path)]) == 3
    assert not marker.exists()


def test_names_cannot_write_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(
        {"\x1b[31mred\n.weight": torch.zeros(3), "b\u202e": torch.zeros(2)},
        tmp_path / "odd\x1b.pth",
    )
    for command in ("guess", "inspect"):
        main([command, str(tmp_path / "odd\x1b.pth")])
        printed = "".join(capsys.readouterr())
        assert not set(printed) & {"\x1b", "\u202e"}


def test_inspect_shows_what_training_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = provider("timm").create("test_vit", num_classes=3)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(3):
        sum(p.sum() for p in network.parameters()).backward()
        optimizer.step()
    path = tmp_path / "last.ckpt"
    torch.save(
        {"epoch": 7, "state_dict": network.state_dict(), "optimizer": optimizer.state_dict()}, path
    )
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "optimizer AdamW, step 3" in printed and "epoch = 7" in printed
    assert "blocks.{0.." in printed and "torch-zip" in printed
    assert main(["inspect", "--json", str(path)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["optimizer"] == {"kind": "AdamW", "step": 3}
    assert document["uses"]["resume"].startswith("yes") and "epoch 7" in document["uses"]["resume"]
    assert document["wrappers"][0]["place"] == "state_dict"


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), "SGD with momentum"),
        (lambda p: torch.optim.Adam(p), "Adam"),
        (lambda p: torch.optim.RMSprop(p), "RMSprop"),
        (lambda p: torch.optim.NAdam(p), "NAdam"),
    ],
)
def test_optimizers_are_told_by_their_state(tmp_path: Path, optimizer: object, kind: str) -> None:
    from archfind.evidence.training import optimizers

    parameter = torch.nn.Parameter(torch.ones(4, 4))
    made = optimizer([parameter])  # pyright: ignore
    parameter.sum().backward()
    made.step()
    torch.save(
        {"model": {"w": parameter.detach()}, "optimizer": made.state_dict()}, tmp_path / "x.pth"
    )
    (found,) = optimizers(archfind.open(tmp_path / "x.pth"))
    assert found["kind"] == kind


def test_signatures_can_be_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signatures", "list", "torchvision"]) == 0
    assert "121 torchvision" in capsys.readouterr().out
    assert main(["signatures", "show", "timm/resnet50"]) == 0
    printed = capsys.readouterr().out
    assert "fc.weight  num_classes 2048 if num_classes" in printed and "resnetaa50" in printed
    assert main(["signatures", "show", "nonesuch"]) == 2


@pytest.mark.parametrize(
    "arguments", [("export", "001.pth", "never.onnx"), ("signatures", "check", "timm/resnet18")]
)
def test_without_torch_the_error_says_what_to_install(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    script = (
        "import sys; sys.modules['torch'] = None; from archfind.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 2 and "needs torch: pip install 'archfind[" in done.stderr
    assert done.stderr.count("\n") == 1 and not (folder / "never.onnx").exists()


def test_verbose_counts_why_each_candidate_was_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = dict(provider("timm").create("test_resnet").state_dict())
    del state["layer1.0.conv1.weight"]
    torch.save(state, tmp_path / "net.pth")
    assert main(["guess", "-v", str(tmp_path / "net.pth")]) == 1
    tried = [line for line in capsys.readouterr().out.split("\n") if line.startswith("  tried ")]
    first = re.fullmatch(
        r"  tried     timm/test_resnet: (\d+)/(\d+) tensors fit; 1 missing: layer1.0.conv1.weight, "
        r"0 unexpected, 0 mismatched; \d+ of its shapes are in the file, under any name; "
        r"shares (\d+) rare keys",
        tried[0],
    )
    assert first and int(first[1]) == int(first[2]) - 1 and int(first[3]) > 0
    assert len(tried) == 3 and all("tensors fit" in line for line in tried)


def test_a_choice_that_does_not_fit_is_not_exact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "net.pth")
    torch.save(provider("timm").create("test_resnet").state_dict(), path)
    assert main(["guess", "--as", "timm/vgg11", path]) == 1
    assert "unknown, no signature fits" in capsys.readouterr().out
    assert main(["export", "--as", "timm/vgg11", path, str(tmp_path / "out.pth")]) == 2
    assert not (tmp_path / "out.pth").exists()
    assert main(["guess", "--as", "vgg11000", path]) == 2
    assert "no network is called 'vgg11000'" in capsys.readouterr().err
