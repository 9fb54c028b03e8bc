"""Settings: typed, documented, and a misspelt variable is an error rather than a silent default."""

from pathlib import Path

import pytest

from service import settings
from service.settings import Settings, SettingsError


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    import os

    for name in [name for name in os.environ if name.startswith(("GANKILN_", "AWS_"))]:
        monkeypatch.delenv(name)


def test_defaults_are_valid_and_the_command_line_stands_above_the_environment(monkeypatch):
    monkeypatch.setenv("GANKILN_STORE", "/from/environment")
    monkeypatch.setenv("GANKILN_TTL_SECONDS", "7.5")
    loaded = settings.load(store="/from/option", worker=None)
    assert loaded.store == "/from/option"
    assert loaded.ttl_seconds == 7.5
    assert loaded.worker_name


def test_sizes_and_lists_of_paths(monkeypatch):
    monkeypatch.setenv("GANKILN_CACHE_BYTES", "20GB")
    monkeypatch.setenv("GANKILN_DATA_ROOTS", "/data:/more data:")
    loaded = settings.load()
    assert loaded.cache_bytes == 20_000_000_000
    assert loaded.data_roots == (Path("/data"), Path("/more data"))


def test_every_error_is_told_at_once_with_the_name_of_its_variable(monkeypatch):
    monkeypatch.setenv("GANKILN_HEARTBEAT_SECOND", "3")
    monkeypatch.setenv("GANKILN_TTL_SECONDS", "-1")
    monkeypatch.setenv("GANKILN_CACHE_BYTES", "lots")
    with pytest.raises(SettingsError) as caught:
        settings.load()
    text = str(caught.value)
    assert "did you mean GANKILN_HEARTBEAT_SECONDS?" in text
    assert "GANKILN_TTL_SECONDS: Input should be greater than 0; got '-1'" in text
    assert "GANKILN_CACHE_BYTES" in text
    assert caught.value.exit_code == 64


def test_what_kubernetes_adds_for_its_services_is_no_misspelling(monkeypatch):
    for name in ("GANKILN_EXPORTER_SERVICE_HOST", "GANKILN_EXPORTER_PORT", "GANKILN_EXPORTER_PORT_9464_TCP_ADDR"):
        monkeypatch.setenv(name, "tcp://10.0.0.1:9464")
    settings.load()
    monkeypatch.setenv("GANKILN_METRICS_PORT", "tcp://10.0.0.1:9464")  # a service named gankiln-metrics
    with pytest.raises(SettingsError, match="enableServiceLinks: false"):
        settings.load()


def test_a_job_gets_no_credentials_and_none_of_the_services_settings(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abcdefghijklmnop")
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    monkeypatch.setenv("GANKILN_STORE", "s3://bucket")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    environment = settings.child_environment()
    assert environment["CUDA_VISIBLE_DEVICES"] == "0"
    assert not {"AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "GANKILN_STORE"} & set(environment)
    assert "abcdefghijklmnop" in settings.secret_values()


def test_every_setting_is_documented():
    text = settings.reference_markdown()
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"`GANKILN_{name.upper()}`" in text


def test_every_duration_and_size_names_its_unit():
    for name, field in Settings.model_fields.items():
        if field.annotation is float:
            assert name.endswith(("_seconds", "_days")), name
        if "ByteSize" in str(field.annotation):
            assert name.endswith("_bytes"), name
