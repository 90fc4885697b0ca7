"""The build: setup.cfg has everything except the files that a source distribution holds besides the package."""

from setuptools import setup
from setuptools.command.sdist import sdist


class SourceDistribution(sdist):
    """A source distribution with the tests, and with all files that the tests read."""

    def make_distribution(self) -> None:
        """Add the files that setuptools does not add by itself."""
        for folder in ("tests", "notebooks", ".ci", ".docs", ".github"):
            self.filelist.graft(folder)
        self.filelist.recursive_include("rxws", "README.rst")
        self.filelist.include(".ruff.toml")
        self.filelist.global_exclude("*.py[cod]")
        super().make_distribution()


setup(cmdclass={"sdist": SourceDistribution})
