"""What is shipped: every folder of the source is in the wheel, and the documents agree with the metadata."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]


def folders_with_modules(top: Path) -> set[Path]:
    return {p.parent.relative_to(ROOT) for p in top.rglob("*.py")}


def folder_of(package: str) -> Path:
    """Return the folder setuptools takes a package from: the longest prefix in package-dir counts."""
    parts = package.split(".")
    for k in range(len(parts), 0, -1):
        home = SETUPTOOLS["package-dir"].get(".".join(parts[:k]))
        if home is not None:
            return Path(home, *parts[k:])
    return Path(*parts)


def test_every_folder_of_the_source_is_a_package_of_the_wheel() -> None:
    listed = {folder_of(package) for package in SETUPTOOLS["packages"]}
    assert listed == folders_with_modules(ROOT / "graphprune") | folders_with_modules(ROOT / "passes")


def test_every_package_is_a_regular_one() -> None:
    for package in SETUPTOOLS["packages"]:
        assert (ROOT / folder_of(package) / "__init__.py").is_file(), package


def test_every_entry_point_names_a_module_that_is_shipped() -> None:
    scripts, passes = PYPROJECT["project"]["scripts"], PYPROJECT["project"]["entry-points"]["graphprune.passes"]
    for target in [*scripts.values(), *passes.values()]:
        package, _, name = target.partition(":")[0].rpartition(".")
        module = ROOT / folder_of(package) / name
        assert module.with_suffix(".py").is_file() or (module / "__init__.py").is_file(), target


def test_torch_is_no_dependency_and_its_versions_are_the_tested_ones() -> None:
    project = PYPROJECT["project"]
    assert not [d for d in project["dependencies"] if d.startswith("torch")]
    for extra in ("torch", "test"):
        assert "torch>=2.7,<2.14" in project["optional-dependencies"][extra]


def test_the_changelog_begins_with_the_version() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    first = next(line for line in lines if line.startswith("## "))
    assert PYPROJECT["project"]["version"] in first


def commands_of_readme() -> list[str]:
    found, inside = [], False
    for line in (ROOT / "README.md").read_text().splitlines():
        inside = line == "```sh" if line.startswith("```") else inside
        if inside and line.startswith("pip install"):
            found.append(line)
    return found


def test_the_readme_shows_two_commands_that_install_and_do_something() -> None:
    prune, test = commands_of_readme()
    assert prune.startswith("pip install . && graphprune examples/text_direction.onnx --budget 0.5")
    assert test == 'pip install ".[test]" && pytest'


@pytest.mark.parametrize("document", ["README.md", "CHANGELOG.md", "docs/decisions.md", "examples/README.md"])
def test_local_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    targets = [part.split(")")[0].split("#")[0] for part in path.read_text().split("](")[1:]]
    missing = [t for t in targets if t and "://" not in t and not (path.parent / t).exists()]
    assert not missing


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert PYPROJECT["project"]["license"] == "Apache-2.0"
