"""What NVIDIA's user half does, without a GPU: name threads, size memory files, bind a socket."""

import ctypes
import errno
import os
import threading
from pathlib import Path

from fluxctx.confined import kernel


def tried(action):
    try:
        action()
    except OSError as refused:
        return errno.errorcode.get(refused.errno, str(refused.errno))
    return "through"


def name_a_thread():
    thread = threading.get_native_id()
    fd = os.open(f"/proc/{os.getpid()}/task/{thread}/comm", os.O_WRONLY)
    os.write(fd, b"cuda-worker")
    os.close(fd)


def memory_file():
    fd = kernel.syscall("memfd_create", b"cuda", 1)
    os.ftruncate(fd, 1 << 16)
    os.write(fd, b"x" * 4096)
    os.close(fd)


def bind_abstract():
    fd = kernel.syscall("socket", 1, 1, 0)
    address = b"\x01\x00\0cuda-uvmfd-test"
    kernel.syscall("bind", fd, address, len(address))
    kernel.syscall("listen", fd, 1)  # stays open, so that somebody outside can try it


def in_thread(action):
    results = []
    thread = threading.Thread(target=lambda: results.append(tried(action)))
    thread.start()
    thread.join()
    return results[0]


def main(channel):
    head = channel.recv().head
    file, parent = head["file"], head["pid"]
    results = {
        "name a thread": tried(name_a_thread),
        "name a new thread": in_thread(name_a_thread),
        "size a memory file": tried(memory_file),
        "bind an abstract socket": tried(bind_abstract),
        "read the driver's facts": tried(lambda: Path("/proc/self/maps").read_bytes()),
        "open a device": tried(lambda: os.close(os.open(head["device"], os.O_RDWR))),
        "write a file": tried(lambda: os.close(os.open(file, os.O_WRONLY))),
        "read a file": tried(lambda: os.close(os.open(file, os.O_RDONLY))),
        "create a file": tried(lambda: os.close(os.open(file + "new", os.O_CREAT | os.O_WRONLY))),
        "write /dev/null": tried(lambda: os.close(os.open("/dev/null", os.O_WRONLY))),
        "write another's comm": tried(lambda: os.close(os.open(f"/proc/{parent}/comm", os.O_WRONLY))),
        "write a sysctl": tried(lambda: os.close(os.open("/proc/sys/vm/swappiness", os.O_WRONLY))),
        "write core_pattern": tried(lambda: os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))),
        "write /sys": tried(
            lambda: os.close(os.open("/sys/kernel/mm/transparent_hugepage/enabled", os.O_WRONLY))
        ),
        "parent's memory": tried(lambda: os.close(os.open(f"/proc/{parent}/mem", os.O_RDWR))),
        "bind a socket file": tried(lambda: bind_file(file + ".sock")),
        "internet socket": tried(lambda: kernel.syscall("socket", 2, 1, 0)),
        "connect": tried(lambda: kernel.syscall("connect", 0, b"\x01\x00\0x", 4)),
        "accept": tried(lambda: kernel.syscall("accept", 0, 0, 0)),
        "fork": tried(lambda: kernel.syscall("clone", 17, 0, 0, 0, 0)),
        "core limit": tried(lambda: kernel.syscall("setrlimit", 4, ctypes.create_string_buffer(16))),
    }
    channel.send("results", results)
    channel.recv()  # until the parent has looked


def bind_file(path):
    fd = kernel.syscall("socket", 1, 1, 0)
    address = b"\x01\x00" + path.encode() + b"\0"
    kernel.syscall("bind", fd, address, len(address))
