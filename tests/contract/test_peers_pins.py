"""The peers' pins: what was kept is what the vendors wrote, and a lock names hashes, and no host."""

import hashlib
import json
import subprocess
from pathlib import Path

from tests import peers
from tests.support.peers import or_skip

PINS = Path(peers.__file__).parent
ADYEN_SHA256 = "98d201b340f62c73a2f2ce26c58eb3b81c2ee47ecf31c3178eb8501467c2cfb4"
LIMIT_S = 60.0


def test_adyens_document_is_the_vendors_own() -> None:
    assert hashlib.sha256(peers.ADYEN_DOCUMENT.read_bytes()).hexdigest() == ADYEN_SHA256


def test_paypals_document_is_what_the_script_makes_of_the_vendors_package() -> None:
    with or_skip():
        argv = [peers.node(), str(PINS / "vendor_specs.mjs"), str(peers.paypal_documents())]
    made = subprocess.run(argv, capture_output=True, timeout=LIMIT_S, check=True)
    assert made.stdout == peers.PAYPAL_DOCUMENT.read_bytes()
    assert b"6 patterns dropped" in made.stderr


def test_the_lock_of_npm_names_a_hash_of_each_package_and_no_host() -> None:
    lock = json.loads((PINS / "package-lock.json").read_text())
    fetched = {name: package for name, package in lock["packages"].items() if name}
    assert len(fetched) > len(lock["packages"][""]["dependencies"])
    assert [name for name, package in fetched.items() if not package.get("integrity", "").startswith("sha512-")] == []
    assert [name for name, package in fetched.items() if "resolved" in package] == []
