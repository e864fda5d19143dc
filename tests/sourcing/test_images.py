"""Labels of pictures choose what no tensor shows, and make it likely at the most."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from drawn_sources import equal
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from written_sources import compiled

import archfind
from archfind.cli import main


class Net(nn.Module):
    """A classifier with a leaky activation and average poolings, where most have ReLU and max."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.conv1, self.conv2):
            x = nn.functional.avg_pool2d(nn.functional.leaky_relu(layer(x), 0.2), 2)
        return self.fc2(nn.functional.leaky_relu(self.fc1(x.flatten(1)), 0.2))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[nn.Module, Path]]:
    """A network that was trained on digits, and a folder with it and pictures in one folder for
    each label."""
    folder = tmp_path_factory.mktemp("digits")
    data, targets = load_digits(return_X_y=True)
    levels = torch.tensor(data).reshape(-1, 8, 8).mul(255 / 16).round().to(torch.uint8)
    x, labels = levels[:, None].float() / 255, torch.tensor(targets)
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for one another on maps as small as these
    net = Net()
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(15):
        for some in torch.randperm(1597).split(64):
            adam.zero_grad()
            nn.functional.cross_entropy(net(x[some]), labels[some]).backward()
            adam.step()
    torch.save(net.state_dict(), folder / "net.pth")
    for n in range(1597, len(x)):
        place = folder / "pictures" / str(int(labels[n]))
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels[n].numpy()).save(place / f"{n}.png")
    yield net.eval(), folder
    torch.set_num_threads(threads)


def test_labels_choose_what_no_tensor_shows(
    digits: tuple[nn.Module, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    net, folder = digits
    out, pictures = str(tmp_path / "model.py"), str(folder / "pictures")
    assert main(["source", str(folder / "net.pth"), "-o", out, "--images", pictures]) == 1
    said = capsys.readouterr().out
    assert "model.py: likely: a convolutional classifier (2-D), 1 channel -> 10;" in said
    right = int(said.partition("  labels    ")[2].split()[0])
    assert f"  labels    {right} of 200 are right\n" in said and right > 150
    share = f"{right} of 200 labels are right"
    assert f"  chosen    pool=avg ({share}, fewer with other values)\n" in said
    # A slope of 0.1 is right as often, within the error: the likelier stays assumed.
    line = next(row for row in said.splitlines() if " activation=leaky_relu_0.2 " in row)
    assert line.startswith(f"  assumed   activation=leaky_relu_0.2 ({share}; ")
    assert "the labels in pictures/ fit other values as well: " in line and "_0.1" in line
    other = compiled(Path(out).read_text())().eval()
    other.load_state_dict(net.state_dict(), strict=True)
    assert equal(net, other, (torch.rand(4, 1, 8, 8),))


def test_labels_as_data_and_settings_that_stay(digits: tuple[nn.Module, Path]) -> None:
    _, folder = digits
    settings = {"activation": "elu", "conv1.padding": 1, "conv2.padding": 1}
    source = archfind.source(folder / "net.pth", settings=settings, images=folder / "pictures")
    assert (source.grade, source.chosen_by) == ("likely", "images")
    assert source.labels is not None and source.labels[1] == 200
    kept = {item.place: item.value for item in source.unseen if item.source == "user"}
    assert kept == settings


def test_labels_that_nothing_agrees_with_are_refused(
    digits: tuple[nn.Module, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures of each class are in the folders of all, in turn."""
    _, folder = digits
    for n, path in enumerate(sorted((folder / "pictures").glob("*/*.png"))):
        (tmp_path / str(n % 10)).mkdir(exist_ok=True)
        (tmp_path / str(n % 10) / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("archfind.building.proven._TRIES", 30)
    settings = {"pool": "avg", "conv1.padding": 1, "conv2.padding": 1}
    with pytest.raises(archfind.BuildError, match=r"better than chance: the best has \d+ of 200"):
        archfind.source(folder / "net.pth", settings=settings, images=tmp_path)


def test_bad_pictures_end_in_one_line(
    digits: tuple[nn.Module, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def said() -> str:
        assert main(["source", str(digits[1] / "net.pth"), "--images", str(tmp_path / "all")]) == 2
        shown = capsys.readouterr()
        assert not shown.out and shown.err.count("\n") == 1
        return shown.err

    assert "can't be listed" in said()
    for label in range(10):
        (tmp_path / "all" / str(label)).mkdir(parents=True)
    assert "one folder for each label" in said()
    picture = tmp_path / "all" / "3" / "a.png"
    picture.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    assert "can't be read as a picture" in said()
    Image.new("L", (8, 8)).save(picture)
    Image.new("L", (8, 9)).save(tmp_path / "all" / "4" / "b.png")
    assert "it isn't 8 x 8 as the first picture is" in said()
    Image.new("I;16", (8, 8)).save(tmp_path / "all" / "4" / "b.png")
    assert "more than 8 bits" in said()
    whole = picture.read_bytes()
    (tmp_path / "all" / "4" / "b.png").write_bytes(whole[:45])
    assert "can't be read as a picture" in said()
    with pytest.raises(archfind.BuildError, match="one at a time"):
        archfind.source(digits[1] / "net.pth", images=tmp_path, onnx="same.onnx")
