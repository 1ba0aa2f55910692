"""What copies say about themselves, and what anyone may read out of one.

`xmp.py` words the packet, `verify.py` reads what a file asserts.  The bytes are media/'s business.
"""
