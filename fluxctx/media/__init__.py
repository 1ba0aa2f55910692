"""The media room: every byte of a picture file is read and written in a confined child that holds no key.

`client.py` is the parent's side and imports neither Pillow nor numpy; everything else here runs in the child.
"""
