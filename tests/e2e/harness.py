"""A real server in a temporary directory, its command line, and a reader of safetensors files."""

import argparse
import array
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
DEMO = ROOT / "deploy" / "demo"


class Server:
    """featurescope-server on free ports; starts anew on the same data after a stop or a kill."""

    def __init__(self, bin_dir: pathlib.Path, data_dir: str, *flags: str, environment: dict | None = None):
        self.bin_dir, self.data_dir, self.flags = bin_dir, data_dir, flags
        # Downloads of tests stay with the test, and never ask a real hub.
        self.environment = {**plain_environment(), "HF_HOME": str(pathlib.Path(data_dir).parent / "hf"),
                            "HF_ENDPOINT": "http://127.0.0.1:9", **(environment or {})}
        self.log_path = pathlib.Path(data_dir).parent / "server.log"
        self.start()

    def start(self) -> None:
        self.log = open(self.log_path, "ab")
        begin = self.log_path.stat().st_size
        self.process = subprocess.Popen(
            [self.bin_dir / "server" / "featurescope-server", "--data_dir", self.data_dir, "--listen",
             "127.0.0.1:0", "--http", "127.0.0.1:0", *self.flags],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=self.environment)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            text = self.log_path.read_bytes()[begin:].decode(errors="replace")
            ports = re.search(r"gRPC on port (\d+), HTTP on port (\d+)", text)
            if ports:
                self.port, self.http_port = int(ports[1]), int(ports[2])
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"the server did not start:\n{text}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self, timeout: float = 300) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def run(self, *words: object, timeout: float = 900) -> subprocess.CompletedProcess:
        """The command line with these words; its output as text."""
        return subprocess.run(
            [self.bin_dir / "client" / "featurescope", "--server", f"127.0.0.1:{self.port}",
             *map(str, words)],
            capture_output=True, text=True, errors="replace", timeout=timeout, env=plain_environment())

    def json(self, *words: object, timeout: float = 900):
        """The JSON that a command prints: one value, or a list where it prints several lines."""
        done = self.run(*words, "--json", timeout=timeout)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        values = [json.loads(line) for line in done.stdout.splitlines()]
        return values[0] if len(values) == 1 else values

    def spawn(self, *words: object) -> subprocess.Popen:
        return subprocess.Popen(
            [self.bin_dir / "client" / "featurescope", "--server", f"127.0.0.1:{self.port}",
             *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=plain_environment())


class ServerTest(unittest.TestCase):
    """One server for all tests of a class."""

    bin_dir = pathlib.Path()  # set by the program
    flags: tuple = ()
    environment: dict = {}

    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(temporary_directory())
        cls.server = Server(cls.bin_dir, str(cls.dir / "data"), *cls.flags, environment=cls.environment)

    @classmethod
    def tearDownClass(cls):
        if cls.server.process.poll() is None:
            cls.server.kill()
        shutil.rmtree(cls.dir)

    def ok(self, *words, **options):
        done = self.server.run(*words, **options)
        self.assertEqual(done.returncode, 0, f"{words}: {done.stderr}")
        return done.stdout

    def refused(self, *words, saying: str):
        done = self.server.run(*words)
        self.assertNotEqual(done.returncode, 0, f"{words} was accepted: {done.stdout}")
        self.assertIn(saying, done.stderr)
        return done

    def assert_serving(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.http_port}/healthz") as answer:
            self.assertEqual(answer.status, 200)
        self.ok("model", "list")


def run_tests(module) -> None:
    """The program of a test file: --bin BUILD_DIR [-k PATTERN]...; ends with a line of counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("-k", action="append")
    args = parser.parse_args()
    ServerTest.bin_dir = pathlib.Path(args.bin).resolve()
    loader = unittest.TestLoader()
    if args.k:
        loader.testNamePatterns = [f"*{pattern}*" for pattern in args.k]
    result = unittest.TextTestRunner(verbosity=2).run(loader.loadTestsFromModule(module))
    # Of a test's subtests several may fail, and it is one test.
    failed = len({getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors})
    print(f"{max(result.testsRun - failed - len(result.skipped), 0)} passed, {failed} failed, {len(result.skipped)} skipped")
    sys.exit(1 if failed else 0)


def demo_corpus(directory: pathlib.Path, n_documents: int) -> pathlib.Path:
    path = directory / f"corpus-{n_documents}.jsonl"
    with open(DEMO / "corpus.jsonl", encoding="utf-8") as lines:
        path.write_text("".join(line for _, line in zip(range(n_documents), lines)), encoding="utf-8")
    return path


def plain_environment() -> dict:
    left_out = ("FEATURESCOPE_SERVER", "HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE")
    return {k: v for k, v in os.environ.items() if k not in left_out}


def wait_for(condition, timeout: float = 600, what: str = "condition") -> None:
    """Polls until `condition` gives something true."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come true in {timeout} s")


def read_safetensors(path) -> dict:
    """name -> (shape, flat list of numbers); F32, I64 and I32 only."""
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        code = {"F32": "f", "I64": "q", "I32": "i"}[entry["dtype"]]
        values = array.array(code, data[8 + length + begin:8 + length + end])
        tensors[name] = (entry["shape"], values)
    return tensors


def write_safetensors(path, tensors: dict) -> None:
    """The reverse, from name -> (shape, list of floats); all F32."""
    header, body = {}, b""
    for name, (shape, values) in tensors.items():
        piece = array.array("f", values).tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(piece)]}
        body += piece
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + body)


def max_difference(a, b) -> float:
    assert len(a) == len(b), f"{len(a)} values, expected {len(b)}"
    return max((abs(x - y) for x, y in zip(a, b)), default=0.0)


def temporary_directory() -> str:
    return tempfile.mkdtemp(prefix="featurescope-test-")
