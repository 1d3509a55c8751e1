"""A real STAC API and a real file server on this machine: PostgreSQL with pgstac, stac-fastapi, nginx.

Everything lives in one temporary folder, on free ports of 127.0.0.1, and is stopped in reverse order of
starting, also when starting fails half-way. Each catalogue gets a database and an API of its own, because
three of them call different items by the same collection id. Measured: 5 s to start, 3 s per catalogue.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from pypgstac.db import PgstacDB
from pypgstac.load import Loader, Methods
from pypgstac.migrate import Migrate
from scene_archives import SceneArchive

POSTGRES = Path("/usr/lib/postgresql/15/bin")
POSTGIS = Path("/usr/share/postgresql/15/extension/postgis.control")


def missing() -> str | None:
    """What this machine lacks to run the stack; None if nothing."""
    if not (POSTGRES / "initdb").exists() or not POSTGIS.exists():
        return "PostgreSQL 15 with PostGIS is not installed (.ci/run installs it)"
    if shutil.which("nginx") is None and not Path("/usr/sbin/nginx").exists():
        return "nginx is not installed (.ci/run installs it)"
    if os.geteuid() == 0 and not _has_postgres_user():
        return "running as root without a user postgres: PostgreSQL refuses to run as root"
    return None


def _has_postgres_user() -> bool:
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        return False
    return True


def free_port() -> int:
    """A TCP port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    """One PostgreSQL server, one nginx, and one STAC API per archive and catalogue that is asked for.

    nginx serves what is linked to in :attr:`files`, at :attr:`files_url`.
    """

    def __init__(self) -> None:
        self._down, self._urls = ExitStack(), dict[str, str]()
        # under /tmp and short: a socket's path may have 107 characters, and postgres must reach it
        self.folder = Path(tempfile.mkdtemp(prefix="sx"))
        self.folder.chmod(0o755)
        self._down.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.log, self.files = self.folder / "log", self.folder / "files"
        self.files.mkdir()
        self.files_url, self._database_port = f"http://127.0.0.1:{free_port()}", free_port()

    def __enter__(self) -> Stack:
        try:
            self._start_nginx()
            self._start_postgres()
        except BaseException:
            self._down.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._down.close()

    def url(self, archive: SceneArchive, name: str) -> str:
        """Address of the STAC API of one of an archive's catalogues, started when first asked for."""
        database = f"{archive.name}_{name}".replace("-", "_")
        if database not in self._urls:
            if not (link := self.files / archive.name).exists():
                link.symlink_to(archive.folder)
            items = archive.items(name, f"{self.files_url}/{archive.name}")
            self.load(database, archive.collection(name), items)
        return self._urls[database]

    def load(self, database: str, collection: dict[str, Any], items: list[dict[str, Any]]) -> str:
        """Loads a collection and its items into a database of their own and serves it.

        Returns:
            The address of its STAC API.
        """
        environment = self._environment(database)
        self._as_postgres(
            "createdb", "-h", "127.0.0.1", "-p", str(self._database_port), "-U", "postgres", "-T", "pgstac_template",
            database,
        )  # fmt: skip
        with self._database(database) as connection:
            loader = Loader(connection)
            loader.load_collections(iter([collection]), Methods.insert_ignore)
            loader.load_items(iter(items), Methods.insert_ignore)
        self._urls[database] = self._serve(environment)
        return self._urls[database]

    def _start_nginx(self) -> None:
        port = self.files_url.rsplit(":", 1)[1]
        folder, user = self.folder / "nginx", "user root;" if os.geteuid() == 0 else ""
        folder.mkdir()
        (folder / "conf").write_text(
            f"{user} daemon off; pid {folder}/pid; error_log {folder}/error; events {{}}\n"
            f"http {{ access_log {folder}/access; client_body_temp_path {folder}; proxy_temp_path {folder};"
            f" fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};\n"
            f" server {{ listen 127.0.0.1:{port}; root {self.files}; }} }}\n"
        )
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        self._spawn([nginx, "-c", str(folder / "conf"), "-e", str(folder / "error")], signal.SIGTERM)
        _await_http(self.files_url, self.log)

    def _start_postgres(self) -> None:
        data, port = self.folder / "pg", str(self._database_port)
        data.mkdir()
        if os.geteuid() == 0:
            shutil.chown(data, "postgres")
        self._as_postgres("initdb", "-D", str(data), "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-U", "postgres")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {data} -c fsync=off -c full_page_writes=off"
        stop = ("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
        self._down.callback(self._as_postgres, *stop, check=False)
        # -l: the server must not inherit our output, or whoever reads it would wait for the server to end
        self._as_postgres("pg_ctl", "-D", str(data), "-l", str(data / "log"), "-w", "-o", options, "start")
        self._as_postgres("createdb", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "pgstac_template")
        with self._database("pgstac_template") as connection:
            Migrate(connection).run_migration()

    def _serve(self, environment: dict[str, str]) -> str:
        port = free_port()
        application = "stac_fastapi.pgstac.app:create_app"
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            application,
            "--factory",
            "--port",
            str(port),
            "--log-level",
            "error",
        ]
        # killed: asked to end, it waits for every client that keeps a connection
        self._spawn(command, signal.SIGKILL, environment)
        url = f"http://127.0.0.1:{port}"
        _await_http(f"{url}/_mgmt/ping", self.log)
        return url

    @contextmanager
    def _database(self, name: str) -> Iterator[PgstacDB]:
        connection = PgstacDB(dsn=f"postgresql://postgres@127.0.0.1:{self._database_port}/{name}")
        try:
            yield connection
        finally:
            connection.disconnect()  # createdb refuses a template somebody is connected to

    def _environment(self, database: str) -> dict[str, str]:
        access = {"PGHOST": "127.0.0.1", "PGPORT": str(self._database_port), "PGUSER": "postgres", "PGPASSWORD": "x"}
        return {**os.environ, **access, "PGDATABASE": database, "DB_MIN_CONN_SIZE": "1", "DB_MAX_CONN_SIZE": "2"}

    def _as_postgres(self, tool: str, *arguments: str, check: bool = True) -> None:
        user = "postgres" if os.geteuid() == 0 else None
        self._run(str(POSTGRES / tool), *arguments, user=user, check=check)

    def _run(
        self, *command: str, env: dict[str, str] | None = None, user: str | None = None, check: bool = True
    ) -> None:
        with self.log.open("ab") as log:
            done = subprocess.run(command, env=env, user=user, cwd="/tmp", stdout=log, stderr=log, timeout=120)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{self.log.read_text()[-2000:]}")

    def _spawn(self, command: list[str], end: signal.Signals, env: dict[str, str] | None = None) -> None:
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, env=env, cwd="/tmp", stdout=log, stderr=log)
        self._down.callback(_stop, process, end)


def _stop(process: subprocess.Popen[bytes], end: signal.Signals) -> None:
    process.send_signal(end)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def _await_http(url: str, log: Path, seconds: float = 30.0) -> None:
    """Waits until somebody answers at `url`, whatever the answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{url} did not come up:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.05)
