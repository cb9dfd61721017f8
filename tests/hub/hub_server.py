"""A small hub on 127.0.0.1: model info and file contents as huggingface.co answers them, and its ways to fail.

Run as a program of its own: `python hub_server.py FOLDER`. FOLDER/repositories/ORG/NAME/... are the files; FOLDER/
faults.json says per repository what goes wrong and is read anew for each request; FOLDER/requests.jsonl logs requests.
The two ports are printed: the hub, and the content network that it redirects to.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LFS_ENDINGS = (".gguf", ".safetensors")
ROOT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
CONTENT_PORT: list[int] = []
BROKEN: set[str] = set()
LOCK = threading.Lock()


def digest(name: str, content: bytes) -> str:
    if name.endswith(LFS_ENDINGS):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        with LOCK, (ROOT / "requests.jsonl").open("a") as log:
            names = ("range", "authorization", "user-agent")
            seen = {name: self.headers[name] for name in names if self.headers[name]}
            log.write(json.dumps({"path": path, "port": self.server.server_address[1], **seen}) + "\n")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.info("/".join(parts[2:4]))
        elif len(parts) > 4 and parts[2] == "resolve":
            self.file("/".join(parts[:2]), "/".join(parts[4:]))
        else:
            self.refuse(404, "")

    def faults(self, repository: str) -> dict:
        path = ROOT / "faults.json"
        return (json.loads(path.read_text()) if path.exists() else {}).get(repository, {})

    def is_allowed(self, repository: str, faults: dict) -> bool:
        if "wait_s" in faults:
            time.sleep(faults["wait_s"])
        if "status" in faults:
            self.refuse(faults["status"], faults.get("code", ""))
        elif faults.get("token") and self.headers["authorization"] != f"Bearer {faults['token']}":
            self.refuse(401, "RepoNotFound")
        elif not (ROOT / "repositories" / repository).is_dir():
            self.refuse(401 if not self.headers["authorization"] else 404, "RepoNotFound")
        else:
            return True
        return False

    def info(self, repository: str) -> None:
        faults = self.faults(repository)
        if not self.is_allowed(repository, faults):
            return
        folder = ROOT / "repositories" / repository
        siblings = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name, content = str(path.relative_to(folder)), path.read_bytes()
            size = faults.get("sizes", {}).get(name, len(content))
            entry = {"rfilename": name, "size": size, "blobId": hashlib.sha1(content).hexdigest()}
            if name.endswith(LFS_ENDINGS):
                entry["lfs"] = {"sha256": digest(name, content), "size": size, "pointerSize": 134}
            else:
                entry["blobId"] = digest(name, content)
            siblings.append(entry)
        body = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
        self.answer(200, body, {"Content-Type": "application/json"})

    def file(self, repository: str, name: str) -> None:
        faults = self.faults(repository)
        is_content = self.server.server_address[1] == CONTENT_PORT[0]
        if not is_content and not self.is_allowed(repository, faults):
            return
        path = ROOT / "repositories" / repository / name
        if not path.is_file():
            self.refuse(404, "EntryNotFound")
            return
        content = path.read_bytes()
        headers = {"ETag": f'"{digest(name, content)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if name.endswith(LFS_ENDINGS) and not is_content:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(content))}
            self.answer(302, b"", headers | {"Location": f"http://127.0.0.1:{CONTENT_PORT[0]}{self.path}"})
            return
        if name in faults.get("wrong", ()):
            content = bytes(byte ^ 1 for byte in content)
        self.send_content(name, content, headers, faults)

    def send_content(self, name: str, content: bytes, headers: dict[str, str], faults: dict) -> None:
        status, begin, end = 200, 0, len(content)
        wanted = self.headers["range"]
        if wanted and not faults.get("ignores_ranges"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last or end), end - 1) + 1
            status = 206
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
        self.answer(status, None, headers | {"Content-Length": str(end - begin)})
        stop = faults.get("break_at", {}).get(name)
        is_broken = stop is not None and begin < stop < end and (faults.get("breaks_always") or name not in BROKEN)
        piece_bytes = faults.get("piece_bytes", 1 << 20)
        while begin < (stop if is_broken else end):
            piece = content[begin : min(begin + piece_bytes, stop if is_broken else end)]
            self.wfile.write(piece)
            self.wfile.flush()
            begin += len(piece)
            time.sleep(faults.get("piece_wait_s", 0))
        if is_broken:
            BROKEN.add(name)
            self.close_connection = True

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, b'{"error":"refused"}', {"X-Error-Code": code} if code else {})

    def answer(self, status: int, body: bytes | None, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body is not None:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    hub, content = (ThreadingHTTPServer(("127.0.0.1", 0), Hub) for _ in range(2))
    CONTENT_PORT.append(content.server_address[1])
    threading.Thread(target=content.serve_forever, daemon=True).start()
    print(json.dumps([hub.server_address[1], content.server_address[1]]), flush=True)
    hub.serve_forever()


if __name__ == "__main__":
    main()
