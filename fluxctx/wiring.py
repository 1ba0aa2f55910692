"""How the rooms are joined: each function opens one real part from settings and places.

runtime.py calls these when a command first needs the part; nothing here is imported before.
"""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluxctx import __version__, lifecycle
from fluxctx.config import Config, Places
from fluxctx.domain import Account, AccountId, Death, InstalledModel, RawImage, SweepResult, VaultId
from fluxctx.errors import HomeReadOnly, InvalidRequest, RegistryDamaged, TermsNotAccepted

if TYPE_CHECKING:
    from fluxctx.accounts.registry import Registry
    from fluxctx.engine.catalog import Catalog
    from fluxctx.engine.client import Engine
    from fluxctx.ledger.store import Ledger
    from fluxctx.media.client import MediaRoom
    from fluxctx.media.marks import Marks
    from fluxctx.passphrase import Passphrases
    from fluxctx.policy.filter import PolicyFilter
    from fluxctx.provenance.authority import Authority
    from fluxctx.runtime import Runtime
    from fluxctx.vault.paths import VaultPaths
    from fluxctx.vault.store import Vault

STARTER = Path(__file__).parent / "engine" / "starter"


# --- engine and media -----------------------------------------------------------------------------------


def open_catalog(places: Places) -> Catalog:
    """The installed models and the embedded one."""
    from fluxctx.engine.catalog import Catalog
    from fluxctx.engine.signatures import Signatures

    return Catalog(places.models, starter_dir=STARTER, signatures=Signatures(cache_dir=places.data / "cache"))


def open_catalog_starter() -> InstalledModel:
    """The embedded model's facts."""
    from fluxctx.engine.catalog import Catalog
    from fluxctx.engine.signatures import Signatures

    return Catalog(STARTER / "none", starter_dir=STARTER, signatures=Signatures()).find("starter")


def open_engine(catalog: Catalog, config: Config, timeout: Any) -> Engine:
    """The worker's client; nothing starts before `warm`."""
    from fluxctx.engine.client import Engine

    threads = int(config.get("threads")) or None
    return Engine(catalog, threads=threads, timeout_s=timeout.total_seconds() if timeout else None)


def marks(
    metadata: str,
    recipe: Any,
    *,
    edited: bool,
    authority: Authority | None = None,
    input_mime: str | None = None,
) -> Marks:
    """What a copy says of itself; with an authority it also carries a signed credential."""
    from fluxctx.media.marks import Credential, Marks
    from fluxctx.provenance.manifest import manifest
    from fluxctx.provenance.xmp import packet

    wanted: Any = metadata if recipe is not None or metadata != "full" else "minimal"
    origin: Any = "edited" if edited else "generated"
    credential = None
    if authority is not None:
        said = manifest(origin=origin, tool="fluxctx", version=__version__, input_mime=input_mime)
        credential = Credential(manifest=said, chain=authority.chain, sign=authority.sign)
    text = packet(origin=origin, tool=f"fluxctx {__version__}", metadata=wanted, recipe=recipe)
    return Marks(xmp=text, credential=credential)


def open_authority(places: Places, account: Account, vault: Vault, now: datetime) -> Authority:
    """The account's own signing authority for copies: made once, sealed under a secret of the vault, renewed."""
    from fluxctx.provenance.authority import Authority, make_authority, renew_leaf
    from fluxctx.vault import crypto

    path = vault_paths(places, account.vault_id).data / "authority.sealed"
    key, context = vault.secret("authority"), b"fluxctx/authority/1"
    if path.exists():
        authority = Authority.unpack(crypto.open_sealed(key, context, path.read_bytes()))
        if authority.leaf_ends_at() > now + timedelta(days=30):
            return authority
        authority = renew_leaf(authority, now)
    else:
        authority = make_authority(now)
    lifecycle.write_copy(path, crypto.seal(key, context, authority.pack()), force=True)
    return authority


# --- accounts -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MachineSealer:
    """Seals the account registry under this machine's key, which is read (or made) at first need."""

    key: Callable[[], bytes] = field(repr=False)

    def seal(self, context: bytes, data: bytes) -> bytes:
        from fluxctx.vault import crypto

        return crypto.seal(self.key(), context, data)

    def open(self, context: bytes, data: bytes) -> bytes:
        from fluxctx.vault import crypto

        return crypto.open_sealed(self.key(), context, data)


def open_registry(places: Places) -> Registry:
    """The accounts of this machine; nothing is written before the first account."""
    from fluxctx.accounts.registry import Registry

    path = places.data / "accounts.sealed"
    return Registry(path, MachineSealer(lambda: machine_key(places, create=not path.exists())))


def open_admission(runtime: Runtime) -> Any:
    """The first step of the flow, with the terms and plans in force."""
    from fluxctx.accounts.admission import Admission
    from fluxctx.accounts.plans import packaged_plans
    from fluxctx.accounts.terms import current_terms

    return Admission(
        record_of=runtime.registry().record,
        plans=packaged_plans(),
        terms=current_terms(),
        now=runtime.now,
        filter_holds=runtime.policy().full_strength,
    )


def longest_retention(runtime: Runtime) -> timedelta:
    """The plan's ceiling for the open account."""
    from fluxctx.accounts.plans import packaged_plans
    from fluxctx.accounts.record import plan_of

    record = runtime.registry().record(runtime.require_account().id)
    return plan_of(record, packaged_plans()).retention


def create_account(runtime: Runtime, invite: str | None) -> tuple[Account, Vault]:
    """Terms, passphrase, vault, registry, in that order: what fails leaves no half account.

    Raises TermsNotAccepted, VaultLocked, InvalidRequest.
    """
    from fluxctx.accounts.terms import current_terms
    from fluxctx.vault import unlocking
    from fluxctx.vault.store import create_vault, open_vault

    if not runtime.accepts_terms:
        raise TermsNotAccepted(
            "the acceptable-use terms are not accepted",
            hint="read `fluxctx terms show`, then add --accept-terms",
        )
    name = str(runtime.config.get("account"))
    secret = unlocking.passphrase(runtime.passphrases.require(confirm=True))
    vault_id, now = VaultId(secrets.token_hex(16)), runtime.now()
    paths = vault_paths(runtime.places, vault_id)
    refuse_network_file_system(runtime.places)
    testing = (
        runtime.config.switch("FLUXCTX_TESTING_KDF") and "PYTEST_CURRENT_TEST" in runtime.config.environment
    )
    kdf = crypto_params(testing)
    for directory in (runtime.places.data, runtime.places.state):
        private_directory(directory)
    create_vault(paths, vault_id, secret, kdf=kdf, now=now, allow_testing_kdf=testing)
    try:
        registry = runtime.registry()
        account = registry.create(
            name, AccountId(secrets.token_hex(16)), vault_id, now=now, invitation=invite
        )
        registry.record_terms(name, current_terms(), now=now)
    except BaseException:
        forget_vault(paths)
        raise
    vault = open_vault(paths, secret, now=now)
    ledger = open_account_ledger(runtime.places, account, vault)
    ledger.append("account-created", at=now, clear={}, sealed={"terms": current_terms().version})
    return account, vault


def crypto_params(testing: bool) -> Any:
    """Argon2id's cost on this machine; the weak one only while pytest runs."""
    from fluxctx.vault import unlocking
    from fluxctx.vault.crypto import TESTING_ONLY

    return TESTING_ONLY if testing else unlocking.calibrated()


# --- vault and ledger -------------------------------------------------------------------------------------------


def vault_paths(places: Places, vault_id: str) -> VaultPaths:
    from fluxctx.vault.paths import VaultPaths

    return VaultPaths(data=places.data / "vaults" / vault_id, state=places.state / "vaults" / vault_id)


def unlock(places: Places, account: Account, passphrases: Passphrases, now: datetime) -> Vault:
    """Open an account's vault with a key file or a passphrase; raises VaultLocked, WrongPassphrase, VaultDamaged."""
    from fluxctx.vault import unlocking
    from fluxctx.vault.store import open_vault

    content = passphrases.key_file()
    secret = (
        unlocking.key_file(content) if content is not None else unlocking.passphrase(passphrases.require())
    )
    return open_vault(vault_paths(places, account.vault_id), secret, now=now)


@dataclass(frozen=True, slots=True)
class LedgerKeys:
    """The ledger's keys, derived from secrets that lie sealed in the vault's index."""

    seed: bytes = field(repr=False)
    box: bytes = field(repr=False)

    @property
    def public_key(self) -> bytes:
        from fluxctx.vault import crypto

        return crypto.public_key(self.seed)

    def sign(self, message: bytes) -> bytes:
        from fluxctx.vault import crypto

        return crypto.sign(self.seed, message)

    def seal(self, context: bytes, data: bytes) -> bytes:
        from fluxctx.vault import crypto

        return crypto.seal(self.box, context, data)

    def open(self, context: bytes, data: bytes) -> bytes:
        from fluxctx.vault import crypto

        return crypto.open_sealed(self.box, context, data)

    def digest(self, purpose: bytes, data: bytes) -> bytes:
        from fluxctx.vault import crypto

        return crypto.keyed_digest(self.box, purpose, data)


def verify_signature(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Ed25519, for a room that has no ciphers of its own."""
    from fluxctx.vault import crypto

    return crypto.verify(public_key, signature, message)


def open_account_ledger(places: Places, account: Account, vault: Vault | None) -> Ledger:
    """An account's ledger; without the open vault only clear entries can be written."""
    from fluxctx.ledger.store import open_ledger

    keys = LedgerKeys(vault.secret("ledger-signing"), vault.secret("ledger-sealing")) if vault else None
    return open_ledger(places.data / "ledgers" / account.vault_id, keys, verify=verify_signature)


def sweep_home(runtime: Runtime) -> SweepResult:
    """Sweep every vault of this home without any key; the deaths go into each one's ledger, unsigned."""
    from fluxctx.vault.sweep import sweep

    results = []
    root = runtime.places.state / "vaults"
    for state in sorted(root.iterdir()) if root.is_dir() else []:
        paths = vault_paths(runtime.places, state.name)
        if paths.keys.exists():
            write = functools.partial(note_deaths, runtime.places, state.name)
            result = sweep(paths, now=runtime.now(), running_s=runtime.running_s(), on_deaths=write)
            runtime.unsettled[state.name] = result.unsettled
            results.append(result)
    return SweepResult(
        deaths=tuple(death for result in results for death in result.deaths),
        freed_bytes=sum(result.freed_bytes for result in results),
        closed=sum(result.closed for result in results),
        busy=sum(result.busy for result in results),
        damaged=sum(result.damaged for result in results),
    )


def note_deaths(places: Places, vault_id: str, deaths: Sequence[Death]) -> None:
    """Enter a batch of deaths into a vault's ledger, without its keys."""
    from fluxctx.ledger.store import open_ledger

    ledger = open_ledger(places.data / "ledgers" / vault_id, None, verify=verify_signature)
    ledger.append_deaths(deaths, at=max(death.at for death in deaths))


def forget_vault(paths: VaultPaths) -> None:
    """Destroy a vault's keys in place, then remove its files."""
    import shutil

    size = paths.keys.stat().st_size
    with paths.keys.open("r+b") as file:
        file.write(bytes(size))
        file.flush()
        os.fsync(file.fileno())
    shutil.rmtree(paths.state)
    shutil.rmtree(paths.data)


# --- policy -------------------------------------------------------------------------------------------------------


def open_policy(places: Places, config: Config, media: Callable[[], MediaRoom]) -> PolicyFilter:
    """The content policy in force."""
    from fluxctx.policy.filter import open_filter

    def score(image: RawImage) -> float:
        return float(media().classify(image)["sexual_explicit"])

    return open_filter(profile=str(config.get("policy")), classify_image=score)


# --- places -----------------------------------------------------------------------------------------------


def private_directory(path: Path) -> Path:
    """Make a directory for its owner alone."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        if error.errno == 28:
            raise
        raise HomeReadOnly(
            "the home cannot be written", hint="check its mode and mount, or set FLUXCTX_HOME"
        ) from error
    return path


NETWORK_FILE_SYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "fuse.sshfs",
    "ceph",
    "glusterfs",
    "afs",
}
KEEPS_OLD_BLOCKS = {
    "btrfs": "copy on write",
    "zfs": "copy on write",
    "overlay": "unmeasured",
    "apfs": "unmeasured",
}


def refuse_network_file_system(places: Places) -> None:
    """Locks and in-place overwriting mean nothing there."""
    if file_system_of(places.state) in NETWORK_FILE_SYSTEMS:
        raise InvalidRequest("the home is on a network file system", hint="set FLUXCTX_HOME to a local disk")


def file_system_of(path: Path) -> str:
    """The type of the file system that a place is or will be on; empty where the system does not say."""
    from fluxctx.lifecycle import file_system

    return file_system(nearest(path))


def storage_warnings(places: Places) -> list[tuple[str, str]]:
    """What an in-place overwrite cannot promise on this file system."""
    kind = file_system_of(places.state)
    if kind in {"ext4", "ext3", "xfs", "tmpfs", ""}:
        return []
    why = KEEPS_OLD_BLOCKS.get(kind, "unmeasured")
    return [
        ("storage_keeps_old_blocks", f"on {kind} ({why}) an overwritten key may stay on the disk for a while")
    ]


def nearest(path: Path) -> Path:
    """The path itself or its nearest parent that exists."""
    while not path.exists():
        path = path.parent
    return path


def machine_key(places: Places, *, create: bool) -> bytes:
    """The 32 bytes that seal the account registry on this machine, 0600; a fresh one where nothing is sealed yet.

    Raises RegistryDamaged when accounts are sealed and the key is gone.
    """
    path = places.config / "machine.key"
    if path.exists():
        return path.read_bytes()
    if not create:
        raise RegistryDamaged(
            "this machine's key is missing", hint="put config/machine.key back from a backup"
        )
    private_directory(places.config)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    key = secrets.token_bytes(32)
    with open(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key
