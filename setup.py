"""The one thing that pyproject.toml cannot say: the committed results go into the wheel.

They live in data/benchmark and data/search, once; a build copies them to anneal_utils/_data, where
``anneal_utils._places.committed`` reads them. An editable install reads them where they are.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DATA = Path("data")
KINDS = ("benchmark", "search")


class Build(build_py):
    """The package's modules, and the results beside them."""

    def _results(self) -> dict[str, str]:
        """File of the repository by file of the build."""
        there, found = Path(self.build_lib) / "anneal_utils" / "_data", {}
        for kind in KINDS:
            files = sorted(path for path in (DATA / kind).rglob("*") if path.is_file())
            if not files:
                raise SystemExit(f"{DATA / kind} has no files: the wheel would have no results.")
            found |= {str(there / path.relative_to(DATA)): str(path) for path in files}
        return found

    def run(self):
        """Build, and copy."""
        super().run()
        if not self.editable_mode:
            for target, source in self._results().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def get_outputs(self, include_bytecode=1):
        """What the build has made."""
        results = [] if self.editable_mode else list(self._results())
        return super().get_outputs(include_bytecode) + results

    def get_source_files(self):
        """What the sdist has to hold."""
        return super().get_source_files() + list(self._results().values())


setup(cmdclass={"build_py": Build})
