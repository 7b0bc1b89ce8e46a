"""The rule of tests that are scripts, in a file that programs which embed weir do not load."""

load("@rules_shell//shell:sh_test.bzl", "sh_test")

def weir_script_test(name, src, size = "medium", **kwargs):
    """An executable script. What it prints may count cases as cmocka or Python's unittest do."""
    sh_test(
        name = name,
        size = size,
        srcs = [src],
        **kwargs
    )
