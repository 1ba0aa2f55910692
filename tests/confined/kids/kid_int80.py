"""Makes a 32-bit system call (getpid by int 0x80), for which the numbers mean something else."""

import ctypes
import mmap


def main(channel):
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20; int 0x80; ret
    call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    channel.send("survived", {"pid": call()})
