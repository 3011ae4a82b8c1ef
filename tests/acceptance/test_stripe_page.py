"""A newcomer sets Stripe up by its page alone: each command of the page is run, and prints what the page shows.

The peer is localstripe, which nobody here wrote, in place of Stripe; so steps 2 and 3, which happen in Stripe's
dashboard, are its address and secret. The rest is as a newcomer does it: `.env`, the engine for one person, `curl`.
"""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from streams.development.local_engine import free_port
from tests.support.peers import STRIPE_KEY, localstripe_or_skip

PAGE = Path(__file__).parents[2] / "docs" / "gateways" / "stripe.md"
SECRET = "whsec_of_the_page"
LIMIT_S = 60.0
TEST_LIMIT_S = 240.0
WALKED = ("curl -s -X POST", "curl -s localhost", "policy set", "policy explain")


def blocks(language: str) -> Iterator[str]:
    """Yield what stands between the fences of the page, as it would be typed."""
    for found in re.finditer(rf"^( *)```{language}\n(.*?)^\1```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL):
        yield dedent(found[2])


def commands() -> Iterator[tuple[str, str]]:
    """Yield each command of the page, and what it prints there."""
    for block in blocks("console"):
        for typed in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command = re.match(r"(?:.*\\\n)*.*\n?", typed)
            assert command is not None
            yield command[0].strip(), typed[command.end() :].strip()


def as_shown(text: str) -> re.Pattern[str]:
    """Match what the page shows, where an ellipsis stands for anything."""
    return re.compile(".*".join(re.escape(part.strip(" ")) for part in text.split("…")), flags=re.DOTALL)


@contextmanager
def started(env_file: Path, port: int) -> Iterator[Mapping[str, str]]:
    """Run the engine; yields what it has told: the addresses that the page shows, and those that stand for them."""
    argv = [sys.executable, "-m", "streams.cli", "--env-file", str(env_file), "dev", "--port", str(port)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            told = ""
            while "Ctrl-C" not in told:  # bounded by the test's time-out
                line = process.stdout.readline()
                assert line, f"ended before it was ready: {told}"
                told += line
            broker = re.search(r"BOOTSTRAP_SERVERS=(\S+)", told)
            metrics = re.search(r"ingress +http://(\S+)/metrics", told)
            assert broker is not None
            assert metrics is not None
            yield {
                "localhost:8080": f"localhost:{port}",
                "127.0.0.1:38149": broker[1],
                "localhost:21918": metrics[1],
                ".venv/bin/payment-engine --env-file .env": f"{sys.executable} -m streams.cli --env-file {env_file}",
            }
        finally:
            process.send_signal(signal.SIGTERM)


def printed_as_shown(script: str, shown: str) -> None:
    """Run it until it prints what the page shows: an event comes a moment later."""
    deadline_s = time.monotonic() + LIMIT_S
    while True:
        done = subprocess.run(["sh", "-c", script], check=False, capture_output=True, text=True, timeout=LIMIT_S)
        if as_shown(shown).match(done.stdout.strip()):
            return
        assert time.monotonic() < deadline_s, f"{script}\nprints {done.stdout}{done.stderr}\nand not {shown}"


@pytest.mark.slow
@pytest.mark.timeout(TEST_LIMIT_S)
def test_stripe_is_set_up_by_its_page_alone(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no `curl` on the PATH")
    peer, port = localstripe_or_skip(), free_port()
    peer.deliver_to(f"http://127.0.0.1:{port}/webhooks/stripe", SECRET)
    lines = "".join(blocks("sh")).replace("sk_test_…", STRIPE_KEY).replace("whsec_…", SECRET)
    env_file = tmp_path / ".env"
    env_file.write_text(f"{lines}PAYMENT_ENGINE_GATEWAY_STRIPE_URL={peer.url}\n")
    walked, exported = [], ""
    with started(env_file, port) as told:
        for command, shown in commands():
            for there, here in told.items():
                command = command.replace(there, here)  # noqa: PLW2901 -- the page's own addresses
            if command.startswith("export "):
                exported = f"{command}; "
            elif any(each in command for each in WALKED):
                printed_as_shown(exported + command, shown)
                walked.append(command)
    assert len(walked) == len(WALKED)
