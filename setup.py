"""The build: everything is said in setup.cfg, but for what a source distribution holds besides the package."""

from setuptools import setup
from setuptools.command.sdist import sdist


class SourceDistribution(sdist):
    """With the tests and all that they read, so that whoever has it can run them."""

    def add_defaults(self) -> None:
        """Add the files that setuptools does not know of."""
        super().add_defaults()
        for folder in ("tests", "notebooks", ".ci"):
            self.filelist.graft(folder)
        self.filelist.include(".ruff.toml")
        self.filelist.global_exclude("*.py[cod]", ".DS_Store")


setup(cmdclass={"sdist": SourceDistribution})
