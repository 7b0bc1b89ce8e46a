"""Installs Debian's packages of the peers, and starts none of their services."""

import os
import pathlib
import subprocess
import sys

from side_by_side.servers import PEERS

# what invoke-rc.d and deb-systemd-invoke ask; 101: it must not be started
POLICY = pathlib.Path("/usr/sbin/policy-rc.d")


def is_installed(package):
    done = subprocess.run(["dpkg-query", "--show", "--showformat=${db:Status-Status}", package],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=False)
    return done.stdout == "installed"


def _apt_get(*words):
    return subprocess.run(
        ["apt-get", "--quiet", "--yes", "--no-remove", "--option", "DPkg::Lock::Timeout=300",
         *words], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}).returncode == 0


def install():
    """Returns a sentence if it could not."""
    wanted = sorted({peer.package for peer in PEERS if peer.package} | {"strace", "wrk"})
    missing = [package for package in wanted if not is_installed(package)]
    if not missing:
        return None
    if os.geteuid() != 0:
        return f"installing {' '.join(missing)} takes root"
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
        POLICY.chmod(0o755)
    try:
        _apt_get("update")      # what it could not fetch may not matter: the installation tells
        if not _apt_get("install", "--no-install-recommends", *missing):
            return f"apt-get could not install {' '.join(missing)}"
    finally:
        if ours:
            POLICY.unlink()
    return None
