"""Documents made from the code are noticed when they no longer say what the code does."""

from pathlib import Path

import pytest

from opsfleet.settings import Settings, variable_of
from tests.support import generated


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose documents were just made."""
    (tmp_path / "docs/reference").mkdir(parents=True)
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    assert generated.main([]) == 0
    return tmp_path


def test_documents_just_made_are_not_stale(folder: Path) -> None:
    assert generated.main(["--check"]) == 0
    assert sorted(file.name for file in (folder / "docs/reference").iterdir()) == [
        "commands.md",
        "openapi.json",
        "settings.md",
    ]


def test_each_stale_or_missing_document_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "docs/reference/settings.md").write_text("old\n")
    (folder / "docs/reference/openapi.json").unlink()
    assert generated.main(["--check"]) == 1
    said = capsys.readouterr().out
    assert "docs/reference/settings.md is stale" in said
    assert "docs/reference/openapi.json is stale" in said
    assert "commands.md" not in said


def test_checking_changes_nothing(folder: Path) -> None:
    page = folder / "docs/reference/settings.md"
    page.write_text("old\n")
    generated.main(["--check"])
    assert page.read_text() == "old\n"


def test_every_setting_is_in_the_reference_and_secrets_are_marked() -> None:
    page = generated.settings_page()
    for name, field in Settings.model_fields.items():
        assert f"`{variable_of(name, field)}`" in page
    assert "`FLEET_SECRET_KEY` (secret)" in page
    assert "`FLEET_HEALTH_INTERVAL` | `30` | Seconds between health cycles. | a number from 1 to 86,400 |" in page


def test_commands_within_commands_are_in_the_reference_without_escape_codes() -> None:
    page = generated.commands_page()
    for command in ("opsfleet serve", "opsfleet servers import", "opsfleet doctor"):
        assert f"## {command}\n" in page
    assert "\x1b" not in page


def test_the_width_of_the_terminal_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = set()
    for columns in ("40", "240"):
        monkeypatch.setenv("COLUMNS", columns)
        pages.add((generated.commands_page(), generated.openapi_document()))
    assert len(pages) == 1
