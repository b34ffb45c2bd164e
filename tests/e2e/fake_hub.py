"""A hub on this machine: repositories from directories, served as huggingface.co serves them.

Large files lie behind a redirect to another origin, as on its CDN. It can be busy, cut a file off, damage it, or
stop in the middle of it.
"""

import hashlib
import http.server
import json
import pathlib
import threading
import urllib.parse

COMMIT = "c" * 40


class FakeHub:
    """repos: "ORG/NAME" -> {path in the repository: bytes}."""

    def __init__(self):
        self.repos: dict[str, dict[str, bytes]] = {}
        self.token = ""  # needed for everything; empty: public
        self.gated: set[str] = set()  # repositories that nobody may read
        self.cut_off_once = 0  # of the next large file, only that many bytes are sent
        self.busy = 0  # that many requests are answered with 429
        self.damaged = 0  # that many large files arrive with a wrong byte
        self.hold_after = 0  # of every large file only that many bytes are sent until `released`
        self.released = threading.Event()
        self.requests: list[str] = []
        self.ranges: list[str] = []  # asked for, of large files
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.answer(self, True)

            def do_HEAD(self):
                hub.answer(self, False)

            def log_message(self, *args):
                pass

        self.servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
        for server in self.servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        self.endpoint, self.cdn = (f"http://127.0.0.1:{s.server_address[1]}" for s in self.servers)

    def close(self) -> None:
        self.released.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def add_directory(self, repo: str, directory: pathlib.Path, prefix: str = "") -> None:
        files = self.repos.setdefault(repo, {})
        for path in directory.rglob("*"):
            if path.is_file():
                files[prefix + str(path.relative_to(directory))] = path.read_bytes()

    def answer(self, request, with_body: bool) -> None:
        url = urllib.parse.urlsplit(request.path)
        self.requests.append(f"{request.command} {url.path}")
        if self.busy > 0:
            self.busy -= 1
            return self.send(request, 429, {"Retry-After": "1", "Content-Length": "0"}, b"")
        parts = urllib.parse.unquote(url.path).strip("/").split("/")
        if parts[0] == "lfs":
            return self.send_content(request, self.blob(parts[1]), with_body)
        is_api = parts[:2] == ["api", "models"]
        org, name, *rest = parts[2:] if is_api else parts
        files = self.repos.get(f"{org}/{name}")
        if files is None or (self.token and request.headers.get("Authorization") != f"Bearer {self.token}"):
            return self.error(request, 401, "RepoNotFound")
        if f"{org}/{name}" in self.gated and not is_api:
            return self.error(request, 403, "GatedRepo")
        if is_api and rest[0] == "revision":
            return self.error(request, 404, "RevisionNotFound") if rest[1] not in ("main", COMMIT) else \
                self.send_json(request, {"id": f"{org}/{name}", "sha": COMMIT})
        if is_api:
            return self.send_json(request, [entry_of(path, content) for path, content in sorted(files.items())])
        content = files.get("/".join(rest[2:]))
        if content is None:
            return self.error(request, 404, "EntryNotFound")
        headers = {"X-Repo-Commit": COMMIT}
        if not is_large(content):
            return self.send_content(request, content, with_body, {**headers, "ETag": f'"{git_hash(content)}"'})
        digest = hashlib.sha256(content).hexdigest()
        headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content)),
                    "Location": f"{self.cdn}/lfs/{digest}", "Content-Length": "0"}
        self.send(request, 302, headers, b"")

    def blob(self, digest: str) -> bytes:
        for files in self.repos.values():
            for content in files.values():
                if hashlib.sha256(content).hexdigest() == digest:
                    return content
        return b""

    def send_content(self, request, content: bytes, with_body: bool, headers: dict | None = None) -> None:
        start = 0
        large = is_large(content) and with_body
        asked = request.headers.get("Range", "")
        if asked.startswith("bytes="):
            start = int(asked[len("bytes="):].split("-")[0])
        headers = {**(headers or {}), "Accept-Ranges": "bytes", "Content-Length": str(len(content) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:] if with_body else b""
        if large:
            self.ranges.append(asked)
        if large and self.cut_off_once:
            body, self.cut_off_once = body[:self.cut_off_once], 0
            request.close_connection = True
        if large and self.damaged > 0:
            self.damaged -= 1
            body = body[:-1] + bytes([body[-1] ^ 1])
        if large and self.hold_after and not self.released.is_set():
            self.send(request, 206 if start else 200, headers, body[:self.hold_after])
            self.released.wait(300)
            request.close_connection = True
            return
        self.send(request, 206 if start else 200, headers, body)

    def send_json(self, request, value) -> None:
        body = json.dumps(value).encode()
        self.send(request, 200, {"Content-Type": "application/json", "Content-Length": str(len(body))}, body)

    def error(self, request, status: int, code: str) -> None:
        self.send(request, status, {"X-Error-Code": code, "Content-Length": "0"}, b"")

    @staticmethod
    def send(request, status: int, headers: dict, body: bytes) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        try:
            request.wfile.write(body)
        except OSError:
            pass


def is_large(content: bytes) -> bool:
    return len(content) > 10_000


def git_hash(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def entry_of(path: str, content: bytes) -> dict:
    entry = {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
    if is_large(content):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry
