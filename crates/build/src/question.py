import json, os, site, sys

ENVIRONMENT = "/opt/venv/lib/python%d.%d/site-packages" % sys.version_info[:2]
METADATA = {".dist-info": "METADATA", ".egg-info": "PKG-INFO"}
HEAD = 8192


def text(path, most=1 << 20):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(most)
    except OSError:
        return None


def installed(folder):
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        end = os.path.splitext(name)[1]
        if end in METADATA:
            is_file = os.path.isfile(path)
            metadata = text(path if is_file else os.path.join(path, METADATA[end]), HEAD)
            points = None if is_file else text(os.path.join(path, "entry_points.txt"))
            if metadata is not None:
                place = {"folder": folder.lstrip("/"), "entry": name}
                yield {**place, "metadata": metadata, "entry_points": points}


# Of an environment in the image, its base: what longshore makes is an environment of that too.
folders = [ENVIRONMENT, *site.getsitepackages([sys.base_prefix])]
libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
print(
    json.dumps(
        {
            "version": "%d.%d.%d" % sys.version_info[:3],
            "executable": os.path.realpath(sys.executable),
            "libc": libc,
            "folders": [folder.lstrip("/") for folder in folders],
            "installed": [each for folder in folders for each in installed(folder)],
        }
    )
)
