"""The real libraries under every layer: the same pixels, no connection, nothing written."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fluxctx.confined.probe import run_probe
from fluxctx.confined.spawn import ENVIRONMENT, Grants

KIDS = Path(__file__).parent / "kids"


def outside(module: str, code: str) -> dict:
    """Run a kid's function without any sandbox, in the same environment and with one thread."""
    program = (
        f"import sys, json; sys.path.insert(0, {str(KIDS)!r}); import {module};"
        f"print(json.dumps({module}.{code}))"
    )
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    words = [sys.executable, "-I", "-B", "-W", "ignore", "-c", program]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_generation_gives_the_same_float_bytes_inside_and_outside(start_kid, model):
    child = start_kid("kid_generation", grants=Grants(read=(model,)))
    layers = child.ready()
    assert layers.enforced
    results = {}
    for dtype in ("float32", "bfloat16"):
        child.channel.send("go", {"model": model, "seeds": [7, 8], "dtype": dtype})
        results[dtype] = child.channel.recv().head["sha256"]
        expected = outside("kid_generation", f"generate({model!r}, seeds=(7, 8), dtype={dtype!r})")["sha256"]
        assert results[dtype] == expected
        assert len(set(expected)) == 2
    assert results["float32"] != results["bfloat16"]


@pytest.mark.slow
def test_a_worker_that_has_generated_is_still_refused_every_way_out(start_kid, model):
    prelude = (
        "import kid_generation; from fluxctx.confined import attempts\n"
        "def both(channel):\n"
        "    head = channel.recv().head\n"
        "    channel.send('done', kid_generation.generate(head['model']))\n"
        "    attempts.main(channel)\n"
        "kid_generation.main = both"
    )
    child = start_kid("kid_generation", prelude=prelude, grants=Grants(read=(model,)))
    child.ready()
    child.channel.send("go", {"model": model})
    assert child.channel.recv().kind == "done"
    report = run_probe(child)
    assert report.kept
    assert report.hits == ()


@pytest.mark.slow
def test_an_ordinary_user_generates_the_same_float_bytes_under_every_layer(as_nobody, run_python, model):
    code = NOBODY.format(kids=str(KIDS), model=model)
    uid, layers, digests = json.loads(run_python(code, command=as_nobody, timeout=200))
    assert uid == 65534
    assert layers["seccomp"]
    assert layers["caps_dropped"]
    assert digests == outside("kid_generation", f"generate({model!r})")["sha256"]


NOBODY = """
import dataclasses, json, os, sys
from fluxctx.confined import spawn as spawning
spawning.child_command = lambda module, fd, grants: [sys.executable, "-I", "-B", "-c",
    f"import sys; sys.path.insert(0, {kids!r}); sys.argv = ['kid', {{module!r}}, '{{fd}}'];"
    "from fluxctx.confined import child; child.run()"]
with spawning.spawn("kid_generation", grants=spawning.Grants(read=({model!r},))) as child:
    layers = dataclasses.asdict(child.ready())
    child.channel.send("go", dict(model={model!r}))
    print(json.dumps([os.getuid(), layers, child.channel.recv().head["sha256"]]))
"""


def test_what_libraries_ask_of_their_machine_has_an_answer(start_kid):
    child = start_kid("kid_questions")
    child.ready()
    child.channel.send("go", {})
    answers = child.channel.recv().head
    assert "failed after" not in answers, answers["failed after"]
    assert answers["threads"] == [n * n for n in range(8)]
    assert answers["mime"][0] == "image/png"
    assert answers["home"] == "/nonexistent"
    assert answers["user"] == "fluxctx"
    assert answers["tty"] is False


WORKERS_IMPORT = """
torch torch._dynamo torch._inductor torch.utils.data safetensors.torch accelerate tokenizers
transformers.models.clip.modeling_clip transformers.models.t5.modeling_t5
transformers.models.qwen2_5_vl.modeling_qwen2_5_vl diffusers.pipelines.flux.pipeline_flux_kontext
diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl diffusers.pipelines.wan.pipeline_wan
diffusers.pipelines.auto_pipeline diffusers.modular_pipelines diffusers.loaders.peft
PIL.ImageFont PIL.ImageCms
"""
OPTIONAL = ["av", "c2pa", "onnxruntime", "gguf", "peft", "torchao", "torchvision", "sentencepiece", "scipy"]


@pytest.mark.slow
def test_everything_that_the_workers_import_is_imported_under_every_layer(start_kid):
    child = start_kid("kid_imports")
    child.ready()
    child.channel.send("go", {"names": [*WORKERS_IMPORT.split(), *OPTIONAL]})
    failed = child.channel.recv().head["failed"]
    absent = {name for name, reason in failed.items() if name in OPTIONAL and reason == f"missing {name}"}
    assert {name: reason for name, reason in failed.items() if name not in absent} == {}


def test_pictures_are_decoded_and_encoded_under_the_floor(start_kid):
    child = start_kid("kid_media")
    child.ready()
    child.channel.send("go", {})
    done = child.channel.recv().head
    assert done["digests"] == outside("kid_media", "work()")
    assert len(set(done["digests"].values())) >= 2


def test_a_classifiers_runtime_runs_under_the_floor(start_kid):
    pytest.importorskip("onnxruntime", reason="the classifier's runtime is not installed")
    child = start_kid("kid_media")
    child.ready()
    child.channel.send("go", {}, matmul_model())
    try:
        done = child.channel.recv().head
    except EOFError:
        pytest.fail(f"{child.wait(5)}\n{child.stderr_tail()[-2000:]}")
    assert "CPUExecutionProvider" in done["providers"]
    assert done["result"] == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]
    assert "telemetry" not in child.stderr_tail().lower()


def matmul_model() -> bytes:
    """An ONNX file by hand (onnx.proto): y = x @ w, w = 0..8 as 3 x 3."""
    import struct

    def field(number: int, content: bytes | str | int) -> bytes:
        if isinstance(content, int):
            return bytes([number << 3]) + varint(content)
        raw = content.encode() if isinstance(content, str) else content
        return bytes([number << 3 | 2]) + varint(len(raw)) + raw

    def varint(value: int) -> bytes:
        out = bytearray()
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        return bytes([*out, value])

    def tensor_type(name: str) -> bytes:
        dimensions = b"".join(field(1, field(1, 3)) for _ in range(2))
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dimensions)))

    node = field(1, "x") + field(1, "w") + field(2, "y") + field(4, "MatMul")
    weights = (
        field(1, 3) + field(1, 3) + field(2, 1) + field(8, "w") + field(9, struct.pack("<9f", *range(9)))
    )
    ends = field(11, tensor_type("x")) + field(12, tensor_type("y"))
    graph = field(1, node) + field(2, "g") + field(5, weights) + ends
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))


# --- the whole run, watched by strace -----------------------------------------------------------------

TRACED = """
import sys
from fluxctx.confined import spawn as spawning
spawning.child_command = lambda module, fd, grants: [sys.executable, "-I", "-B", "-c",
    f"import sys; sys.path.insert(0, {kids!r}); sys.argv = ['kid', {module!r}, '{{fd}}'];"
    "from fluxctx.confined import child; child.run()"]
with spawning.spawn({module!r}, grants=spawning.Grants(read=({model!r},))) as child:
    child.ready()
    child.channel.send("go", {head!r})
    print(child.channel.recv().kind)
    child.channel.close()
    child.wait(20)
"""

OPENED_FOR_WRITING = re.compile(
    r"\bopen(?:at|at2)?\(.*(?:O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_TMPFILE).*\) += \d"
)
CHANGES = (
    "connect|bind|listen|sendto|sendmsg|sendmmsg|socket|creat|mkdir|mkdirat|rename|renameat|renameat2|unlink"
    "|unlinkat|rmdir|link|linkat|symlink|symlinkat|truncate|ftruncate|fallocate|chmod|fchmod|fchmodat|chown"
    "|fchown|fchownat|utimensat|setxattr|mknod|mknodat|execve|execveat|fork|vfork|memfd_create|ptrace|kill"
)
SUCCEEDED = re.compile(rf"^\d+ +(?:(?:{CHANGES})\(|<\.\.\. (?:{CHANGES}) resumed>).*\) += \d")


def trace_of_child(strace: str, log: Path, code: str) -> list[str]:
    """Every line of the confined child after its floor was set, whatever its thread."""
    words = [
        strace,
        "-f",
        "-o",
        str(log),
        "-e",
        "trace=all",
        "-s",
        "64",
        sys.executable,
        "-I",
        "-B",
        "-c",
        code,
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=290, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "done", done.stderr[-3000:]
    lines = log.read_text(errors="replace").splitlines()
    start = next(
        at for at, line in enumerate(lines) if re.search(r" seccomp\(SECCOMP_SET_MODE_FILTER.*\) += 0", line)
    )
    child = lines[start].split()[0]
    family = {child}
    for line in lines:
        made = re.match(r"^(\d+) +(?:<\.\.\. )?clone3?\b.* = (\d+)$", line)
        if made and made[1] in family:
            family.add(made[2])
    return [line for line in lines[start + 1 :] if line.split()[0] in family]


def check_trace(lines: list[str]) -> None:
    assert len(lines) > 100
    assert [line for line in lines if SUCCEEDED.match(line)] == []
    assert [line for line in lines if OPENED_FOR_WRITING.search(line)] == []
    assert not any(" connect(" in line or " sendto(" in line for line in lines), "not even tried"


def test_decoding_pictures_opens_nothing_for_writing_and_connects_nowhere(strace, tmp_path):
    code = TRACED.format(kids=str(KIDS), module="kid_media", model="/nonexistent", head={})
    check_trace(trace_of_child(strace, tmp_path / "trace", code))


@pytest.mark.slow
def test_a_whole_generation_opens_nothing_for_writing_and_connects_nowhere(strace, tmp_path, model):
    code = TRACED.format(
        kids=str(KIDS), module="kid_generation", model=model, head={"model": model, "steps": 1}
    )
    lines = trace_of_child(strace, tmp_path / "trace", code)
    check_trace(lines)
    assert any("model.safetensors" in line for line in lines)


def test_the_trace_would_show_a_write_and_a_connection(strace, tmp_path):
    """The regular expressions above see what they are meant to see."""
    target = tmp_path / "written"
    code = (
        f"import os, socket; open({str(target)!r}, 'w'); os.chmod({str(target)!r}, 384);"
        "socket.socket().bind(('127.0.0.1', 0)); os.fork()"
    )
    log = tmp_path / "trace"
    words = [strace, "-f", "-o", str(log), sys.executable, "-I", "-B", "-W", "ignore", "-c", code]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    lines = log.read_text().splitlines()
    assert any(OPENED_FOR_WRITING.search(line) and "written" in line for line in lines)
    seen = " ".join(line.split("(")[0] for line in lines if SUCCEEDED.match(line))
    assert "socket" in seen
    assert "bind" in seen
    assert "chmod" in seen
