"""Says its pid and sleeps, busy in one thread or idle, never reading its channel."""

import os
import time


def main(channel):
    channel.send("pid", {"pid": os.getpid()})
    while True:
        time.sleep(0.01)
