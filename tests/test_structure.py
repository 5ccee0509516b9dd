"""The house keeps its order."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A module imports only from floors below its own, and from its own.
FLOORS = [
    ["errors", "types"],
    ["utils"],
    ["config"],
    ["serving"],
    ["ops"],
    ["networks"],
    ["envs", "monitoring"],
    ["algos"],
    ["training"],
    ["watch"],
    ["runs", "integrations"],
    ["experiments"],
    ["cli"],
    ["__main__"],
]
ORDER = {name: number for number, names in enumerate(FLOORS) for name in names}
# The only modules that import TF-Agents.
TF_AGENTS = {
    f"integrations.tf_agents.{name}"
    for name in ("agent", "environments", "policy", "replay", "trajectories")
}


def modules():
    return sorted((ROOT / "tfmix").rglob("*.py"))


def imports(file, top_only=False):
    """Names of the modules that a file imports, `from tfmix import x` as `tfmix.x`."""
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_for(file):
    return ".".join(file.relative_to(ROOT / "tfmix").with_suffix("").parts).removesuffix(
        ".__init__"
    )


def test_no_module_is_longer_than_a_reader_can_keep_in_mind():
    for file in modules():
        assert len(file.read_text().splitlines()) <= 350, file


def test_a_module_imports_only_from_floors_below_it():
    for file in modules():
        own = name_for(file).split(".")[0]
        for name in imports(file) if own != "__init__" else ():
            parts = name.split(".")
            if parts[0] == "tfmix" and len(parts) > 1 and parts[1] in ORDER and parts[1] != own:
                assert ORDER[parts[1]] < ORDER[own], f"{name_for(file)} imports {name}"


def test_every_module_is_on_a_floor():
    assert {name_for(f).split(".")[0] for f in modules()} - {"__init__"} == set(ORDER)


def test_tf_agents_is_imported_by_its_integration_alone():
    for file in modules():
        words = [
            node.value
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Constant)
        ]
        used = any(isinstance(w, str) and w.startswith("tf_agents.") for w in words)
        assert used == (name_for(file) in TF_AGENTS), file


def test_the_python_lane_and_the_names_need_no_tensorflow():
    code = (
        "import sys, main, tfmix.algos, tfmix.experiments;"
        "import tfmix.envs.python.adapters.custom, tfmix.envs.python.adapters.games;"
        "import tfmix.envs.check;"
        "sys.exit(int(any(m in sys.modules for m in ('tensorflow', 'tf_keras', 'gymnasium'))))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_tensorflow_first_with_keras_3_is_one_clear_error():
    first = "import sys, types; sys.modules['tensorflow'] = types.ModuleType('tensorflow')"
    code = f"{first}; import tfmix"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env={"PATH": ""}
    )
    assert done.returncode == 1 and "import tfmix before tensorflow" in done.stderr


def test_settings_page_is_what_the_declarations_say():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import make_settings
    finally:
        sys.path.pop(0)
    assert (ROOT / "docs" / "settings.md").read_text() == make_settings.page(), "run make docs"


def test_paper_flagfiles_and_algorithms_are_complete():
    from tfmix.algos import REGISTRY

    for name in REGISTRY:
        assert (ROOT / "flags" / "algo" / f"{name}.flags").is_file()
    single = ["vdn_two_step", "qmix_two_step"]
    single += [f"{name}_matrix" for name in REGISTRY if name != "iql"]
    experiments = ["spread", "stag_hunt", "climbing_penalty", "gaussian_squeeze"]
    experiments += ["showcase", "speaker_listener", "predator_prey_qtran", "foraging"]
    experiments += ["qtran_base_21x21", "qtran_alt_21x21"]
    for name in single + experiments:
        assert (ROOT / "flags" / "paper" / f"{name}.flags").is_file()
    for name in (
        "pymarl",
        "pymarl2",
        "epymarl",
        "wqmix",
        "jaxmarl_mpe",
        "qtran_authors",
        "qtran_paper",
    ):
        assert (ROOT / "flags" / "preset" / f"{name}.flags").is_file()
