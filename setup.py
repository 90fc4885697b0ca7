"""The build. setup.cfg configures it, except for the additional files of the source distribution."""

from setuptools import setup
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


setup(cmdclass={"sdist": SourceDistribution})
