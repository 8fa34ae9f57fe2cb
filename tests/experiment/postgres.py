"""A PostgreSQL server for a test module: made by initdb in a temporary folder, on a socket, without a port."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def _binaries() -> Path:
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    folders = [folder for folder in folders if (folder / "pg_ctl").exists()]
    if not folders:
        pytest.skip("PostgreSQL is not installed: there is no initdb on the path or in /usr/lib/postgresql")
    return folders[-1]


@contextlib.contextmanager
def connection() -> Iterator[Any]:
    """Yield an Ibis connection to a server that lives as long as the block; skip where there is none."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (ibis-framework[postgres])")
    import ibis

    binaries = _binaries()
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    folder = Path(tempfile.mkdtemp(prefix="treadle-pg-", dir="/tmp"))  # the path of a socket is short
    data = folder / "data"

    def run(*command: object) -> None:
        subprocess.run([str(part) for part in command], check=True, capture_output=True, cwd=folder, **as_user)

    try:
        if as_user:
            os.chown(folder, as_user["user"], as_user["group"])
        run(binaries / "initdb", "-D", data, "-U", "treadle", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        options = f"-c listen_addresses='' -c fsync=off -k {folder}"
        run(binaries / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start")
        try:
            server = ibis.postgres.connect(host=str(folder), user="treadle", database="postgres")
            try:
                yield server
            finally:
                server.disconnect()
        finally:
            run(binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
