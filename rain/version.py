"""The release and the protocol spoken, said once."""

VERSION = "0.1.0"
PROTOCOL = 1
