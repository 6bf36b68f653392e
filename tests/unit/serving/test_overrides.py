"""`open_services` with fakes in place of the network, the decoder and the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.bootstrap import Overrides, open_services
from stenobird.cli.local import local_client
from stenobird.errors import ConfigurationError
from stenobird.serving import serving
from stenobird.speech.engines import SpeechEngines
from stenobird.testing import FakeFinder, FakeOpener, FakeRecognizer, spoken
from tests.support.web_world import web_settings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_a_job_runs_through_the_product_with_fakes_of_its_ports(tmp_path: Path) -> None:
    opener = FakeOpener(spoken([1, 2, 3]))
    overrides = Overrides(finder=FakeFinder(), opener=opener, engines=SpeechEngines(FakeRecognizer()))
    async with (
        open_services(web_settings(data_dir=tmp_path), overrides=overrides) as services,
        serving(services) as url,
        local_client(url, api_key=None) as client,
    ):
        result = await client.transcribe("https://example.com/a.mp3")

    assert (result.text, result.status, result.engine) == ("1 2 3", "preview_complete", "fake")
    assert opener.open_now == 0


async def test_a_data_folder_has_one_service(tmp_path: Path) -> None:
    overrides = Overrides(engines=SpeechEngines(FakeRecognizer()))
    settings = web_settings(data_dir=tmp_path)
    async with open_services(settings, overrides=overrides):
        with pytest.raises(ConfigurationError, match="in use by process"):
            async with open_services(settings, overrides=overrides):
                pass
