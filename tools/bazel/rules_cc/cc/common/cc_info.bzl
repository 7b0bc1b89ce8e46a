"""What a C++ rule tells its dependents."""

load("//cc/private:native.bzl", "NativeCcInfo")

CcInfo = NativeCcInfo
