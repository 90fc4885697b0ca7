"""The build. setup.cfg configures it, except for the packages and the additional files of the source distribution."""

from setuptools import find_packages, setup
from setuptools.command.sdist import sdist


class SourceDistribution(sdist):
    """A source distribution that contains the tests and all files that the tests read."""

    def make_distribution(self) -> None:
        """Add the files that setuptools does not add by itself."""
        for folder in ("tests", "notebooks", ".ci", ".docs", ".github"):
            self.filelist.graft(folder)
        self.filelist.recursive_include("rxws", "README.rst")
        self.filelist.include(".ruff.toml")
        self.filelist.global_exclude("*.py[cod]")
        super().make_distribution()


setup(
    # The command's first module must not be in rxws, whose import Ctrl-C may interrupt.
    packages=[*find_packages(include=["rxws*"], exclude=["rxws.cli.command"]), "rxws_command"],
    package_dir={"rxws_command": "rxws/cli/command"},
    cmdclass={"sdist": SourceDistribution},
)
