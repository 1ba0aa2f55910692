# ruff: noqa: PTH102, PTH208
"""Landlock alone: what the file system and the network still allow."""

import errno
import os
import socket
import subprocess
import sys
import threading


def tried(action):
    try:
        action()
    except OSError as refused:
        return errno.errorcode.get(refused.errno, str(refused.errno))
    return "through"


def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as stream:
        stream.connect(address)


def main(channel):
    head = channel.recv().head
    inside, outside = head["inside"], head["outside"]
    results = {
        "read inside": tried(lambda: os.close(os.open(f"{inside}/file", os.O_RDONLY))),
        "list inside": tried(lambda: os.listdir(inside)),
        "write inside": tried(lambda: os.close(os.open(f"{inside}/file", os.O_WRONLY))),
        "truncate inside": tried(lambda: os.truncate(f"{inside}/file", 0)),
        "create inside": tried(lambda: os.close(os.open(f"{inside}/new", os.O_CREAT | os.O_WRONLY))),
        "remove inside": tried(lambda: os.unlink(f"{inside}/file")),
        "mkdir inside": tried(lambda: os.mkdir(f"{inside}/newdir")),
        "link inside": tried(lambda: os.link(f"{inside}/file", f"{inside}/other")),
        "read outside": tried(lambda: os.close(os.open(f"{outside}/file", os.O_RDONLY))),
        "list outside": tried(lambda: os.listdir(outside)),
        "read through a link": tried(lambda: os.close(os.open(f"{inside}/out", os.O_RDONLY))),
        "stat outside": tried(lambda: os.stat(f"{outside}/file")),
        "read /etc/passwd": tried(lambda: os.close(os.open("/etc/passwd", os.O_RDONLY))),
        "list /proc": tried(lambda: os.listdir("/proc")),
        "execute": tried(lambda: subprocess.run([sys.executable, "-c", ""], check=True)),
        "connect TCP": tried(lambda: connect(socket.AF_INET, ("127.0.0.1", head["tcp4"]))),
        "connect abstract": tried(lambda: connect(socket.AF_UNIX, "\0" + head["abstract"])),
        "signal the parent": tried(lambda: os.kill(head["pid"], 0)),
        "parent's memory": tried(lambda: os.close(os.open(f"/proc/{head['pid']}/mem", os.O_RDONLY))),
    }
    threads = []
    thread = threading.Thread(target=lambda: threads.append(tried(lambda: os.listdir(outside))))
    thread.start()
    thread.join()
    results["list outside in a new thread"] = threads[0]
    channel.send("results", results)
