"""The house keeps its plan: who may import whom, who reads the environment, and that all papers tell the same story."""

import ast
import asyncio
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from gateway_adapters.registry import SPECS
from http_ingress import app as ingress_app
from http_ingress.description import openapi, pages
from streams.cli.application import build
from streams.settings import variables
from streams.telemetry.health import HealthServer
from streams.telemetry.logs import ALLOWED_FIELDS
from streams.topology import COMPONENTS, ORDERS, Component
from tests.conftest import REQUIRE_VARIABLE
from tests.support.waiting import until_async

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "gateway_adapters", "streams", "http_ingress", "bench")
LINT_LIMIT_S = 120.0
HEALTH_LIMIT_S = 30.0
MAX_MODULE_BYTES = 24_000

# Who may touch the environment, and why. Everybody else is given settings.
ENVIRONMENT_READERS = {
    "streams/settings.py": "reads every setting, once",
    "streams/development/local_engine.py": "hands its own environment on to what it starts, and reads nothing of it",
}
# Where a gateway may be named beside its own folder, and why. Papers, tests and what starts the peers may name any.
GATEWAY_NAMERS = {
    "gateway_adapters/registry.py": "lists them",
    ".importlinter": "holds them apart",
    "pyproject.toml": "lists what must be installed for some of them",
    "Makefile": "locks it",
    "streams/development/": "starts the engine with one that moves no money",
    "bench/": "measures with one that answers at once",
    "http_ingress/description/assets/swagger-ui": "is another project's, whose style sheet has stripes",
}
# Commands of the components are the services of compose; these services are other people's images.
FOREIGN_SERVICES = {"kafka"}
PAPERS = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
README_MAX_LINES = 200


def read(name: str) -> str:
    return (ROOT / name).read_text()


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")


def known_commands() -> set[str]:
    """Every command and sub-command, as `dlq` and `dlq list`."""
    found = set()
    for name, command in get_command(build()).commands.items():  # type: ignore[attr-defined]  # the app is a group
        found.add(name)
        found |= {f"{name} {sub}" for sub in getattr(command, "commands", {})}
    return found


def test_imports_keep_every_contract_when_they_are_linted() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=LINT_LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 broken" in done.stdout


def test_environment_is_read_by_the_settings_alone_when_the_sources_are_searched() -> None:
    touching = {
        str(path.relative_to(ROOT))
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "putenv"})
        or (isinstance(node, ast.alias) and node.name in {"environ", "environb", "getenv", "putenv"})
    }
    assert touching == set(ENVIRONMENT_READERS)


def shipped_files() -> Iterator[Path]:
    """Every file that runs, is built from or is configured with: what a new gateway should not have to touch."""
    for package in PACKAGES:
        yield from (path for path in (ROOT / package).rglob("*") if path.suffix not in {"", ".pyc"} and path.is_file())
    yield from (ROOT / name for name in ("Makefile", "Dockerfile", "pyproject.toml", ".importlinter", ".ci/run"))


class _WithoutPapers(ast.NodeTransformer):
    """Leaves out docstrings: like comments, they may cite a gateway's page as the source of a limit."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | ast.Pass:
        return ast.Pass() if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


def what_runs(path: Path) -> str:
    text = path.read_text(errors="replace")
    return ast.unparse(_WithoutPapers().visit(ast.parse(text))) if path.suffix == ".py" else text


def test_gateways_are_named_in_their_own_folders_and_the_registry_alone_when_the_sources_are_searched() -> None:
    named = re.compile(rf"(?<![a-z])(?:{'|'.join(spec.name for spec in SPECS)})(?![a-z])", flags=re.IGNORECASE)
    own = tuple(f"gateway_adapters/{spec.name}/" for spec in SPECS)
    where = [str(path.relative_to(ROOT)) for path in shipped_files() if named.search(what_runs(path))]
    assert {"gateway_adapters/registry.py", ".importlinter"} <= set(where)
    assert [path for path in where if not path.startswith((*own, *GATEWAY_NAMERS))] == []


def test_every_gateways_folder_is_listed_when_it_has_a_spec() -> None:
    folders = {path.parent.name for path in (ROOT / "gateway_adapters").glob("*/__init__.py")}
    assert folders == {spec.name for spec in SPECS}


# A page's sections move, so their names are cited. The numbers of Faust's faults stand in `FENCES` alone.
_NUMBER_OF_A_PAGE = re.compile(r"\b(?:DESIGN|FAUST|DECISIONS)(?:\.md)?[,:]?\s+(?:§|sections?|points?|items?)?\s*\d")
_NAME_OF_A_PART = re.compile(r"(?:DESIGN|FAUST)\.md, (?:['\"])([^'\"]+)['\"](?: and '([^']+)')?")


def comments_of_all() -> Iterator[tuple[str, str]]:
    """Yield each module, tests included, with its text in one line, as a sentence that is broken over lines reads."""
    for path in (*sources(), *(ROOT / "tests").rglob("*.py")):
        yield str(path.relative_to(ROOT)), re.sub(r"\s*\n\s*#?\s*", " ", path.read_text())


@pytest.mark.parametrize(
    "cited", ["DESIGN.md section 7", "DESIGN.md 7", "DESIGN sections 7 and 8", "FAUST.md, 2", "FAUST 2"]
)
def test_a_number_of_a_page_is_found(cited: str) -> None:
    assert _NUMBER_OF_A_PAGE.search(f"as {cited} has it")


def test_comments_cite_the_pages_by_name_and_never_by_number() -> None:
    own = str(Path(__file__).relative_to(ROOT))
    assert [name for name, text in comments_of_all() if name != own and _NUMBER_OF_A_PAGE.search(text)] == []


def test_parts_of_the_pages_that_comments_cite_are_there() -> None:
    known = re.findall(r"^## (.+)$", read("docs/DESIGN.md") + read("docs/FAUST.md"), flags=re.MULTILINE)
    cited = {part for _, text in comments_of_all() for match in _NAME_OF_A_PART.findall(text) for part in match if part}
    assert len(cited) >= 5
    assert [part for part in cited if not any(heading.startswith(part) for heading in known)] == []


def test_modules_stay_small_enough_to_be_read_when_they_are_measured() -> None:
    assert [str(path) for path in sources() if path.stat().st_size > MAX_MODULE_BYTES] == []


def test_modules_say_what_they_are_for_when_their_docstrings_are_read() -> None:
    assert [str(path) for path in sources() if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_compose_runs_only_commands_that_exist_when_it_is_read() -> None:
    services = yaml.safe_load(read("docker-compose.yml"))["services"]
    ours = {name: service for name, service in services.items() if name not in FOREIGN_SERVICES}
    top_level = {command for command in known_commands() if " " not in command}
    assert set(ours) <= top_level
    for name, service in ours.items():
        words = service["command"]
        assert words[0] == name
        assert words[0] in known_commands()
        if words[0] == "topics":
            assert " ".join(words[:2]) in known_commands()


def test_compose_names_only_services_and_volumes_that_it_has_when_it_is_read() -> None:
    compose = yaml.safe_load(read("docker-compose.yml"))
    services = compose["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        named = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert named <= set(compose["volumes"])
    assert services["topics"]["depends_on"]["kafka"]["condition"] == "service_healthy"
    assert {name for name in services if "topics" in services[name].get("depends_on", {})} >= {
        "orders", "claims", "executor", "ingress",
    }  # fmt: skip


def test_compose_keeps_what_must_last_on_volumes_that_their_user_may_write() -> None:
    """Docker gives a volume to root, unless the image has the folder that it is put on: then to that folder's owner."""
    services = yaml.safe_load(read("docker-compose.yml"))["services"]
    (kafka_volume,) = services["kafka"]["volumes"]
    assert services["kafka"]["environment"]["KAFKA_LOG_DIRS"] == kafka_volume.partition(":")[2]
    ours = [
        volume for name, each in services.items() if name not in FOREIGN_SERVICES for volume in each.get("volumes", ())
    ]
    assert ours
    for volume in ours:
        assert f"install --directory --owner engine {volume.partition(':')[2]}" in read("Dockerfile")


@pytest.mark.parametrize("component", COMPONENTS.values(), ids=COMPONENTS)
def test_compose_asks_each_component_on_its_health_port_and_publishes_none(component: Component) -> None:
    service = yaml.safe_load(read("docker-compose.yml"))["services"][component.name]
    asked = " ".join(service["healthcheck"]["test"])
    assert f"http://127.0.0.1:{component.health_port}/readyz" in asked
    for published in service.get("ports", ()):
        address, _, inner = published.rpartition(":")
        assert address.startswith("127.0.0.1:")
        assert inner == str(component.http_port)


async def test_compose_finds_a_component_healthy_once_it_is_ready() -> None:
    """The words of Compose, run here: an image without curl asks by Python."""
    faults: list[str] = []
    server = HealthServer(host="127.0.0.1", port=0, faults=lambda: tuple(faults))
    port = await server.start()
    service = yaml.safe_load(read("docker-compose.yml"))["services"]["orders"]
    _, python, *words = service["healthcheck"]["test"]
    assert python == "python"

    async def asked() -> int:
        own = [word.replace(str(ORDERS.health_port), str(port)) for word in words]
        process = await asyncio.create_subprocess_exec(sys.executable, *own, stderr=asyncio.subprocess.DEVNULL)
        return await asyncio.wait_for(process.wait(), HEALTH_LIMIT_S)

    async def healthy() -> bool:
        return await asked() == 0

    try:
        await until_async(healthy, timeout_s=HEALTH_LIMIT_S)  # Compose asks again too: one slow start is no verdict
        faults.append("recovering")
        assert await asked() == 1
    finally:
        await server.stop()


def test_compose_runs_every_component_that_make_run_starts() -> None:
    services = set(yaml.safe_load(read("docker-compose.yml"))["services"])
    assert services >= {"orders", "claims", "executor", "ingress", "mock-gateway", "topics"}


def test_compose_publishes_on_loopback_alone_where_it_lets_anybody_act_for_any_origin() -> None:
    services = yaml.safe_load(read("docker-compose.yml"))["services"]
    open_to_all = [each for each in services.values() if "PAYMENT_ENGINE_HTTP_DEV" in each.get("environment", {})]
    assert len(open_to_all) == 1
    assert open_to_all[0]["environment"]["PAYMENT_ENGINE_HTTP_DEV_OFF_LOOPBACK"] == "true"
    published = [port for each in services.values() for port in each.get("ports", [])]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("paper", ["Makefile", "docker-compose.yml", "Dockerfile", ".ci/run", *PAPERS])
def test_paper_names_only_settings_that_exist_when_it_is_read(paper: str) -> None:
    known = {name for name, _ in variables()} | {REQUIRE_VARIABLE}
    named = set(re.findall(r"PAYMENT_ENGINE_[A-Z0-9_]*[A-Z0-9]", read(paper)))
    assert named <= known


def test_compose_sets_no_variable_of_ours_beside_the_settings_when_it_is_read() -> None:
    known = {name for name, _ in variables()}
    services = yaml.safe_load(read("docker-compose.yml"))["services"]
    for name, service in services.items():
        if name not in FOREIGN_SERVICES:
            assert set(service["environment"]) <= known


@pytest.mark.parametrize("paper", PAPERS)
def test_paper_names_only_commands_that_exist_when_it_is_read(paper: str) -> None:
    known = known_commands()
    text = read(paper)
    for code in re.findall(r"`payment-engine ([^`\n]+)`", text) + re.findall(
        r"^payment-engine ([^#\n]+)", text, flags=re.MULTILINE
    ):
        for command in _commands_in(code):
            assert command in known, f"{paper}: payment-engine {code}"


def _commands_in(code: str) -> Iterator[str]:
    """`dlq list | show` names two commands, `doctor --probe` one, `<component>` none."""
    words = code.replace("\\|", "|").split()
    if words[0].startswith("<"):
        return
    if f"{words[0]} " not in {command.partition(" ")[0] + " " for command in known_commands() if " " in command}:
        yield words[0]
        return
    subs = " ".join(words[1:]).partition(" -")[0].split("|")
    for sub in subs:
        if sub.strip():
            yield f"{words[0]} {sub.split()[0]}"


def test_wheel_holds_every_file_that_the_packages_read() -> None:
    given = tomllib.loads(read("pyproject.toml"))["tool"]["setuptools"]["package-data"]
    held = {
        path
        for package, patterns in given.items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    beside = {
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert beside == {path for path in held if path.is_file()}
    assert ROOT / "http_ingress" / "description" / "assets" / "swagger-ui-bundle.js" in held


def test_makefile_calls_only_commands_that_exist_when_it_is_read() -> None:
    for command in re.findall(r"payment-engine ([a-z-]+)", read("Makefile")):
        assert command in known_commands()


def test_readme_is_read_once_when_its_lines_are_counted() -> None:
    assert len(read("README.md").splitlines()) <= README_MAX_LINES


def test_links_between_papers_lead_somewhere_when_they_are_followed() -> None:
    for paper in PAPERS:
        folder = (ROOT / paper).parent
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", read(paper)):
            assert (folder / target).exists(), f"{paper}: {target}"


def test_readme_lists_every_page_of_the_docs_when_it_is_read() -> None:
    listed = set(re.findall(r"\]\((docs/[^)#]+)\)", read("README.md")))
    assert listed == set(PAPERS) - {"README.md"}


def test_papers_name_only_make_targets_that_exist_when_they_are_read() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), flags=re.MULTILINE))
    named = {
        target for paper in PAPERS for target in re.findall(r"(?:`|^)make ([a-z-]+)", read(paper), flags=re.MULTILINE)
    }
    assert named <= targets
    assert named >= {"run", "test", "demo", "faults", "figures", "bench"}


def test_docs_table_of_routes_is_the_described_one_when_both_are_read() -> None:
    described = json.loads(openapi.document(version="test", dev=True))["paths"]
    operations = {
        (method.upper(), re.sub(r"\{[^}]*\}", "{}", path)) for path, methods in described.items() for method in methods
    } - {("GET", "/healthz"), ("GET", "/readyz")}
    table = read("docs/http.md").partition("`Prefer: wait=N`")[0]
    named = {
        (method, re.sub(r"\{[^}]*\}", "{}", path)) for method, path in re.findall(r"`(GET|POST) ([^`?]+)[^`]*`", table)
    } - {("GET", "/docs"), ("GET", "/openapi.json")}
    assert named == operations


def test_docs_name_every_page_of_the_service_when_it_is_read() -> None:
    table = read("docs/http.md").partition("`Prefer: wait=N`")[0]
    named = set(re.findall(r"`(/[a-z.]+)`", table))
    assert named == {"/healthz", "/readyz", "/openapi.json", "/docs", "/asyncapi.json"}
    served = Path(ingress_app.__file__).read_text() + Path(pages.__file__).read_text()
    assert all(page in served for page in named)


LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "bind"}


def logged_fields() -> Iterator[tuple[str, str]]:
    """Yield each field that our own code names in a call of its log, and where."""
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in LOG_METHODS and ast.unparse(node.func.value) in {"log", "_log"}:
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                yield from ((keyword.arg, where) for keyword in node.keywords if keyword.arg is not None)


def test_every_field_that_is_logged_is_shown() -> None:
    """A field that nobody allowed comes out as `[redacted]`: who is on call sees that a table regressed, not which."""
    logged = list(logged_fields())
    assert len(logged) > 50
    assert [each for each in logged if each[0] not in ALLOWED_FIELDS | {"exc_info"}] == []
