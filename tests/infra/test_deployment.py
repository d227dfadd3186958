"""The sample deployment holds together: what one file names, another has.

No container engine is needed: what an engine would stumble over is looked for here.
"""

import json
import re
import ssl
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from compactor.service.app import check_listen
from compactor.service.auth import Authenticator
from compactor.service.config import load_service_config
from compactor.service.metrics import exposition
from compactor.service.store import open_service_store
from compactor.service.views import Views

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_DIRECTORY = ROOT / "infra" / "compose"
COMPOSE = yaml.safe_load((COMPOSE_DIRECTORY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = ROOT / "infra" / "docker" / "Dockerfile"


def instructions():
    """Return the instructions of the image, continued lines joined."""
    lines = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text()).splitlines()
    return [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="module")
def credentials(tmp_path_factory):
    directory = tmp_path_factory.mktemp("credentials")
    command = [sys.executable, str(ROOT / "infra/docker/make_credentials.py"), str(directory)]
    for _ in range(2):
        subprocess.run([*command, "compact", "localhost"], check=True, cwd=ROOT)
    return directory


class TestImage:
    def test_every_source_is_in_the_repository(self):
        for name, rest in instructions():
            if name == "COPY" and not rest.startswith("--from"):
                for source in rest.split()[:-1]:
                    assert (ROOT / source).exists(), source

    def test_it_runs_as_nobody_special_and_starts_the_service(self):
        said = dict(instructions())
        assert said["USER"] == "compact"
        assert json.loads(said["ENTRYPOINT"]) == ["compact"]
        assert json.loads(said["CMD"]) == ["serve"]

    def test_requirements_are_the_locked_ones(self):
        installs = [rest for name, rest in instructions() if name == "RUN" and "pip" in rest]
        assert "--require-hashes --requirement requirements.lock" in installs[0]
        assert all("--no-deps" in rest for rest in installs[1:])


class TestCompose:
    def test_every_file_that_is_mounted_exists_and_every_volume_is_declared(self):
        for service in SERVICES.values():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if source.startswith("."):
                    assert (COMPOSE_DIRECTORY / source).exists(), source
                else:
                    assert source in COMPOSE["volumes"]

    def test_every_service_that_is_waited_for_exists_and_can_be_healthy(self):
        for service in SERVICES.values():
            waits = service.get("depends_on", {})
            for name in waits:
                assert name in SERVICES
                if isinstance(waits, dict) and waits[name]["condition"] == "service_healthy":
                    assert "healthcheck" in SERVICES[name] or "build" in SERVICES[name]

    def test_ports_are_published_on_loopback_alone(self):
        published = [port for service in SERVICES.values() for port in service.get("ports", [])]
        assert published
        assert all(port.startswith("127.0.0.1:") for port in published)

    def test_images_have_versions(self):
        for service in SERVICES.values():
            assert "build" in service or ":" in service["image"]

    def test_the_image_is_built_from_its_file(self):
        build = SERVICES["compact"]["build"]
        assert (COMPOSE_DIRECTORY / build["context"]).resolve() == ROOT
        assert ROOT / build["dockerfile"] == DOCKERFILE


def test_the_service_accepts_its_configuration(credentials, tmp_path):
    text = (COMPOSE_DIRECTORY / "compact.toml").read_text() + (
        credentials / "auth.toml"
    ).read_text()
    file = tmp_path / "compact.toml"
    file.write_text(text.replace("/credentials/", f"{credentials}/"))
    store = SERVICES["compact"]["environment"]
    config = load_service_config(file, environment=store)
    authenticator = Authenticator.of(config.auth.values)
    check_listen(config, authenticator)
    token = (credentials / "token").read_text()
    assert authenticator.authenticate(token, now_ms=0).name == "metrics"
    assert config.settings.store.url == store["COMPACT_STORE__URL"]
    port = tomllib.loads(text)["service"]["listen"].rpartition(":")[2]
    assert f"127.0.0.1:{port}:{port}" in SERVICES["compact"]["ports"]


def test_credentials_are_made_once_and_belong_together(credentials):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credentials / "certificate.pem", credentials / "key.pem")
    made = x509.load_pem_x509_certificate((credentials / "certificate.pem").read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["compact", "localhost"]
    assert (credentials / "auth.toml").read_text().count("sha256") == 1
    assert (credentials / "token").stat().st_mode & 0o077 == 0


def test_prometheus_asks_where_the_service_is():
    config = yaml.safe_load((COMPOSE_DIRECTORY / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    ((target,),) = [one["targets"] for one in job["static_configs"]]
    name, _, port = target.partition(":")
    assert name in SERVICES
    assert any(one.endswith(f":{port}") for one in SERVICES[name]["ports"])
    assert job["tls_config"]["server_name"] == "compact"


def test_every_figure_of_the_dashboard_is_one_that_the_service_tells(tmp_path):
    path = COMPOSE_DIRECTORY / "grafana" / "dashboards" / "compact.json"
    board = json.loads(path.read_text())
    wanted = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"compactor_\w+", target["expr"])
    }
    file = tmp_path / "compact.toml"
    file.write_text(f'[store]\nurl = "sqlite:///{tmp_path}/jobs.db"\n')
    config = load_service_config(file, environment={})
    with open_service_store(config.settings.store.url) as store:
        views = Views(store, config.service, config.budget)
        told = exposition(views, {("lake", "accepted"): 1}).decode()
    known = set(re.findall(r"^# TYPE (\w+)", told, re.MULTILINE))
    assert {name for name in wanted if name not in known} == set()


def test_panels_do_not_lie_on_each_other():
    path = COMPOSE_DIRECTORY / "grafana" / "dashboards" / "compact.json"
    cells = [
        (x, y)
        for panel in json.loads(path.read_text())["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_grafana_finds_its_source_and_its_dashboard():
    provisioning = COMPOSE_DIRECTORY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((provisioning / "dashboards/compact.yaml").read_text())[
        "providers"
    ]
    assert source["url"].removeprefix("http://").partition(":")[0] in SERVICES
    mounts = dict(one.split(":")[:2] for one in SERVICES["grafana"]["volumes"])
    assert provider["options"]["path"] in mounts.values()
    board = json.loads((COMPOSE_DIRECTORY / "grafana/dashboards/compact.json").read_text())
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {source["uid"]}
