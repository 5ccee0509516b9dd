"""The package: what a wheel holds, and that it works outside of the checkout."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tfmix

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(name):
    """Returns the packages of a requirements file that are not of another one."""
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-r"))]


def test_dependencies_are_those_of_the_requirements_files():
    plain = [re.sub(r"; python_version.*", "", one) for one in PROJECT["dependencies"]]
    assert sorted(plain) == sorted(requirements("requirements.txt"))
    for extra, found in PROJECT["optional-dependencies"].items():
        file = f"requirements-{extra}.txt"
        if (ROOT / file).exists():
            assert sorted(found) == sorted(requirements(file)), extra
    assert {"gpu", "dev", "docs", "serve", "export"} <= set(PROJECT["optional-dependencies"])


def test_there_is_one_version():
    assert PROJECT["dynamic"] == ["version"] and re.fullmatch(r"\d+\.\d+\.\d+", tfmix.__version__)


def test_modules_run_the_command_line_by_name_and_by_path(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for words in (["-m", "tfmix"], [str(ROOT / "tfmix" / "__main__.py")]):
        done = subprocess.run(
            [sys.executable, *words, "--version"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.stdout.startswith(f"tfmix {tfmix.__version__}, "), done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tfmix", folder / "tfmix", ignore=ignored)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", folder / "dist", folder],
        capture_output=True,
        text=True,
    )
    if "No matching distribution found for setuptools" in done.stderr:
        pytest.skip("pip cannot fetch setuptools, which builds the wheel")
    assert done.returncode == 0, done.stderr
    (found,) = (folder / "dist").glob("tfmix-*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_flagfile(wheel):
    files = [file for file in (ROOT / "tfmix").rglob("*") if file.suffix in (".py", ".flags")]
    names = {str(file.relative_to(ROOT)) for file in files}
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
    assert len(names) > 100 and names | {"tfmix/py.typed"} <= found
    assert not any(name.startswith("tests") for name in found)


@pytest.mark.slow
def test_the_wheel_trains_outside_of_the_checkout(wheel, tmp_path):
    target, place = tmp_path / "target", tmp_path / "place"
    place.mkdir()
    install = ["-m", "pip", "install", "--no-deps", "-q", "--target", target, wheel]
    subprocess.run([sys.executable, *install], check=True, capture_output=True)
    words = ["--algo=qtran_alt", "--env=two_step", "--env_steps=64", "--run_dir=run"]
    words += ["--flagfile=flags/preset/pymarl.flags", "--batch_episodes=8"]
    done = subprocess.run(
        [sys.executable, target / "bin" / "tfmix", *words],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "flagfiles: flags/env/two_step.flags, flags/algo/qtran_alt.flags" in done.stdout
    assert "evaluate     tfmix --mode=evaluate --run_dir=run" in done.stdout
    assert (place / "run" / "export" / "saved_model.pb").is_file()
    assert str(ROOT) not in (place / "run" / "run.json").read_text()
