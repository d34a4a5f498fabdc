"""What `make app` serves, asked without a browser: nothing from outside, no kernel left behind."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import live_page
import pytest
from traitlets.config import PyFileConfigLoader

APP = Path(__file__).resolve().parents[2] / "notebooks" / "app" / "app.ipynb"


def ask(url: str, method: str = "GET") -> tuple[int, str]:
    """Status and text, as a browser without any cookie gets them."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=300) as got:
            return got.status, got.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.timeout(900)
def test_the_page_is_all_our_own_and_its_kernel_ends(tmp_path: Path) -> None:
    pytest.importorskip("voila")
    env = {"PYTHONPATH": str(APP.parents[2]), "KDUTILS_PROFILE": "smoke", "KDUTILS_DATA": "shapes"}
    with live_page.voila(APP, tmp_path / "home", env) as address:
        status, page = ask(address)
        assert status == 200
        assert "<title>Knowledge distillation, hands on</title>" in page
        assert len(re.findall(r"<h1\b", page)) == 1
        assert "application/vnd.jupyter.widget-view+json" in page and "Traceback" not in page
        outside = re.findall(r"""(?:src|href)\s*=\s*["'](?:https?:)?//[^"']+|@import[^;]+""", page)
        assert outside == [], "a network that swallows packets would keep the page blank"
        assert "from 'https://" not in page and 'from "https://' not in page
        config = re.search(r'id="jupyter-config-data"[^>]*>\s*(\{.*?\})\s*</script>', page, re.S)
        assert config
        kernel = json.loads(config[1])["kernelId"]
        assert ask(f"{address}api/kernels/{kernel}")[0] == 200
        # What the page does when it is closed (voila issue 1458: 403 without an _xsrf cookie).
        assert ask(f"{address}voila/api/shutdown/{kernel}", "POST")[0] == 204
        assert ask(f"{address}api/kernels/{kernel}")[0] == 404


def test_a_browser_that_was_killed_leaves_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PATH", "/somewhere")  # which the file extends; put back afterwards
    config = PyFileConfigLoader("voila.py", str(APP.parent)).load_config()
    kernels = config.MappingKernelManager
    assert 60 <= kernels.cull_idle_timeout <= 3600 and 0 < kernels.cull_interval <= 60
    assert config.VoilaConfiguration.preheat_kernel and config.VoilaConfiguration.template


def test_make_app_uses_that_configuration() -> None:
    rule = re.search(r"^app: .*\n(?:\t.*\n)+", (APP.parents[2] / "Makefile").read_text(), re.M)
    assert rule and "--Voila.config_file_paths=notebooks/app " in rule[0]
