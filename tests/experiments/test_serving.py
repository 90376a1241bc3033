"""Who may reach the study that a search serves to its workers."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc
import optuna
import pytest
from optuna.storages import GrpcStorageProxy
from tests.experiments import searches

from evenhand.errors import EvenhandError
from evenhand.experiments import study_storage as storages
from evenhand.experiments.study_serving import Access, StudyProxy, serve_storage
from evenhand.experiments.study_storage import open_storage
from evenhand.experiments.trials import search
from evenhand.search.study import open_study
from evenhand.workers import NetworkHost, SocketFolder, WorkerSettings, open_engine
from evenhand.workers.local import private_folder

LISTENING = "0A"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gRPC has no Unix sockets there")


@pytest.fixture
def storage(tmp_path):
    opened = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    optuna.create_study(storage=opened, study_name="run/search")
    return opened


@pytest.fixture(params=["socket", "port"])
def place(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("a 100%41 #b?")
    return SocketFolder(folder) if request.param == "socket" else NetworkHost("127.0.0.1")


def named(access: Access) -> list[str]:
    proxy = StudyProxy(access)
    try:
        return [study.study_name for study in proxy.get_all_studies()]
    finally:
        proxy.close()


def test_workers_with_the_token_see_the_study(storage, place):
    with serve_storage(storage, place) as access:
        assert named(access) == ["run/search"]
        assert named(pickle.loads(pickle.dumps(access))) == ["run/search"]  # as it travels
        assert access.token not in repr(access)


@pytest.mark.parametrize("token", ["", "wrong", "é"])
def test_a_call_without_the_token_is_refused(storage, place, token):
    with serve_storage(storage, place) as access:
        for call in (
            lambda proxy: proxy.get_all_studies(),
            lambda proxy: proxy.delete_study(1),
            lambda proxy: proxy.create_new_study([optuna.study.StudyDirection.MINIMIZE], "x"),
        ):
            proxy = StudyProxy(Access(access.target, token.encode("ascii", "ignore").decode()))
            with pytest.raises(grpc.RpcError) as refused:
                call(proxy)
            proxy.close()
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert named(access) == ["run/search"]


def test_a_message_without_the_token_is_not_read(storage, place):
    """A message that is read is refused for its size; without the token it does not come so far."""
    message = bytes(65 * 2**20)
    for token, code in (("", "UNAUTHENTICATED"), (None, "RESOURCE_EXHAUSTED")):
        with serve_storage(storage, place) as access:
            used = access if token is None else Access(access.target, token)
            with used.channel() as channel:
                call = channel.unary_unary("/optuna.StorageService/GetStudyNameFromId")
                with pytest.raises(grpc.RpcError) as refused:
                    call(message, timeout=60)
        assert refused.value.code() is grpc.StatusCode[code]


@pytest.mark.parametrize("name", ["203.0.113.5", "no-host.invalid"])
def test_an_address_where_nothing_can_listen(storage, name):
    with (
        pytest.raises(EvenhandError, match=f"cannot be served to its workers at {name}:0"),
        serve_storage(storage, NetworkHost(name)),
    ):
        pass


def test_optunas_own_proxy_is_refused(storage):
    with serve_storage(storage, NetworkHost("127.0.0.1")) as access:
        host, port = access.target.split(":")
        with pytest.warns(optuna.exceptions.ExperimentalWarning):
            proxy = GrpcStorageProxy(host=host, port=int(port))
        with pytest.raises(grpc.RpcError, match="served to its own workers only"):
            proxy.get_all_studies()
        proxy.close()


def test_each_search_has_a_token_of_its_own(storage, place):
    with serve_storage(storage, place) as access:
        first = access.token
    with serve_storage(storage, place) as access:
        assert access.token != first
        assert len(access.token) >= 32


def test_the_socket_of_local_workers_is_private(storage):
    with open_engine(WorkerSettings(workers=2)) as engine:
        folder = engine.meeting_point.folder
        with serve_storage(storage, engine.meeting_point):
            mode = stat.S_IMODE(folder.stat().st_mode)
            assert mode == 0o700
            assert folder.stat().st_uid == os.getuid()
            assert (folder / "study.sock").is_socket()
        assert "study.sock" not in [path.name for path in folder.iterdir()]
    assert not folder.exists()


def ports(process: int) -> set[str]:
    """Return the TCP ports that a process listens on, as `ss -ltnp` has them from the kernel."""
    sockets = {
        str(link.readlink()) for link in Path(f"/proc/{process}/fd").iterdir() if link.is_symlink()
    }
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[1] for row in lines if row[3] == LISTENING and f"socket:[{row[9]}]" in sockets}


def ports_here(choice, report):
    """Be a trial that tells where its worker and the driver listen."""
    listening = ports(os.getpid()) | ports(os.getppid())
    assert not listening, listening
    return searches.good_units(choice, report)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's list of sockets")
def test_no_port_listens_for_local_workers(storage, importable_tests):
    with socket.create_server(("127.0.0.1", 0)):
        assert len(ports(os.getpid())) == 1  # so that the check can fail
    study = open_study(storage, "run/ports", ["maximize"], "same", prune_until=2)
    with open_engine(WorkerSettings(workers=2, worker_cpus=1)) as engine:
        search(study, searches.space(), ports_here, 3, 0, engine)
    assert len(study.get_trials()) == 3


@pytest.fixture
def certificate(tmp_path):
    """A certificate that is made out to 127.0.0.1, and its key."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("no openssl")
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    words = "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 2 -subj /CN=node"
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]]
    subprocess.run([openssl, *words.split(), *more], check=True, capture_output=True)
    return files


def test_a_certificate_is_shown_and_asked_for(storage, certificate):
    with serve_storage(storage, NetworkHost("127.0.0.1", *certificate)) as access:
        assert named(access) == ["run/search"]
        plain = StudyProxy(Access(access.target, access.token))
        with pytest.raises(ConnectionError):
            plain.wait_server_ready(1)
        plain.close()


@pytest.mark.parametrize("wrong", ["absent", "no PEM"])
def test_a_certificate_that_is_none(storage, certificate, wrong):
    certificate[1].unlink() if wrong == "absent" else certificate[1].write_text("nothing")
    with (
        pytest.raises(EvenhandError, match=r"--tls-key .*tls\.key cannot be used"),
        serve_storage(storage, NetworkHost("127.0.0.1", *certificate)),
    ):
        pass


def test_a_full_disk_reaches_the_worker_as_one_text(storage, place, caplog):
    """And the driver's log shows no traceback."""
    with serve_storage(storage, place) as access:
        storage.remove_session()
        proxy = StudyProxy(access)
        storage._backend.engine.dispose()
        with storage._backend.engine.connect() as base:
            base.exec_driver_sql("DROP TABLE studies")
        with (
            pytest.raises(EvenhandError, match="no such table: studies"),
            storages.storage_errors("study.db"),
        ):
            proxy.create_new_study([optuna.study.StudyDirection.MINIMIZE], "x")
        proxy.close()
    assert "Traceback" not in caplog.text


def test_folders_of_dead_processes_are_removed(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        check_removed(Path(short), monkeypatch)


def check_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import os; from evenhand.workers.local import private_folder; "
        "folder = private_folder(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)})
    (left,) = tmp_path.iterdir()
    with private_folder() as first, private_folder() as second:
        assert not left.exists()
        assert {Path(first), Path(second)} == set(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


def test_a_long_temporary_folder_still_has_room_for_a_socket(storage, tmp_path, monkeypatch):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with private_folder() as folder, serve_storage(storage, SocketFolder(Path(folder))) as access:
        assert named(access) == ["run/search"]
