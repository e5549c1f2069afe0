"""Debian's docker-registry on loopback, with a password or without."""

from __future__ import annotations

import json
import re
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

USERNAME = "me"
PASSWORD = "hunter2-of-the-registry"


def certify(folder: Path) -> Path:
    """Makes a certificate for this machine, `host.pem` with `host.key`, by an authority that nobody knows."""
    authority, host = folder / "authority.pem", folder / "host.pem"
    signed_by = ["-CA", str(authority), "-CAkey", str(folder / "authority.key")]
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext", "basicConstraints=CA:FALSE"]
    for certificate, more in (
        (authority, ["-subj", "/CN=authority"]),
        (host, ["-subj", "/CN=host", *names, *signed_by]),
    ):
        key = str(certificate.with_suffix(".key"))
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *more]
        subprocess.run([*command, "-keyout", key, "-out", str(certificate)], check=True, capture_output=True)
    return authority


class DockerRegistry:
    """A real registry. Its content is below `folder`; `host` is what image names begin with."""

    def __init__(
        self, folder: Path, password: str | None = PASSWORD, username: str = USERNAME, tls: bool = False
    ) -> None:
        folder.mkdir(parents=True)
        self.password = password
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
            "http": {"addr": "127.0.0.1:0", "secret": "of no use to anybody"},
        }
        if tls:
            self.authority = certify(folder)
            tls_files = {"certificate": str(folder / "host.pem"), "key": str(folder / "host.key")}
            config["http"] = {"addr": "127.0.0.1:0", "secret": "of no use to anybody", "tls": tls_files}
        if password is not None:
            command = ["htpasswd", "-Bbn", username, password]
            entry = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            (folder / "htpasswd").write_text(entry)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
        # JSON is YAML.
        (folder / "config.yml").write_text(json.dumps(config))
        self._log = folder / "log"
        with self._log.open("w") as log:
            arguments = ["docker-registry", "serve", str(folder / "config.yml")]
            self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.host = f"127.0.0.1:{self._port()}"

    def _port(self, seconds: float = 20) -> int:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := re.search(r"listening on 127\.0\.0\.1:(\d+)", self._log.read_text()):
                return int(found.group(1))
            assert self._process.poll() is None, self._log.read_text()
            time.sleep(0.02)
        raise AssertionError(self._log.read_text())

    def log(self) -> str:
        """What it was asked, one line a request."""
        return self._log.read_text()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
