"""Prints to both streams, then fails if told to."""

import sys


def main(channel):
    head = channel.recv().head
    print(head["out"])
    print(head["err"], file=sys.stderr, flush=True)
    if head.get("many"):
        for line in range(head["many"]):
            print("line", line)
    if head.get("fail"):
        raise ValueError(head["fail"])
    channel.send("printed", {})
