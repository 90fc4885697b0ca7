"""The build: everything is said in setup.cfg, but for what a source distribution holds besides the package."""

from setuptools import setup
from setuptools.command.sdist import sdist


class SourceDistribution(sdist):
    """With the tests and all that they read, so that whoever has it can run them."""

    def make_distribution(self) -> None:
        """Add the files that setuptools does not know of."""
        for folder in ("tests", "notebooks", ".ci", ".docs", ".github"):
            self.filelist.graft(folder)
        self.filelist.recursive_include("rxws", "README.rst")
        self.filelist.include(".ruff.toml")
        self.filelist.global_exclude("*.py[cod]")
        super().make_distribution()


setup(cmdclass={"sdist": SourceDistribution})
