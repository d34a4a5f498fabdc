"""How the process of a submission is started: in namespaces of its own where the system has them.

In them it sees a root folder with Python, the kit and an empty home, all of it read-only or gone
afterwards; no network, no other process, and it runs as a user who owns nothing (or, where we are
not root, as one without any rights beyond ours, behind the same walls).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

MEGABYTE = 1_000_000
LIMITS = {
    "DATA": 4_000 * MEGABYTE,  # memory
    "FSIZE": 64 * MEGABYTE,  # one file
    "NOFILE": 256,
    "NPROC": 64,  # processes and threads; only where it counts this submission's alone
    "CPU": 1_800,  # seconds; a last resort, the grader stops earlier
    "CORE": 0,
}
# $1 the new root, $2 the kit, $3 the user, then folders to show (read-only), "--", the command.
_SETUP = r"""
set -e
root=$1 kit=$2 user=$3; shift 3
mount -t tmpfs -o mode=755,size=64m tmpfs "$root"
show() {
  mkdir -p "$root$2"; mount --bind "$1" "$root$2"
  mount -o remount,bind,ro,nosuid,nodev "$root$2"
}
while [ "$1" != -- ]; do show "$1" "$1"; shift; done; shift
for name in /bin /sbin /lib /lib32 /lib64; do
  if [ -L $name ]; then [ -e "$root$name" ] || cp -P $name "$root$name"
  elif [ -d $name ]; then show $name $name; fi
done
mkdir -p "$root/etc" "$root/dev" "$root/proc" "$root/tmp" "$root/home/student"
cp /etc/ld.so.cache "$root/etc/" 2>/dev/null || true
echo "student:x:$user:$user::/home/student:/bin/sh" > "$root/etc/passwd"
for name in null zero full random urandom; do
  : > "$root/dev/$name"; mount --bind /dev/$name "$root/dev/$name"
done
mkdir "$root/dev/shm"
for name in /tmp /home/student /dev/shm; do
  mount -t tmpfs -o mode=1777,size=64m tmpfs "$root$name"
done
mount -t proc -o hidepid=2 proc "$root/proc" 2>/dev/null || true
show "$kit" /kit
if [ -d /sys/devices/system/cpu ]; then show /sys/devices/system/cpu /sys/devices/system/cpu; fi
mount -o remount,bind,ro "$root"
drop="--inh-caps=-all --bounding-set=-all --no-new-privs"
if [ "$user" != 0 ]; then drop="$drop --reuid=$user --regid=$user --clear-groups"
else drop="$drop --securebits=+noroot,+noroot_locked"; fi
exec chroot "$root" setpriv $drop "$@"
"""


def environment() -> dict[str, str]:
    """All that the process gets to know of ours."""
    keep = {k: os.environ[k] for k in ("SYSTEMROOT", "LANG") if k in os.environ}
    return {
        **keep,
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/home/student",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": "/tmp/matplotlib",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def command(kit: Path) -> tuple[list[str], dict[str, str]]:
    """The command that starts `inside.py`, and its environment."""
    python, limits = sys.executable, dict(LIMITS)
    if not walled():
        home = kit / "home"
        home.mkdir(exist_ok=True)
        del limits["NPROC"]  # it would count everything that this user runs
        own = {"HOME": f"{home}", "MPLCONFIGDIR": f"{home}", "TMPDIR": f"{home}"}
        program = [python, "-I", str(kit / "sandbox" / "inside.py"), json.dumps(limits)]
        return program, {**environment(), **own}
    program = [python, "-I", "/kit/sandbox/inside.py", json.dumps(limits)]
    return _in_namespaces(kit, program), environment()


@cache
def walled() -> bool:
    """Whether this system gives a process namespaces of its own; tried, not guessed."""
    if os.environ.get("KDUTILS_NO_NAMESPACES") or not sys.platform.startswith("linux"):
        return False
    if not all(map(shutil.which, ("unshare", "setpriv", "chroot", "mount"))):
        return False
    with tempfile.TemporaryDirectory() as kit:
        trial = _in_namespaces(Path(kit), [sys.executable, "-I", "-c", "print('inside')"])
        done = subprocess.run(trial, env=environment(), capture_output=True, text=True)
    return done.stdout == "inside\n"


def _in_namespaces(kit: Path, program: list[str]) -> list[str]:
    mount_point = kit / "root"
    mount_point.mkdir(exist_ok=True)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    # Another user for each process: a limit on processes then counts this one's alone.
    user = 1_000_000 + os.getpid() if root else 0
    unshare = ["unshare", *([] if root else ["--user", "--map-root-user"]), "--mount", "--net"]
    unshare += ["--ipc", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    fixed = ["sh", "-c", _SETUP, "sh", f"{mount_point}", f"{kit}", f"{user}"]
    return [*unshare, *fixed, *_shown_folders(), "--", *program]


def _shown_folders() -> list[str]:
    """Python, its packages and the system's programs; never a folder that holds `kdutils`."""
    found = {"/usr", sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parents[1])}
    if importlib.util.find_spec("torch"):
        found.add(str(Path(importlib.util.find_spec("torch").origin).parents[1]))
    paths = sorted(found)
    return [p for p in paths if not any(p != o and Path(p).is_relative_to(o) for o in paths)]
