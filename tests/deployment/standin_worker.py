"""A small scoring worker for tests: accepts on the inherited socket, follows endpoint.json, tells its status.

Answers every request with the name of the deployment picked by the CRC-32 of the header x-request-id, as the real one
does; a path that holds ``slow`` takes half a second. An artifact that holds a file ``refuses`` cannot be loaded; one
with ``crashes`` ends the process, and one with ``never`` is never loaded to the end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
import zlib
from pathlib import Path


class StandIn:
    def __init__(self, folder: Path, index: int) -> None:
        self.folder, self.index = folder, index
        self.started, self.seen = time.time(), 0
        self.revision, self.table, self.error, self.requests, self.ends = 0, [], "", 0, False
        self.lock = threading.Lock()

    def follow(self) -> bool:
        """Whether the state was replaced."""
        file = self.folder / "endpoint.json"
        stamp = file.stat().st_mtime_ns
        if stamp == self.seen:
            return False
        self.seen = stamp
        state = json.loads(file.read_text())
        for deployment in state["deployments"]:
            model = Path(deployment["folder"])
            if (model / "crashes").exists():
                print("cannot go on", file=sys.stderr, flush=True)
                os._exit(3)
            if (model / "never").exists():
                return False
            if not (model / "manifest.json").exists() or (model / "refuses").exists():
                self.error = f"{deployment['name']} refuses to be loaded"
                return True
        self.table = [each["name"] for each in state["deployments"] for _ in range(each["traffic"])]
        self.revision, self.error = state["revision"], ""
        return True

    def tell(self) -> None:
        names = ("index", "revision", "error", "requests", "started")
        status = {name: getattr(self, name) for name in names}
        status |= {"pid": os.getpid(), "ready": bool(self.table), "updated": time.time()}
        file = self.folder / "workers" / f"{self.index}.json"
        aside = file.with_name(f".{file.name}.new")
        aside.write_text(json.dumps(status))
        aside.replace(file)

    def answer(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            head = b""
            while b"\r\n\r\n" not in head:
                got = connection.recv(65536)
                if not got:
                    return
                head += got
            lines = head.split(b"\r\n")
            if b"slow" in lines[0]:
                time.sleep(0.5)
            ids = [line.partition(b": ")[2] for line in lines if line.startswith(b"x-request-id")]
            name = self.table[zlib.crc32(ids[0] if ids else b"") % 100] if self.table else "none"
            body = json.dumps({"deployment": name, "pid": os.getpid()}).encode()
            top = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            connection.sendall(top + body)
            with self.lock:
                self.requests += 1

    def run(self, listening: socket.socket) -> None:
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "ends", True))
        parent, told, threads = os.getppid(), 0.0, []
        listening.settimeout(0.05)
        print("stand-in says hello", flush=True)
        while not self.ends and os.getppid() == parent:
            if self.follow() or time.time() - told > 0.3:
                self.tell()
                told = time.time()
            try:
                connection, _ = listening.accept()
            except (TimeoutError, BlockingIOError):
                continue
            thread = threading.Thread(target=self.answer, args=(connection,))
            thread.start()
            threads = [each for each in (*threads, thread) if each.is_alive()]
        listening.close()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fd", type=int)
    parser.add_argument("--worker", type=int)
    given = parser.parse_args()
    StandIn(given.folder, given.worker).run(socket.socket(fileno=given.fd))
