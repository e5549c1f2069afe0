"""Stands in for the program `longshore` where the tests are about the package's side of the contract.

Records its arguments and the spec beside itself, then does what the spec says without images: one process per step.
The environment variable STAND_IN can ask for a failure instead.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    beside = Path(sys.argv[0]).parent
    wish = os.environ.get("STAND_IN", "run")
    if wish == "deaf":
        return 7
    text = sys.stdin.read()
    (beside / "arguments.json").write_text(json.dumps(sys.argv[1:]))
    (beside / "spec.json").write_text(text)
    if wish.startswith("exit "):
        return int(wish[5:])
    if wish == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if wish == "wait":
        return wait_for_interrupt(beside)
    spec = json.loads(text)
    store = beside / "artifacts"
    outputs = {}
    for step in spec["steps"]:
        places = {name: {"uri": (store / step["name"] / name).as_uri()} for name in step["outputs"]}
        document = {
            "name": step["name"],
            "source": step["source"],
            "inputs": {name: outputs[source["step"]][source["output"]] for name, source in step["inputs"].items()},
            "parameters": step["parameters"],
            "outputs": places,
        }
        path = beside / "step.json"
        path.write_text(json.dumps({"version": 2, "run_id": "r-1", "steps": [document]}))
        done = subprocess.run(
            [spec["python"]["executable"], "-m", "longshore.entrypoint"],
            cwd=spec["source_root"],
            env={**os.environ, "LONGSHORE_STEP": str(path)},
            check=False,
        )
        if done.returncode != 0:
            return 1
        outputs[step["name"]] = places
    result = {"version": 2, "run_id": "r-1", "status": "succeeded", "image": None, "outputs": outputs}
    if wish == "old":
        result["version"] = 0
    if wish != "mute":
        Path(sys.argv[sys.argv.index("--result") + 1]).write_text(json.dumps(result))
    return 0


def wait_for_interrupt(beside: Path) -> int:
    try:
        (beside / "ready").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        # Cleaning up takes a while; the package has to wait for it.
        time.sleep(0.5)
        (beside / "cleaned").touch()
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
