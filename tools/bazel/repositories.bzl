"""What Bazel would fetch for its own use, as a few lines of ours that hand out its built-in rules.

A build then needs nothing but the packages of the distribution.
"""

def _bundled_repository_impl(ctx):
    folder = ctx.path(Label("//tools/bazel:BUILD")).dirname.get_child(ctx.name)
    for entry in folder.readdir():
        ctx.symlink(entry, entry.basename)

_bundled_repository = repository_rule(implementation = _bundled_repository_impl, local = True)

def weir_repositories():
    """Declares what the workspace has not declared before."""
    for name in ["remote_coverage_tools", "rules_cc", "rules_java", "rules_shell"]:
        if not native.existing_rule(name):
            _bundled_repository(name = name)
