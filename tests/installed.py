"""What tools/install installs, unpacked for tests of programs that embed it."""

import pathlib
import re
import subprocess
import tempfile


def unpack(case, package):
    """The folder that the package is in for as long as this class of tests runs."""
    directory = tempfile.TemporaryDirectory()
    case.addClassCleanup(directory.cleanup)
    subprocess.run(["tar", "-xf", package, "-C", directory.name], check=True)
    return pathlib.Path(directory.name)


def libraries(prefix):
    """What a program is linked with, of weir.pc, but for the folder."""
    pc = (prefix / "lib/pkgconfig/weir.pc").read_text()
    return re.search(r"^Libs: \S+ (.*)$", pc, re.MULTILINE).group(1).split()
