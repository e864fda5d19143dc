"""The release of archfind."""

VERSION = "0.1.0"
