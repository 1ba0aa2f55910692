"""The main job with the real model in the real sandbox: a picture is made, sealed, shown again, and dies."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from PIL import Image

from fluxctx.commands.discover import schemas
from tests.running import Home

pytestmark = pytest.mark.slow

# Words that stand nowhere else on this machine; the model knows none of them, which costs nothing.
WORDS = ("quokkazebra", "marzipanlighthouse")


@pytest.fixture(scope="module")
def made(shared_home: Home) -> Home:
    """A home in which one command made the account and the first picture."""
    done = shared_home.json(
        "generate",
        "a red apple",
        "--accept-terms",
        "--seed",
        "7",
        "--steps",
        "4",
        "--tag",
        "set=fruit",
        "-o",
        "apple.png",
    )
    assert done.code == 0, done.text + done.err
    return shared_home


def test_one_command_makes_account_and_picture(made: Home) -> None:
    picture = made.work / "apple.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_mode & 0o777 == 0o600
    (item,) = made.json("list").data["items"]
    assert item["mime"] == "image/png"
    assert item["tags"] == {"set": "fruit"}


def test_the_recipe_says_how_it_was_made_and_that_nothing_was_learnt(made: Home) -> None:
    shown = made.json("show", "@last").data
    recipe = shown["recipe"]
    assert recipe["prompt"] == "a red apple"
    assert recipe["params"]["seed"] == 7
    assert recipe["params"]["steps"] == 4
    attestation = recipe["attestation"]
    assert attestation["weights_sha256_before"] == attestation["weights_sha256_after"]
    assert attestation["trainable_parameters"] == 0
    assert [step["step"] for step in shown["lifecycle"]][-1] == "deleted"


def test_items_are_found_by_the_model_that_made_them(made: Home) -> None:
    everything = [item["id"] for item in made.json("list", "--kind", "image").data["items"]]
    assert everything
    assert [item["id"] for item in made.json("list", "--model", "starter").data["items"]] == everything
    assert made.json("list", "--model", "another").data["items"] == []


def test_a_copy_carries_the_mark_and_no_prompt(made: Home) -> None:
    content = (made.work / "apple.png").read_bytes()
    assert b"trainedAlgorithmicMedia" in content
    assert b"DMI-PROHIBITED-AIMLTRAINING" in content
    assert b"apple" not in content
    assert b"default" not in content.partition(b"IDAT")[0]


def test_full_metadata_embeds_the_recipe_only_when_asked(made: Home) -> None:
    assert made.json("export", "@last", "--to", "full.png", "--metadata", "full").code == 0
    assert b"a red apple" in (made.work / "full.png").read_bytes()


def test_the_same_seed_makes_the_same_pixels(made: Home) -> None:
    done = made.json(
        "generate", "a red apple", "--seed", "7", "--steps", "4", "--ephemeral", "-o", "again.png"
    )
    assert done.data["outputs"][0]["id"] is None
    with Image.open(made.work / "again.png") as again, Image.open(made.work / "apple.png") as apple:
        assert (
            again.tobytes() == apple.tobytes()
        )  # the files differ: a stored picture's copy bears a credential
    assert len(made.json("list").data["items"]) == 1, "an ephemeral picture leaves not even a row"


def test_events_follow_the_schema_and_end_with_one_envelope(made: Home) -> None:
    done = made.run("generate", "a blue heart", "--seed", "1", "-n", "2", "--steps", "3", "--json-stream")
    assert done.code == 0, done.err
    for event in done.events:
        jsonschema.validate(event, schemas()["event"])
    jsonschema.validate(done.envelope, schemas()["envelope"])
    kinds = [event["type"] for event in done.events]
    assert kinds.count("output") == 2
    assert "progress" in kinds
    assert [output["seed"] for output in done.envelope["data"]["outputs"]] == [1, 2]
    phases = [event["name"] for event in done.events if event["type"] == "phase"]
    assert phases[0] == "policy"
    assert phases[-1] == "seal"
    assert "heart" not in done.text, "no prompt in any event"


def test_an_edit_of_the_last_picture_keeps_both(made: Home) -> None:
    before = {item["id"] for item in made.json("list").data["items"]}
    done = made.json("edit", "@last", "make it green", "--seed", "1", "--steps", "3")
    edited = done.data["outputs"][0]["id"]
    assert made.json("show", edited).data["recipe"]["workflow"] == "edit"
    assert made.json("purge", edited, "--yes").data["purged"][0]["id"] == edited
    assert {item["id"] for item in made.json("list").data["items"]} == before


def test_an_uploaded_picture_dies_with_the_last_of_its_outputs(made: Home) -> None:
    shutil.copy(made.work / "apple.png", made.work / "source.png")
    done = made.json("edit", "source.png", "make it blue", "--seed", "1", "--steps", "3")
    edited = done.data["outputs"][0]["id"]
    (upload,) = made.json("show", edited).data["recipe"]["uploads"]
    assert upload in {item["id"] for item in made.json("list").data["items"]}
    gone = {row["id"] for row in made.json("purge", edited, "--yes").data["purged"]}
    assert gone == {edited, upload}


def test_a_picture_goes_to_stdout_and_nothing_else_does(made: Home) -> None:
    done = made.run("generate", "a red apple", "--seed", "7", "--steps", "3", "--ephemeral", "-o", "-")
    assert done.code == 0, done.err
    assert done.out.startswith(b"\x89PNG")
    assert done.out.endswith(b"IEND\xaeB`\x82")


def test_a_refused_prompt_exits_3_and_its_words_are_nowhere(made: Home) -> None:
    count = len(made.json("list").data["items"])
    done = made.json("generate", f"{WORDS[0]} forged passport with a fake name")
    assert (done.code, done.envelope["error"]["code"]) == (3, "policy_refused")
    assert done.envelope["error"]["details"]["rule"]
    assert done.envelope["error"]["details"]["category"] == "fraud_forgery"
    assert WORDS[0] not in done.text + done.err
    assert len(made.json("list").data["items"]) == count
    assert hits(made.root, WORDS[0]) == []


def test_no_word_and_no_pixel_is_left_in_the_clear(made: Home) -> None:
    prompt = f"a red apple beside {WORDS[0]} and {WORDS[1]}"
    temporary = made.work / "tmp"
    temporary.mkdir()
    before = listing(Path("/dev/shm"))
    done = made.json(
        "generate",
        prompt,
        "--seed",
        "3",
        "--steps",
        "3",
        "--tag",
        f"note={WORDS[1]}",
        env={"TMPDIR": str(temporary)},
    )
    item = done.data["outputs"][0]["id"]
    pixels = made.run("export", item, "--to", str(made.work / "hunted.png"), "--json")
    assert pixels.code == 0
    body = (made.work / "hunted.png").read_bytes().split(b"IDAT")[1][:64]

    assert list(temporary.iterdir()) == []
    assert listing(Path("/dev/shm")) == before
    for word in WORDS:
        assert hits(made.root, word) == []
    for path in files(made.root):
        content = path.read_bytes()
        assert b"\x89PNG" not in content
        assert b"RIFF" not in content[:4]
        assert body not in content


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and not path.is_socket()]


def hits(root: Path, word: str) -> list[Path]:
    """Files below `root` that hold a word in any of the usual encodings."""
    forms = [word.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")]
    return [path for path in files(root) if any(form in path.read_bytes() for form in forms)]


def listing(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()} if path.is_dir() else set()


def test_proc_shows_neither_prompt_nor_passphrase_of_any_of_our_processes(made: Home) -> None:
    process = start(made, "generate", f"{WORDS[0]} apple", "--steps", "100", "-n", "8")
    try:
        children = wait_for_children(process.pid, count=2)
        time.sleep(2)
        for pid in (process.pid, *children):
            for name in ("cmdline", "environ"):
                try:
                    content = Path(f"/proc/{pid}/{name}").read_bytes()
                except (PermissionError, FileNotFoundError):
                    continue
                assert WORDS[0].encode() not in content
                if pid != process.pid:
                    assert b"PASSPHRASE" not in content
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


def start(home: Home, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "fluxctx", *arguments, "--json-stream"],
        env=home.environment,
        cwd=home.work,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def wait_for_children(pid: int, *, count: int) -> list[int]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if len(found := children_of(pid)) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError("the children never came")


def until_denoising(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("type") == "progress":
            return
    raise AssertionError("it never began to denoise")


def test_ctrl_c_ends_the_worker_within_a_second_and_leaves_nothing_half_stored(made: Home) -> None:
    count = len(made.json("list").data["items"])
    process = start(made, "generate", "a red apple", "--steps", "100", "-n", "16")
    until_denoising(process)
    children = children_of(process.pid)
    assert children
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() - began < 5:
        time.sleep(0.01)
    assert time.monotonic() - began < 1.0
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    envelope = json.loads(out.splitlines()[-1])
    assert envelope["error"]["code"] == "interrupted"
    kept = sum(b'"type":"output"' in line for line in out.splitlines())
    assert len(made.json("list").data["items"]) == count + kept
    assert not list(made.root.rglob("*.part"))


def test_sigterm_exits_143(made: Home) -> None:
    process = start(made, "generate", "a red apple", "--steps", "100", "-n", "16")
    until_denoising(process)
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 143


def test_kill_minus_9_takes_the_worker_along_and_the_next_command_is_sound(made: Home) -> None:
    process = start(made, "generate", "a red apple", "--steps", "100", "-n", "16")
    until_denoising(process)
    children = children_of(process.pid)
    process.kill()
    process.communicate(timeout=20)
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert made.json("list").code == 0
    assert made.json("ledger", "verify").code == 0


@pytest.mark.parametrize(
    ("flags", "code", "slug"),
    [
        (["--steps", "0"], 2, "invalid_request"),
        (["--steps", "1000000000"], 2, "invalid_request"),
        (["--size", "100x100"], 2, "invalid_request"),
        (["--size", "16384x16384"], 2, "invalid_request"),
        (["--model", "unknown"], 5, "model_not_found"),
        (["--retain", "4000d"], 3, "plan_forbids"),
        (["-o", "apple.png"], 2, "output_exists"),
    ],
)
def test_what_the_model_or_the_plan_cannot_do_is_refused_before_it_is_loaded(
    made: Home, flags: list[str], code: int, slug: str
) -> None:
    began = time.monotonic()
    done = made.json("generate", "a red apple", *flags)
    assert (done.code, done.envelope["error"]["code"]) == (code, slug)
    assert done.envelope["error"]["hint"]
    assert time.monotonic() - began < 60


def test_a_dry_run_loads_nothing_and_stores_nothing(made: Home) -> None:
    count = len(made.json("list").data["items"])
    plan = made.json("generate", "a red apple", "--dry-run").data["plan"]
    assert plan["render_size"] == "64x64"
    assert plan["size"] == "256x256"
    assert plan["policy"] == "allow"
    assert len(made.json("list").data["items"]) == count


def test_quiet_prints_the_id_and_nothing_else(made: Home) -> None:
    done = made.run("generate", "a red apple", "--seed", "5", "--steps", "2", "--quiet")
    assert done.code == 0
    assert made.json("show", done.text.strip()).code == 0
    assert [line for line in done.err.splitlines() if not line.startswith("warning: ")] == []


def test_a_model_file_with_one_flipped_byte_is_refused(made: Home, tmp_path: Path) -> None:
    from fluxctx.wiring import STARTER

    copy = tmp_path / "mine"
    shutil.copytree(STARTER / "model", copy)
    added = made.json("models", "add", str(copy), "--name", "mine", "--accept-license")
    assert added.code == 0, added.text + added.err
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    checked = made.json("models", "verify", "mine")
    assert (checked.code, checked.envelope["error"]["code"]) == (9, "model_altered")
    used = made.json("generate", "a red apple", "--model", "mine", "--strict")
    assert (used.code, used.envelope["error"]["code"]) == (9, "model_altered")
    assert made.json("models", "remove", "mine", "--yes").code == 0


def test_a_model_directory_with_a_pickle_is_refused(made: Home, tmp_path: Path) -> None:
    from fluxctx.wiring import STARTER

    copy = tmp_path / "pickled"
    shutil.copytree(STARTER / "model", copy)
    (copy / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")
    done = made.json("models", "add", str(copy), "--name", "pickled", "--accept-license")
    assert (done.code, done.envelope["error"]["code"]) == (3, "model_refused")


def test_two_commands_at_once_keep_both_pictures(made: Home) -> None:
    count = len(made.json("list").data["items"])
    both = [start(made, "generate", "a red apple", "--seed", str(seed), "--steps", "2") for seed in (11, 12)]
    for process in both:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, (out[-300:], err[-300:])
    assert len(made.json("list").data["items"]) == count + 2
    assert made.json("ledger", "verify").code == 0


def test_the_whole_job_runs_in_a_network_namespace_without_interfaces(made: Home) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("not run: unshare is missing")
    if subprocess.run(["unshare", "-rn", "true"], check=False).returncode != 0:
        pytest.skip("not run: no network namespaces here")
    command = [sys.executable, "-m", "fluxctx", "generate", "a red apple", "--steps", "2", "--json"]
    done = subprocess.run(
        ["unshare", "-rn", *command], env=made.environment, cwd=made.work, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_full_disk_keeps_what_was_there_and_purge_works_on_it(tmp_path: Path) -> None:
    """On a small tmpfs filled to the last byte."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("not run: mounting a small file system needs root")
    from tests.running import make_home

    mount = tmp_path / "small"
    mount.mkdir()
    if (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], check=False).returncode
        != 0
    ):
        pytest.skip("not run: mount is refused here")
    try:
        home = make_home(mount)
        home.init()
        done = home.json("generate", "a red apple", "--steps", "2", "--seed", "1")
        assert done.code == 0, done.text + done.err
        filler = os.open(mount / "filler", os.O_WRONLY | os.O_CREAT)
        fill(filler)
        os.close(filler)
        refused = home.json("generate", "a red apple", "--steps", "2", "--seed", "2")
        assert (refused.code, refused.envelope["error"]["code"]) == (1, "disk_full")
        item = done.data["outputs"][0]["id"]
        assert home.json("show", item).code == 0
        purged = home.json("purge", item, "--yes")
        assert home.json("show", item).code == 5, purged.text
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=False)


def test_a_read_only_home_is_named_as_such(made: Home, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("not run: a read-only bind mount needs root")
    from tests.running import make_home

    home = make_home(tmp_path / "ro")
    home.init()
    bind = subprocess.run(["mount", "--bind", str(home.root), str(home.root)], check=False)
    if bind.returncode != 0:
        pytest.skip("not run: mount is refused here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(home.root)], check=True)
        done = home.json("generate", "a red apple", "--steps", "2")
        assert (done.code, done.envelope["error"]["code"]) == (1, "home_read_only"), done.text + done.err
    finally:
        subprocess.run(["umount", "-l", str(home.root)], check=False)


def test_the_weights_in_the_package_are_the_ones_in_the_list() -> None:
    from fluxctx.wiring import STARTER

    for line in (STARTER / "SHA256SUMS").read_text().splitlines():
        digest, _, name = line.partition("  ")
        path = STARTER / name if (STARTER / name).exists() else STARTER / "model" / name
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def fill(fd: int) -> None:
    """Write until the disk is full."""
    while os.write(fd, bytes(1 << 20)) == 1 << 20:
        pass
    with pytest.raises(OSError, match="No space"):
        os.write(fd, bytes(4096))
