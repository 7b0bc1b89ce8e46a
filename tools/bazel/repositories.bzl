"""What WORKSPACE declares: the parser of HTTP that is installed, and what Bazel would fetch for its
own use, as a few lines of ours that hand out its built-in rules.

A build then needs nothing but the packages of the distribution.
"""

def _bundled_repository_impl(ctx):
    folder = ctx.path(Label("//tools/bazel:BUILD")).dirname.get_child(ctx.name)
    for entry in folder.readdir():
        ctx.symlink(entry, entry.basename)

_bundled_repository = repository_rule(implementation = _bundled_repository_impl, local = True)

# The parsers that handlers/http/parse.c can use, the better first: header and library.
_PARSERS = [
    ("llhttp", "llhttp.h"),
    ("http_parser", "http_parser.h"),
]

def _is_installed(ctx, header):
    cc = ctx.os.environ.get("CC", "cc")
    return ctx.execute([cc, "-E", "-include", header, "-xc", "/dev/null"]).return_code == 0

def _system_repository_impl(ctx):
    wanted = ctx.os.environ.get("WEIR_HTTP_PARSER")
    parsers = [
        name
        for name, header in _PARSERS
        if (not wanted or name == wanted) and _is_installed(ctx, header)
    ]
    if not parsers:
        fail("neither libllhttp-dev nor libhttp-parser-dev is installed (see tools/setup)")

    # By the archive's name, so that libweir.a can contain it (tools/package/archive.bzl).
    ctx.file("BUILD.bazel", """
load("@rules_cc//cc:defs.bzl", "cc_library")

cc_library(
    name = "http_parser",
    defines = ["WEIR_HTTP_PARSER_{macro}"],
    linkopts = ["-l:lib{name}.a"],
    visibility = ["//visibility:public"],
)
""".format(name = parsers[0], macro = parsers[0].upper()))

# Made anew whenever Bazel starts its server, or $WEIR_HTTP_PARSER, which may name a parser, changes.
system_repository = repository_rule(
    implementation = _system_repository_impl,
    environ = ["CC", "WEIR_HTTP_PARSER"],
    configure = True,
    local = True,
)

def weir_repositories():
    """Declares what the workspace has not declared before."""
    for name in ["remote_coverage_tools", "rules_cc", "rules_java", "rules_shell"]:
        if not native.existing_rule(name):
            _bundled_repository(name = name)
    if not native.existing_rule("weir_system"):
        system_repository(name = "weir_system")
