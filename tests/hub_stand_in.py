"""A server on this machine that gives the files of repositories as the Hugging Face hub does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving(kept: Mapping[str, Mapping[str, bytes]]) -> Iterator[str]:
    """The server's address, for `HF_ENDPOINT`, while it gives files by `OWNER/NAME` and name."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = self.path.partition("?")[0].strip("/").split("/")
            if parts[:1] == ["datasets"]:
                parts = parts[1:]
            if parts[0] == "api":
                self._tell("/".join(parts[2:4]), parts)
            else:
                self._give("/".join(parts[:2]), "/".join(parts[4:]))

        def _tell(self, name: str, parts: list[str]) -> None:
            if name not in kept:
                return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            if "revision" in parts and parts[-1] not in ("main", "v1", COMMIT):
                return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            if "tree" in parts:
                files = [{"type": "file", "path": f, "size": len(c), "oid": "0" * 40} for f, c in kept[name].items()]
                return self._send(200, json.dumps(files).encode(), {})
            siblings = [{"rfilename": file} for file in kept[name]]
            return self._send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode(), {})

        def _give(self, name: str, file: str) -> None:
            if file not in kept.get(name, {}):
                return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return self._send(200, kept[name][file], {"X-Repo-Commit": COMMIT, "ETag": f'"{hash(file):x}"'})

        def _send(self, code: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(code)
            for key, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
