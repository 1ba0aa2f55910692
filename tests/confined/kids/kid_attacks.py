"""Every way out we could think of, by raw system calls, each told apart by who refused it.

through = it worked; filter = our seccomp filter said no; kernel:ENAME = it reached the kernel.
"""

import ctypes
import errno
import os
import struct
import threading

from fluxctx.confined import kernel

AT = -100
DISTINCT_ERRNO = 999


def attacks(there, pid, target, ro, pipe):
    """Name -> (call, arguments); `there` is the victim's directory, `ro` a descriptor open for reading."""

    def at(name):
        return f"{there}/{name}".encode()

    a, text = at("a.txt"), ctypes.create_string_buffer(b"secret")
    times = struct.pack("<4q", 1234567890, 0, 1234567890, 0)
    nothing = bytes(8)
    handle = ctypes.create_string_buffer(struct.pack("<Ii", 128, 0), 136)
    iov = struct.pack("<QQ", ctypes.addressof(text), 6)
    limits = struct.pack("<QQ", 64, 64)
    info = ctypes.create_string_buffer(struct.pack("<iii", 0, 0, -1), 128)
    unix = struct.pack("<H", 1) + at("listen.sock") + b"\0"
    empty_message = struct.pack("<QIIQQQQI4x", 0, 0, 0, 0, 0, 0, 0, 0)
    self_fd = f"/proc/self/fd/{ro}".encode()
    calls = {
        # opening for write, in every spelling
        "openat O_WRONLY": ("openat", AT, a, 1),
        "openat O_RDWR": ("openat", AT, a, 2),
        "openat access mode 3": ("openat", AT, a, 3),
        "openat O_CREAT|O_RDONLY": ("openat", AT, at("new"), 0o100, 0o600),
        "openat O_TRUNC|O_RDONLY": ("openat", AT, a, 0o1000),
        "openat O_TMPFILE": ("openat", AT, there.encode(), 0o20200002, 0o600),
        "openat O_WRONLY with high bits": ("openat", AT, a, (0x5A5A << 32) | 1),
        "open O_WRONLY": ("open", a, 1),
        "open O_CREAT": ("open", at("new"), 0o100, 0o600),
        "creat": ("creat", at("new"), 0o600),
        "openat2 O_RDWR": ("openat2", AT, a, struct.pack("<QQQ", 2, 0, 0), 24),
        "name_to_handle_at": ("name_to_handle_at", AT, a, handle, ctypes.create_string_buffer(4), 0),
        "open_by_handle_at": ("open_by_handle_at", ro, handle, 1),
        "reopen a read descriptor for writing": ("openat", AT, self_fd, 2),
        "/proc/self/mem": ("openat", AT, b"/proc/self/mem", 2),
        "/dev/null": ("openat", AT, b"/dev/null", 2),
        "/dev/shm": ("openat", AT, b"/dev/shm/fluxctx", 0o102, 0o600),
        # changing files without opening them
        "truncate": ("truncate", a, 1),
        "ftruncate": ("ftruncate", ro, 1),
        "fallocate": ("fallocate", ro, 0, 0, 10),
        "rename": ("rename", a, at("b.txt")),
        "renameat": ("renameat", AT, a, AT, at("b.txt")),
        "renameat2": ("renameat2", AT, a, AT, at("b.txt"), 0),
        "unlink": ("unlink", a),
        "unlinkat": ("unlinkat", AT, a, 0),
        "rmdir": ("rmdir", at("d")),
        "link": ("link", a, at("b.txt")),
        "linkat": ("linkat", AT, a, AT, at("b.txt"), 0),
        "symlink": ("symlink", b"a message", at("b.txt")),
        "symlinkat": ("symlinkat", b"a message", AT, at("b.txt")),
        "mkdir": ("mkdir", at("b"), 0o700),
        "mkdirat": ("mkdirat", AT, at("b"), 0o700),
        "mknod": ("mknod", at("b"), 0o010600, 0),
        "mknodat": ("mknodat", AT, at("b"), 0o010600, 0),
        "chmod": ("chmod", a, 0o640),
        "fchmod": ("fchmod", ro, 0o640),
        "fchmodat": ("fchmodat", AT, a, 0o640),
        "fchmodat2": ("fchmodat2", AT, a, 0o640, 0),
        "chown": ("chown", a, -1, -1),
        "lchown": ("lchown", a, -1, -1),
        "fchown": ("fchown", ro, -1, -1),
        "fchownat": ("fchownat", AT, a, -1, -1, 0),
        "utimensat": ("utimensat", AT, a, times, 0),
        "utimensat on a descriptor": ("utimensat", ro, 0, times, 0),
        "utime": ("utime", a, 0),
        "utimes": ("utimes", a, 0),
        "futimesat": ("futimesat", AT, a, 0),
        "setxattr": ("setxattr", a, b"user.m", b"secret", 6, 0),
        "lsetxattr": ("lsetxattr", a, b"user.m", b"secret", 6, 0),
        "fsetxattr": ("fsetxattr", ro, b"user.m", b"secret", 6, 0),
        "removexattr": ("removexattr", a, b"user.m"),
        "setxattrat": (
            "setxattrat",
            AT,
            a,
            0,
            b"user.m",
            struct.pack("<QII", ctypes.addressof(text), 6, 0),
            16,
        ),
        "ioctl FS_IOC_SETFLAGS": ("ioctl", ro, 0x40086602, struct.pack("<l", 0x80040)),
        "file_setattr": ("file_setattr", AT, a, bytes(24), 24, 0),
        "flock": ("flock", ro, 6),
        "fcntl F_OFD_SETLK": ("fcntl", ro, 37, bytes(32)),
        "fcntl F_SETLEASE": ("fcntl", ro, 1024, 0),
        "fcntl F_NOTIFY": ("fcntl", ro, 1026, 1),
        "fcntl F_ADD_SEALS": ("fcntl", ro, 1033, 1),
        "inotify_init1": ("inotify_init1", 0),
        "fanotify_init": ("fanotify_init", 0x200, 0),
        "memfd_create": ("memfd_create", b"x", 0),
        "memfd_secret": ("memfd_secret", 0),
        # moving bytes past write()
        "pwrite64": ("pwrite64", pipe, b"x", 1, 0),
        "pwritev": ("pwritev", pipe, iov, 1, 0, 0),
        "pwritev2": ("pwritev2", pipe, iov, 1, 0, 0, 0),
        "splice": ("splice", ro, 0, pipe, 0, 4, 0),
        "vmsplice": ("vmsplice", pipe, iov, 1, 0),
        "tee": ("tee", ro, pipe, 4, 0),
        "sendfile": ("sendfile", pipe, ro, 0, 4),
        "copy_file_range": ("copy_file_range", ro, 0, pipe, 0, 4, 0),
        "io_setup": ("io_setup", 1, ctypes.create_string_buffer(8)),
        "io_uring_setup": ("io_uring_setup", 4, bytes(120)),
        # sockets
        "socketpair": ("socketpair", 1, 1, 0, ctypes.create_string_buffer(8)),
        "connect": ("connect", pipe, unix, len(unix)),
        "bind": ("bind", pipe, unix, len(unix)),
        "listen": ("listen", pipe, 1),
        "accept": ("accept", pipe, 0, 0),
        "accept4": ("accept4", pipe, 0, 0, 0),
        "sendto": ("sendto", pipe, b"secret", 6, 0, unix, len(unix)),
        "sendmsg": ("sendmsg", pipe, empty_message, 0),
        "sendmmsg": ("sendmmsg", pipe, bytes(64), 0, 0),
        "recvfrom": ("recvfrom", pipe, text, 6, 0, 0, 0),
        "recvmsg": ("recvmsg", pipe, empty_message, 0x40),
        "setsockopt": ("setsockopt", pipe, 1, 2, nothing, 4),
        # other processes
        "clone as fork": ("clone", 17, 0, 0, 0, 0),
        "clone as vfork": ("clone", 0x4111, 0, 0, 0, 0),
        "clone in a new user namespace": ("clone", 0x10000011, 0, 0, 0, 0),
        "clone3": ("clone3", struct.pack("<8Q", 0, 0, 0, 0, 17, 0, 0, 0), 64),
        "execve": ("execve", b"/nonexistent", nothing, nothing),
        "execveat": ("execveat", AT, b"/nonexistent", nothing, nothing, 0),
        "ptrace": ("ptrace", 0x4206, target, 0, 0),
        "process_vm_readv": ("process_vm_readv", pid, iov, 1, iov, 1, 0),
        "process_vm_writev": ("process_vm_writev", pid, iov, 0, iov, 1, 0),
        "process_madvise": ("process_madvise", 0, iov, 1, 20, 0),
        "kcmp": ("kcmp", os.getpid(), pid, 0, 0, 0),
        "pidfd_open": ("pidfd_open", target, 0),
        "pidfd_getfd": ("pidfd_getfd", 0, 0, 0),
        "pidfd_send_signal": ("pidfd_send_signal", 0, 0, 0, 0),
        "kill another": ("kill", target, 0),
        "kill the group": ("kill", 0, 0),
        "kill everybody": ("kill", -1, 0),
        "tkill": ("tkill", target, 0),
        "tgkill another": ("tgkill", target, target, 0),
        "rt_sigqueueinfo": ("rt_sigqueueinfo", target, 0, info),
        "rt_tgsigqueueinfo": ("rt_tgsigqueueinfo", target, target, 0, info),
        "fcntl F_SETOWN": ("fcntl", pipe, 8, target),
        "fcntl F_SETOWN_EX": ("fcntl", pipe, 15, struct.pack("<ii", 1, target)),
        "fcntl F_SETSIG": ("fcntl", pipe, 10, 9),
        "prlimit64 of another": ("prlimit64", target, 7, limits, 0),
        "prlimit64 to set": ("prlimit64", 0, 4, struct.pack("<QQ", 1 << 20, 1 << 20), 0),
        "setrlimit": ("setrlimit", 4, bytes(16)),
        "sched_setaffinity of another": ("sched_setaffinity", target, 8, struct.pack("<Q", 1)),
        "setpriority": ("setpriority", 0, target, 5),
        "ioprio_set": ("ioprio_set", 1, target, (2 << 13) | 7),
        "sched_setscheduler": ("sched_setscheduler", target, 0, bytes(4)),
        # what outlives the process
        "shmget": ("shmget", 0x5F10F10, 4096, 0o1600),
        "msgget": ("msgget", 0x5F10F11, 0o1600),
        "semget": ("semget", 0x5F10F12, 1, 0o1600),
        "mq_open": ("mq_open", b"fluxctx", 0o102, 0o600, 0),
        "add_key": ("add_key", b"user", b"fluxctx", b"secret", 6, -4),
        "request_key": ("request_key", b"dns_resolver", b"secret.invalid", b"", -4),
        "keyctl": ("keyctl", 0, -4, 0),
        # the kernel
        "unshare": ("unshare", 0x10000000),
        "setns": ("setns", ro, 0),
        "mount": ("mount", b"x", at("d"), b"tmpfs", 0, 0),
        "umount2": ("umount2", at("d"), 0),
        "fsopen": ("fsopen", b"tmpfs", 0),
        "open_tree": ("open_tree", AT, there.encode(), 1),
        "move_mount": ("move_mount", 0, b"", 0, b"", 0),
        "chroot": ("chroot", b"/"),
        "pivot_root": ("pivot_root", b"/nonexistent", b"/nonexistent"),
        "perf_event_open": ("perf_event_open", struct.pack("<IIQ", 1, 112, 0) + bytes(96), 0, -1, -1, 0),
        "bpf": ("bpf", 0, struct.pack("<IIII", 2, 4, 4, 1), 16),
        "userfaultfd": ("userfaultfd", 1),
        "seccomp again": ("seccomp", 2, 0, struct.pack("<I", 0x7FFF0000)),
        "landlock_create_ruleset": ("landlock_create_ruleset", 0, 0, 1),
        "init_module": ("init_module", 0, 0, 0),
        "finit_module": ("finit_module", ro, b"", 0),
        "kexec_load": ("kexec_load", 0, 99, 0, 0xFFFF),
        "reboot": ("reboot", 1, 2, 3, 0),
        "iopl": ("iopl", 0),
        "ioperm": ("ioperm", 0, 1, 0),
        "modify_ldt": ("modify_ldt", 0, text, 6),
        "personality": ("personality", 0xFFFFFFFF),
        "syslog": ("syslog", 10, 0, 0),
        "acct": ("acct", at("none")),
        "quotactl": ("quotactl", 0, 0, 0, 0),
        "swapon": ("swapon", at("none"), 0),
        "clock_settime": ("clock_settime", 99, times),
        "settimeofday": ("settimeofday", 0, 0),
        "adjtimex": ("adjtimex", bytes(208)),
        "sethostname": ("sethostname", 0, 5),
        "setuid": ("setuid", os.getuid()),
        "setresuid": ("setresuid", -1, -1, -1),
        "setgroups": ("setgroups", 0, 0),
        "setsid": ("setsid",),
        "setpgid": ("setpgid", 0, 0),
        "capset": ("capset", struct.pack("<Ii", 0x20080522, 0), bytes(24)),
        "vhangup": ("vhangup",),
        "sync": ("sync",),
        "syncfs": ("syncfs", ro),
        "timer_create": ("timer_create", 0, 0, ctypes.create_string_buffer(8)),
        "remap_file_pages and other unnamed calls": (216, 0, 0, 0, 0, 0)
        if kernel.machine() == "x86_64"
        else (234,),
        "a call that does not exist yet": (600,),
        "prctl PR_SET_DUMPABLE": ("prctl", 4, 1, 0, 0, 0),
        "prctl PR_SET_PDEATHSIG": ("prctl", 1, 0, 0, 0, 0),
        "prctl PR_SET_NAME": ("prctl", 15, b"secret", 0, 0, 0),
        "prctl PR_SET_PTRACER": ("prctl", 0x59616D61, pid, 0, 0, 0),
        "prctl PR_SET_MM": ("prctl", 35, 8, 0, 0, 0),
        "prctl PR_SET_SECCOMP": ("prctl", 22, 2, 0, 0, 0),
        "ioctl TIOCSTI": ("ioctl", 0, 0x5412, b"x"),
        "ioctl TIOCLINUX": ("ioctl", 0, 0x541C, b"\x02"),
        "ioctl KVM_GET_API_VERSION": ("ioctl", 0, 0xAE00, 0),
        "ioctl FIOASYNC": ("ioctl", pipe, 0x5452, struct.pack("<i", 1)),
        "ioctl SIOCGIFCONF": ("ioctl", pipe, 0x8912, 0),
    }
    for family in ("UNIX 1", "INET 2", "INET6 10", "NETLINK 16", "PACKET 17", "ALG 38", "VSOCK 40", "XDP 44"):
        name, number = family.split()
        calls[f"socket AF_{name}"] = ("socket", int(number), 1, 0)
    calls["socket AF_INET with high bits"] = ("socket", (1 << 32) | 2, 1, 0)
    for name in ("fork", "vfork"):
        calls[name] = (name,)
    return calls


def attempt(call, *arguments):
    try:
        result = (
            kernel.raw_syscall(call, *arguments)
            if isinstance(call, int)
            else kernel.syscall(call, *arguments)
        )
    except OSError as refused:
        if refused.filename is not None and isinstance(call, str):  # this architecture has no such call
            return "absent"
        if refused.errno == DISTINCT_ERRNO:
            return "filter"
        return "kernel:" + errno.errorcode.get(refused.errno, str(refused.errno))
    if result == 0 and call in ("fork", "vfork", "clone", "clone3"):
        os._exit(0)
    return "through"


def in_new_thread(*call):
    results = []
    thread = threading.Thread(target=lambda: results.append(attempt(*call)))
    thread.start()
    thread.join()
    return results[0]


def main(channel):
    head = channel.recv().head
    ro = os.open(head["file"], os.O_RDONLY)
    _, pipe = os.pipe()
    table = attacks(head["directory"], head["pid"], head["target"], ro, pipe)
    results = {name: attempt(*call) for name, call in table.items()}
    write = ("openat", AT, head["file"].encode(), 1)
    results["openat O_WRONLY in a new thread"] = in_new_thread(*write)
    own = os.getpid()
    allowed = {
        "signal itself": attempt("kill", own, 0),
        "signal its own thread": attempt("tgkill", own, own, 0),
        "read a limit": attempt("prlimit64", 0, 4, 0, bytes(16)),
        "start a thread": in_new_thread("getpid"),
    }
    channel.send("results", {"attacks": results, "allowed": allowed})
