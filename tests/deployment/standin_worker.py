"""A small scoring worker for tests: accepts on the inherited socket, follows endpoint.json, tells its status.

Answers every request with the name of the deployment picked by the x-request-id header's CRC, as the real one does.
A deployment whose artifact holds a file ``refuses`` cannot be loaded; one with ``crashes`` ends the process.
"""

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

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--fd", type=int)
parser.add_argument("--worker", type=int)
args = parser.parse_args()
parent, started = os.getppid(), time.time()
now = {"revision": 0, "table": [], "error": "", "requests": 0, "seen": 0, "draining": False}
lock = threading.Lock()


def follow():
    file = args.folder / "endpoint.json"
    seen = file.stat().st_mtime_ns
    if seen == now["seen"]:
        return False
    now["seen"] = seen
    state = json.loads(file.read_text())
    for deployment in state["deployments"]:
        if Path(deployment["folder"], "crashes").exists():
            print("cannot go on", file=sys.stderr, flush=True)
            os._exit(3)
        if not Path(deployment["folder"], "manifest.json").exists() or Path(deployment["folder"], "refuses").exists():
            now["error"] = f"{deployment['name']} refuses to be loaded"
            return True
    now["table"] = [each["name"] for each in state["deployments"] for _ in range(each["traffic"])]
    now["revision"], now["error"] = state["revision"], ""
    return True


def tell():
    status = {
        "index": args.worker,
        "pid": os.getpid(),
        "revision": now["revision"],
        "ready": bool(now["table"]),
        "error": now["error"],
        "requests": now["requests"],
        "started": started,
        "updated": time.time(),
    }
    file = args.folder / "workers" / f"{args.worker}.json"
    aside = file.with_name(f".{file.name}.new")
    aside.write_text(json.dumps(status))
    aside.replace(file)


def answer(connection):
    with connection:
        connection.settimeout(5)
        head = b""
        while b"\r\n\r\n" not in head:
            got = connection.recv(65536)
            if not got:
                return
            head += got
        lines = head.split(b"\r\n")
        request_id = next((line.split(b": ")[1] for line in lines if line.startswith(b"x-request-id: ")), b"")
        if b"slow" in lines[0]:
            time.sleep(0.5)
        table = now["table"]
        name = table[zlib.crc32(request_id) % 100] if table else "none"
        body = json.dumps({"deployment": name, "pid": os.getpid()}).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        with lock:
            now["requests"] += 1


def stop(*_):
    now["draining"] = True


signal.signal(signal.SIGTERM, stop)
listening = socket.socket(fileno=args.fd)
listening.settimeout(0.05)
print("worker says hello", flush=True)
follow()
tell()
told = time.time()
threads = []
while not now["draining"] and os.getppid() == parent:
    try:
        connection, _ = listening.accept()
    except (TimeoutError, BlockingIOError):
        pass
    else:
        thread = threading.Thread(target=answer, args=(connection,))
        thread.start()
        threads = [each for each in (*threads, thread) if each.is_alive()]
    if follow() or time.time() - told > 0.3:
        tell()
        told = time.time()
listening.close()
for thread in threads:
    thread.join()
