"""Bazel's built-in rule under the name that newer versions have it by."""

sh_test = native.sh_test
