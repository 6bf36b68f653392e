from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.inference.hub import ModelUnavailable, progress_bar
from stenobird.speech.models import AUTO_MODELS, FIXTURE_NAME, ModelFiles, resolve, translates

if TYPE_CHECKING:
    from pathlib import Path


def nothing_downloaded(done: int, wanted: int) -> None:
    raise AssertionError(f"{done} of {wanted} bytes were downloaded")


def find(model: str, cache: Path, *, device: str = "cpu") -> ModelFiles:
    return resolve(model, device=device, cache_dir=str(cache), progress=nothing_downloaded)


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hub and package index are out of reach, as HF_HUB_OFFLINE and PIP_NO_INDEX make them for a process."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")


def cached(cache: Path, repository: str) -> Path:
    """Lay out a model as the hub's cache does."""
    owner, name = repository.split("/")
    folder = cache / f"models--{owner}--{name}"
    snapshot = folder / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    for file in ("config.json", "model.bin", "tokenizer.json"):
        (snapshot / file).touch()
    return snapshot


def test_the_bundled_model_is_recognised_as_the_fixture(fixture_model: Path, tmp_path: Path) -> None:
    assert find(str(fixture_model), tmp_path) == ModelFiles(fixture_model, FIXTURE_NAME, fixture=True)


def test_a_folder_is_named_after_itself(fixture_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    for file in fixture_model.iterdir():
        (folder / file.name).symlink_to(file)

    assert find(str(folder), tmp_path) == ModelFiles(folder, "my-model")


def test_a_folder_without_a_model_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()

    with pytest.raises(ModelUnavailable, match=r"lacks model\.bin, tokenizer\.json") as caught:
        find(str(tmp_path), tmp_path)
    assert not caught.value.offline


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="large-v3-turbo") as caught:
        find("enormous", tmp_path)
    assert not caught.value.offline


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_auto_suits_the_device_and_is_found_in_the_cache(tmp_path: Path, device: str) -> None:
    snapshots = {
        "cpu": cached(tmp_path, "Systran/faster-whisper-base"),
        "cuda": cached(tmp_path, "mobiuslabsgmbh/faster-whisper-large-v3-turbo"),
    }

    assert find("auto", tmp_path, device=device) == ModelFiles(snapshots[device], AUTO_MODELS[device][0])


def test_a_gpu_whose_model_no_source_has_runs_base(tmp_path: Path) -> None:
    snapshot = cached(tmp_path, "Systran/faster-whisper-base")

    assert find("auto", tmp_path, device="cuda") == ModelFiles(snapshot, "base")


def test_a_repository_is_found_in_the_cache(tmp_path: Path) -> None:
    snapshot = cached(tmp_path, "someone/something")

    assert find("someone/something", tmp_path) == ModelFiles(snapshot, "someone/something")


def test_a_half_downloaded_model_is_not_taken_for_one(tmp_path: Path) -> None:
    (cached(tmp_path, "Systran/faster-whisper-base") / "model.bin").unlink()

    with pytest.raises(ModelUnavailable):
        find("base", tmp_path)


def test_no_model_and_no_hub_is_distinguished_from_a_wrong_name(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="STENOBIRD_ENGINE=offline") as caught:
        find("base", tmp_path)
    assert caught.value.offline


def test_the_progress_bar_reports_bytes_and_nothing_else() -> None:
    reports: list[tuple[int, int]] = []
    bar = progress_bar(lambda done, wanted: reports.append((done, wanted)))

    with bar(total=3, desc="Fetching 3 files") as files:
        files.update(1)
    with bar(total=100, unit="B", unit_scale=True) as received:
        received.update(40)
        received.update(60)

    assert reports == [(40, 100), (100, 100)]


@pytest.mark.parametrize(
    ("name", "able"),
    [
        ("base", True),
        ("large-v3", True),
        ("large-v3-turbo", False),
        ("deepdml/faster-whisper-large-v3-turbo-ct2", False),
        ("distil-large-v3", False),
    ],
)
def test_models_that_were_not_trained_to_translate_are_known(name: str, *, able: bool) -> None:
    assert translates(name) is able
