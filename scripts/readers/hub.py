"""Has huggingface_hub and its command line download from the loopback Hub, whose protocol is then not our invention.

    HF_ENDPOINT=… HF_TOKEN=… HF_HOME=… hub.py FOLDER NAME

FOLDER is what the Hub serves as NAME, which is private. HF_HOME/hub holds the repo afterwards. A line of JSON a check.
"""

import filecmp
import json
import os
import subprocess
import sys
import tempfile

os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from huggingface_hub import HfApi, __version__, get_safetensors_metadata, hf_hub_download, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError

folder, name = sys.argv[1:]


def same(other):
    names = sorted(os.listdir(folder))
    _, different, missing = filecmp.cmpfiles(folder, other, names, shallow=False)
    assert not different and not missing, f"{different} differ, {missing} are missing"
    return f"{len(names)} files"


def snapshot():
    return same(snapshot_download(name))


def info():
    info = HfApi().model_info(name, files_metadata=False)
    tree = {entry.path: entry for entry in HfApi().list_repo_tree(name)}
    assert sorted(file.rfilename for file in info.siblings) == sorted(os.listdir(folder)) == sorted(tree)
    assert tree["model.safetensors"].lfs.size == os.path.getsize(os.path.join(folder, "model.safetensors"))
    return f"commit {info.sha[:8]}, private {info.private}"


def one_commit():
    commit = HfApi().model_info(name).sha
    path = hf_hub_download(name, "config.json", revision=commit)
    assert commit in path, path
    return "config.json of that commit"


def ranges():
    metadata = get_safetensors_metadata(name)
    return f"a header of {len(metadata.weight_map)} tensors, read by range"


def command_line():
    with tempfile.TemporaryDirectory() as local:
        subprocess.run([os.path.join(os.path.dirname(sys.executable), "hf"), "download", name, "--local-dir", local], check=True, capture_output=True)
        return same(local)


def without_token():
    try:
        HfApi(token=False).model_info(name)
    except RepositoryNotFoundError as error:
        return f"refused with {error.response.status_code}"
    raise AssertionError("a private repo was shown")


for check in [info, snapshot, one_commit, ranges, command_line, without_token]:
    try:
        ok, detail = True, check()
    except Exception as error:
        ok, detail = False, f"{type(error).__name__}: {error} {getattr(error, 'stderr', b'') or ''}"
    print(json.dumps({"case": f"huggingface_hub {__version__} on the loopback Hub", "check": check.__name__, "ok": ok, "detail": detail}))
