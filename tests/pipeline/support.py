"""What the tests of the pipeline share: a copy of the repository, Snakemake, a bad web server."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "config", "profiles", "envs", "resources", "notebooks", "tenet")
PARTS += ("benchmarks",)


def copy_repository(folder):
    folder.mkdir(exist_ok=True)
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "zenodo", ".ipynb_checkpoints")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy2(source, folder / name)
    return folder


def snakemake(folder, *arguments, check=True, environment=None):
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if check and done.returncode:
        raise AssertionError(done.stdout)
    return done.stdout


class Moody(SimpleHTTPRequestHandler):
    """Serves files and answers ranges; first it does, in turn, what `moods` says."""

    moods: ClassVar[list[str]] = []
    asked: ClassVar[list[str | None]] = []

    def log_message(self, *_):
        pass

    def do_GET(self):
        content = Path(self.translate_path(self.path)).read_bytes()
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        mood = self.moods.pop(0) if self.moods else ""
        if mood.isdigit():
            self.send_response(int(mood))
            self.send_header("Retry-After", "0")
            self.end_headers()
            return
        if mood == "whole":
            wanted = None
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(content):
            self.send_error(416)
            return
        body = content[start:]
        if mood == "wrong":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(206 if wanted else 200)
        if wanted:
            start += 7 * (mood == "elsewhere")
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if mood != "endless":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if mood == "endless":
            body *= 100
        with suppress(ConnectionError):  # who has read enough hangs up
            self.wfile.write(body[: len(body) // 2] if mood == "cut" else body)


@contextmanager
def serving(folder: Path, kind: type[Moody] = Moody) -> Iterator[str]:
    """The address of a `Moody` server of a folder."""
    served = ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=str(folder)))
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}/"
    served.shutdown()
    served.server_close()
