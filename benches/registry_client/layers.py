"""An image of incompressible layers, as an OCI image layout."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import sys
import tarfile
from pathlib import Path

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def make(folder: Path, layers: int, size: int) -> Path:
    """Writes the layout and returns its folder."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    diff_ids, descriptors = [], []
    for number in range(layers):
        layer = _layer(number, size)
        diff_ids.append(f"sha256:{hashlib.sha256(layer).hexdigest()}")
        # Clients that find uncompressed layers compress them; these are, and are no smaller for it.
        packed = gzip.compress(layer, compresslevel=1, mtime=0)
        descriptors.append(_keep(blobs, "application/vnd.oci.image.layer.v1.tar+gzip", packed))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _keep(blobs, "application/vnd.oci.image.config.v1+json", json.dumps(config).encode()),
        "layers": descriptors,
    }
    root = _keep(blobs, _MANIFEST, json.dumps(manifest).encode())
    root["platform"] = {"architecture": "amd64", "os": "linux"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [root]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return folder


def _layer(number: int, size: int) -> bytes:
    content = random.Random(number).randbytes(size)
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo(f"layer-{number}.bin")
        member.size = size
        archive.addfile(member, io.BytesIO(content))
    return output.getvalue()


def _keep(blobs: Path, media_type: str, content: bytes) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
