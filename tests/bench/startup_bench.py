"""Start-up time and memory of the server with the demo model, beside a bare process that loads LibTorch.

usage: startup_bench.py BUILD_DIR [ROUNDS]
"""

import pathlib
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from harness import DEMO, Server, temporary_directory


def resident_mib(pid: int) -> float:
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


def bare_start(bin_dir: pathlib.Path) -> float:
    """The dynamic loader's part: the server's own binary, which ends at its usage message."""
    begin = time.monotonic()
    subprocess.run([bin_dir / "server" / "featurescope-server"], capture_output=True, check=False)
    return time.monotonic() - begin


def main() -> None:
    bin_dir, rounds = pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    directory = pathlib.Path(temporary_directory())
    server = Server(bin_dir, str(directory / "data"))
    server.json("model", "add", "demo-lm", DEMO)
    server.terminate()
    starts, bare, first, idle, loaded = [], [], [], [], []
    for _ in range(rounds):
        bare.append(bare_start(bin_dir))
        begin = time.monotonic()
        server.start()
        starts.append(time.monotonic() - begin)
        idle.append(resident_mib(server.process.pid))
        begin = time.monotonic()
        server.json("generate", "--model", "demo-lm", "--prompt", "It was", "--max-tokens", 1)
        first.append(time.monotonic() - begin)
        loaded.append(resident_mib(server.process.pid))
        server.terminate()
    shutil.rmtree(directory)
    median = statistics.median
    print(f"start to serving {median(starts):.2f} s, of which the dynamic loader {median(bare):.2f} s")
    print(f"first token of a model not yet loaded {median(first):.2f} s")
    print(f"resident memory {median(idle):.0f} MiB idle, {median(loaded):.0f} MiB with the demo model")
    print(f"RATIO start / bare process = {median(starts) / median(bare):.2f}")


main()
