"""The workspace that embeds weir, built by a Bazel of its own without a network."""

import pathlib
import subprocess

WORKSPACE = pathlib.Path(__file__).resolve().parent / "workspace"


def build(output, *arguments):
    """Builds with these arguments, below this folder."""
    has_modules = pathlib.Path("/usr/share/bazel/rules").exists()   # Debian's Bazel 7
    modules = ["--config=debian", "--lockfile_mode=off"] if has_modules else []
    subprocess.run(["bazel", "--batch", f"--output_user_root={output}", "build", *arguments,
                    "--spawn_strategy=local", "--experimental_repository_disable_download",
                    "--experimental_convenience_symlinks=ignore", *modules],
                   cwd=WORKSPACE, check=True)
