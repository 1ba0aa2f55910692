"""Answers every frame with the same frame."""


def main(channel):
    while True:
        frame = channel.recv()
        channel.send(frame.kind, frame.head, frame.blob)
