"""Bazel's built-in provider under a second name, since a file can't give a name to itself."""

NativeCcInfo = CcInfo
