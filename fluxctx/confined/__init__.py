"""Confined children: what touches a model or a stranger's file runs without network, files to write, or keys.

    spawn.py      the parent's side: start a fresh child, talk to it, end it
    child.py      the child's start: give everything up, say what holds, only then import the real work
    sandbox.py    the order in which everything is given up
    floor.py      the seccomp allow list, the layer that must hold; bpf.py, syscalls.py below it
    landlock.py   which files may be read
    wire.py       frames over the one socketpair
    probe.py      the ways out, tried from inside; attempts.py, listeners.py

The layers, what they allow and why: docs/spec/confinement-v1.md.
"""
