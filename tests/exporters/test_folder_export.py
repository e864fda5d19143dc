"""`export FILE DIR/`: a transformers model among files of somebody else, none of them touched."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import transformers
from safetensors.torch import save_file

import archfind
from archfind.cli import main
from archfind.errors import ExportError

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 90,
}
AS = "transformers/BertModel"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> archfind.types.Built:
    """A small BERT, whose file lies in a/b/weights."""
    place = tmp_path_factory.mktemp("bert") / "a" / "b" / "weights"
    place.mkdir(parents=True)
    return archfind.build(bert(place / "model.safetensors"), choose=AS, accept_ambiguous=True)


def bert(path: Path) -> Path:
    save_file(transformers.BertModel(transformers.BertConfig(**SIZES)).state_dict(), path)
    return path


def source_of(built: archfind.types.Built) -> Path:
    return Path(built.guess.canonical.checkpoint.path)


def everything(folder: Path) -> dict[str, bytes]:
    found = {p.relative_to(folder): p for p in folder.rglob("*") if p.is_file() or p.is_symlink()}
    return {
        str(name): os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        for name, path in found.items()
    }


def weights(folder: Path) -> dict[str, tuple[int, ...]]:
    return {
        key: spec.shape for key, spec in archfind.open(folder / "model.safetensors").index.items()
    }


@pytest.mark.parametrize("depth", [1, 2])
def test_a_folder_above_the_source_keeps_it(built: archfind.types.Built, depth: int) -> None:
    """The source lies deeper in the folder that is written to."""
    out = source_of(built).parents[depth]
    (out / ".git").mkdir(exist_ok=True)
    (out / ".git" / "HEAD").write_text("ref")
    before = everything(out)
    archfind.export(built, f"{out}/", force=True)
    after = everything(out)
    assert before.items() <= after.items()
    assert set(after) - set(before) == {"config.json", "model.safetensors"}
    assert transformers.AutoModel.from_pretrained(out).config.hidden_size == 32


def test_the_folder_that_the_source_is_in_is_refused(built: archfind.types.Built) -> None:
    folder = source_of(built).parent
    before = everything(folder)
    with pytest.raises(ExportError, match="holds the checkpoint itself"):
        archfind.export(built, f"{folder}/", force=True)
    assert everything(folder) == before


@pytest.mark.parametrize("name", ["./", ".", "../here/", "{}/"])
def test_the_working_folder(
    name: str, built: archfind.types.Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "thesis.txt").write_text("mine")
    monkeypatch.chdir(here)
    with pytest.raises(ExportError, match=r"exists; --force replaces its config\.json and"):
        archfind.export(built, name.format(here))
    assert os.listdir(here) == ["thesis.txt"]
    archfind.export(built, name.format(here), force=True)
    assert sorted(os.listdir(here)) == ["config.json", "model.safetensors", "thesis.txt"]


def test_a_link_to_a_folder_is_followed(built: archfind.types.Built, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "thesis.txt").write_text("mine")
    (tmp_path / "link").symlink_to("real")
    archfind.export(built, f"{tmp_path}/link/", force=True)
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path / "real")) == [
        "config.json",
        "model.safetensors",
        "thesis.txt",
    ]


def test_links_of_the_hub_s_cache_are_left(built: archfind.types.Built, tmp_path: Path) -> None:
    for name in ("blobs", "snapshot"):
        (tmp_path / name).mkdir()
    (tmp_path / "blobs" / "abc").write_text("{}")
    for file in ("config.json", "model.safetensors"):
        link = tmp_path / "snapshot" / file
        link.symlink_to("../blobs/abc")
        before = everything(tmp_path)
        with pytest.raises(ExportError, match="is a link, which isn't replaced"):
            archfind.export(built, f"{tmp_path}/snapshot/", force=True)
        assert everything(tmp_path) == before
        link.unlink()
        for source, name in ((os.symlink, "a link"), (os.link, "a second name")):
            source(source_of(built), link)
            with pytest.raises(ExportError, match="is the checkpoint itself"):
                archfind.export(built, f"{tmp_path}/snapshot/", force=True)
            assert link.samefile(source_of(built)), name
            link.unlink()


def test_weights_never_meet_another_config_without_a_word(
    built: archfind.types.Built, tmp_path: Path
) -> None:
    """config.json is moved last. Where the old one would open the new weights in silence and do
    something else with them, nothing is moved."""
    out = tmp_path / "out"
    archfind.export(built, out)
    config = json.loads((out / "config.json").read_text())
    other = {**config, "num_attention_heads": 4}
    fresh = archfind.build(bert(tmp_path / "new.safetensors"), choose=AS, accept_ambiguous=True)
    archfind.export(fresh, out, force=True)  # the same config: one file is replaced
    before = everything(out)
    for said in (other, {**config, "transformers_version": "4.0.0", "dtype": "float16"}):
        (out / "config.json").write_text(json.dumps(said))
        if said is other:
            with pytest.raises(ExportError, match=r"would join its config\.json"):
                archfind.export(built, out, force=True)
            assert everything(out) == {**before, "config.json": json.dumps(other).encode()}
            archfind.export(fresh, out, force=True)  # the same weights
            assert everything(out) == before
        else:
            archfind.export(built, out, force=True)
    (out / "config.json").write_text(json.dumps({**other, "vocab_size": 91}))
    (out / "model.safetensors").unlink()
    save_file({"a": fresh.module.state_dict()["pooler.dense.bias"]}, out / "model.safetensors")
    archfind.export(built, out, force=True)  # transformers says that those don't fit
    assert len(weights(out)) > 1


def test_what_from_pretrained_would_open_instead(
    built: archfind.types.Built, tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ExportError, match=r"adapter_config\.json, which from_pretrained follows"):
        archfind.export(built, f"{tmp_path}/", force=True)
    assert os.listdir(tmp_path) == ["adapter_config.json"]


def test_several_shards(
    built: archfind.types.Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = transformers.BertModel.save_pretrained
    monkeypatch.setattr(
        transformers.BertModel,
        "save_pretrained",
        lambda *args, **named: save(*args, max_shard_size="20KB", **named),
    )
    (tmp_path / "thesis.txt").write_text("mine")
    archfind.export(built, f"{tmp_path}/", force=True)
    assert "model.safetensors.index.json" in os.listdir(tmp_path)
    opened = transformers.AutoModel.from_pretrained(tmp_path)
    assert set(opened.state_dict()) == set(built.module.state_dict())
    before = everything(tmp_path)
    with pytest.raises(ExportError, match="can't be replaced at once"):
        archfind.export(built, f"{tmp_path}/", force=True)
    assert everything(tmp_path) == before
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean" / "model.safetensors").write_bytes(b"of another")
    with pytest.raises(ExportError, match="can't be replaced at once"):
        archfind.export(built, f"{tmp_path}/clean/", force=True)
    assert os.listdir(tmp_path / "clean") == ["model.safetensors"]


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("file/", "is a file; a transformers model"),
        ("nothing/", "is a link to nothing"),
        ("missing/out/", "there is no folder"),
        ("n" * 300 + "/", "File name too long"),
        ("bert.xyz", "no exporter writes .xyz"),
    ],
)
def test_what_can_be_no_folder(
    out: str, said: str, built: archfind.types.Built, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "nothing").symlink_to("nowhere")
    before = everything(tmp_path)
    with pytest.raises(ExportError, match=said):
        archfind.export(built, f"{tmp_path}/{out}", force=True)
    assert everything(tmp_path) == before


def test_half_and_opset_are_not_for_a_folder(built: archfind.types.Built, tmp_path: Path) -> None:
    for option in ({"half": True}, {"opset": 18}, {"dtype": "fp16"}, {"max_shard_size": 9}):
        with pytest.raises(ExportError, match=r"(is|are) for"):
            archfind.export(built, f"{tmp_path}/out/", **option)
    assert not os.listdir(tmp_path)


def test_a_folder_is_no_place_for_another_library_s_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from archfind.demo import write_checkpoint

    path, _ = write_checkpoint(str(tmp_path))
    assert main(["export", path, f"{tmp_path}/out/"]) == 2
    assert "no exporter writes a name without a suffix" in capsys.readouterr().err
