"""Has huggingface_hub and its command line read from and write to the loopback Hub, whose protocol is then not our invention.

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

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, __version__, get_safetensors_metadata, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

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


def missing():
    for error, arguments in [(EntryNotFoundError, {"filename": "no.json"}), (RevisionNotFoundError, {"filename": "config.json", "revision": "no"})]:
        try:
            hf_hub_download(name, **arguments)
        except error:
            continue
        raise AssertionError(f"no {error.__name__}")
    return "a file and a revision"


def upload():
    api, to = HfApi(), "me/uploaded"
    api.create_repo(to, private=True)
    api.create_repo(to, exist_ok=True)
    api.upload_folder(repo_id=to, folder_path=folder)
    assert api.model_info(to).private
    return f"{same(snapshot_download(to))} as {api.whoami()['name']}, the weights in parts"


def upload_command_line():
    subprocess.run([os.path.join(os.path.dirname(sys.executable), "hf"), "upload", "me/uploaded-2", folder, "."], check=True, capture_output=True)
    return same(snapshot_download("me/uploaded-2"))


def staged():
    """What a push does: shards first, one by one, and then all in one commit."""
    api, to = HfApi(), "me/staged"
    api.create_repo(to)
    shard = CommitOperationAdd("a.safetensors", b"\0" * 1000)
    api.preupload_lfs_files(to, [shard])
    assert api.list_repo_files(to) == [".gitattributes"], "a shard is there before its commit"
    api.create_commit(to, [shard, CommitOperationAdd("b.json", b"{}")], commit_message="both")
    api.create_commit(to, [CommitOperationDelete("b.json")], commit_message="one")
    assert sorted(api.list_repo_files(to)) == [".gitattributes", "a.safetensors"]
    return f"{len(api.list_repo_commits(to))} commits"


def pull_request():
    api, to = HfApi(), "me/asked"
    api.create_repo(to)
    commit = api.create_commit(to, [CommitOperationAdd("a.txt", b"a")], commit_message="a", create_pr=True)
    assert commit.pr_revision == "refs/pr/1", commit.pr_revision
    assert "a.txt" in api.list_repo_files(to, revision="refs/pr/1")
    assert "a.txt" not in api.list_repo_files(to)
    api.create_branch(to, branch="other")
    api.upload_file(repo_id=to, path_or_fileobj=b"b", path_in_repo="b.txt", revision="other")
    return f"{commit.pr_url.rsplit('/', 2)[1]} 1, and branches {sorted(ref.name for ref in api.list_repo_refs(to).branches)}"


def parent_commit():
    api, to = HfApi(), "me/asked"
    parent = api.model_info(to).sha
    api.upload_file(repo_id=to, path_or_fileobj=b"c", path_in_repo="c.txt", parent_commit=parent)
    try:
        api.upload_file(repo_id=to, path_or_fileobj=b"d", path_in_repo="d.txt", parent_commit=parent)
    except HfHubHTTPError as error:
        return f"refused with {error.response.status_code} once another commit has come between"
    raise AssertionError("a commit was put where its parent is not")


for check in [info, snapshot, one_commit, ranges, command_line, without_token, missing, upload, upload_command_line, staged, pull_request, parent_commit]:
    try:
        ok, detail = True, check()
    except Exception as error:
        ok, detail = False, f"{type(error).__name__}: {error} {getattr(error, 'stderr', b'') or ''}"
    print(json.dumps({"case": f"huggingface_hub {__version__} on the loopback Hub", "check": check.__name__, "ok": ok, "detail": detail}))
