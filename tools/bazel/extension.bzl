"""The repository of repositories.bzl, for MODULE.bazel."""

load("//tools/bazel:repositories.bzl", "system_repository")

def _weir_system_impl(_ctx):
    system_repository(name = "weir_system")

weir_system = module_extension(implementation = _weir_system_impl)
