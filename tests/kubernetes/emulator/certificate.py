"""A certificate of its own for a server on the loopback interface, made anew each time with the openssl program.

Owns the files and removes them. No key is kept anywhere.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Certificate:
    folder: Path
    file: Path  # what a client has to trust
    context: ssl.SSLContext  # what the server speaks with

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def make() -> Certificate:
    """A self-signed certificate for 127.0.0.1 and localhost, good for a day."""
    folder = Path(tempfile.mkdtemp(prefix="fe-emulator-"))
    key, file = folder / "key.pem", folder / "ca.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(file), "-days", "1", "-subj", "/CN=emulator"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file, key)
    return Certificate(folder, file, context)
