"""nginx as a reverse proxy in front of one worker."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from live.polling import eventually

# On Debian it lies where users without privileges do not look.
_PATH = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/nginx/sbin")

# Buffers are as large as the router's limits, so that sizes make no difference; the rest is as it comes.
_CONFIG = """\
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 256m;
    client_header_buffer_size 64k;
    large_client_header_buffers 4 64k;
    upstream worker {{ server {worker}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://worker;
            proxy_http_version 1.1;
            proxy_set_header connection "";
            proxy_next_upstream off;
        }}
    }}
}}
"""


def is_here() -> bool:
    """Reads. Whether there is an nginx."""
    return _PATH is not None


@contextlib.contextmanager
def nginx(folder: Path, worker_host: str, worker_port: int) -> Iterator[str]:
    """The URL of an nginx in front of the worker, for the block's time."""
    assert _PATH is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(
        _CONFIG.format(folder=folder, worker=f"{worker_host}:{worker_port}", port=port), encoding="utf-8"
    )
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [_PATH, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: _accepts(port) or process.poll() is not None, "nginx is ready")
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
