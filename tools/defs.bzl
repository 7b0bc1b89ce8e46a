"""The rules that weir's own code is built with: the rules of C plus our language and warnings.

Warnings become errors in .bazelrc, so that a program which embeds weir is not broken by a newer
compiler's opinion of it.
"""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")

_WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wpointer-arith",
    "-Wundef",
    "-Wvla",
]

# A frame that is larger than a guard is touched page by page, so that it can't step over it. A
# function that has an array, or hands out the address of a local, notices that one was overrun.
_ALWAYS = ["-fstack-clash-protection", "-fstack-protector-strong"]

# Newer compilers reject liburcu's headers without _GNU_SOURCE. Bazel compiles with -fPIC, which must
# not stop the compiler from inlining a function that another library could replace.
_C = ["-std=c17", "-D_GNU_SOURCE", "-fno-semantic-interposition"] + _ALWAYS + _WARNINGS + [
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Wconversion",
    "-Wno-sign-conversion",
]

_CXX = ["-std=c++17"] + _ALWAYS + _WARNINGS

# cmocka 2 has deprecated assert_in_range, and cmocka 1 has nothing else.
_CMOCKA = ["-Wno-deprecated-declarations"]

def weir_cc_library(name, copts = [], **kwargs):
    """A C library, whose objects go into programs directly."""
    cc_library(name = name, copts = _C + copts, linkstatic = True, **kwargs)

def weir_module(name, folder = None, file = None, srcs = [], hdrs = [], **kwargs):
    """A module: the library of FILE.h, of FILE.c unless it is a header alone, of srcs and hdrs.

    FILE is NAME unless it is given. All of them are in the folder of that name below the package.
    """
    below = folder + "/" if folder else ""
    file = below + (file or name)
    weir_cc_library(
        name = name,
        srcs = native.glob([file + ".c"], allow_empty = True) + [below + src for src in srcs],
        hdrs = [file + ".h"] + [below + hdr for hdr in hdrs],
        **kwargs
    )

def weir_cc_binary(name, copts = [], **kwargs):
    """A C program."""
    cc_binary(name = name, copts = _C + copts, **kwargs)

def weir_cxx_binary(name, copts = [], **kwargs):
    """A C++ program."""
    cc_binary(name = name, copts = _CXX + copts, **kwargs)

def weir_cc_test(name, copts = [], deps = [], size = "medium", **kwargs):
    """A cmocka program. A minute would do, but not for a sanitizer on a machine that is busy."""
    cc_test(
        name = name,
        size = size,
        copts = _C + _CMOCKA + copts,
        deps = deps + ["//tools/bazel/system:cmocka"],
        **kwargs
    )

def weir_cxx_test(name, copts = [], deps = [], size = "medium", **kwargs):
    """A cmocka program in C++."""
    cc_test(
        name = name,
        size = size,
        copts = _CXX + _CMOCKA + copts,
        deps = deps + ["//tools/bazel/system:cmocka"],
        **kwargs
    )

def weir_cxx_library(name, copts = [], **kwargs):
    """A library that benchmarks share, in C++."""
    cc_library(
        name = name,
        testonly = True,
        copts = _CXX + copts,
        linkstatic = True,
        **kwargs
    )

def weir_cc_benchmark(name, copts = [], deps = [], **kwargs):
    """A Google Benchmark program, in C++."""
    cc_binary(
        name = name,
        testonly = True,
        copts = _CXX + copts,
        deps = deps + ["//tools/bazel/system:benchmark"],
        **kwargs
    )

def weir_fuzz_target(name, copts = [], linkopts = [], deps = []):
    """A function of bytes that tests/fuzz/input.h declares, in NAME.c: a program for tools/fuzz, and a test.

    The program has the fuzzer's own main. The test has replay.c's, and gives the function each line
    of NAME.txt and of the corpus.
    """
    inputs = native.glob([name + ".txt", "corpus/%s.txt" % name])
    weir_cc_binary(
        name = name,
        testonly = True,
        srcs = [name + ".c"],
        copts = copts,
        linkopts = linkopts,
        tags = ["manual"],
        deps = deps + [":input"],
    )
    cc_test(
        name = name + "_test",
        size = "medium",
        srcs = [name + ".c"],
        args = ["$(location %s)" % file for file in inputs],
        copts = _C + copts,
        data = inputs,
        linkopts = linkopts,
        deps = deps + [
            ":input",
            ":replay",
        ],
    )
