"""Every error that fluxctx raises for a person or a script, with its exit code and slug.

    FluxctxError                     1  bug
    +-- UsageError                   2  usage
    |   +-- InvalidRequest           2  invalid_request
    |   +-- UnknownParameter         2  unknown_parameter
    |   +-- QuestionNeedsTerminal    2  no_terminal
    |   +-- OutputExists             2  output_exists
    |   +-- OutputFailed             2  output_failed
    |   +-- MediaInvalid             2  media_invalid
    +-- Refused                      3  refused
    |   +-- PolicyRefused            3  policy_refused
    |   +-- PlanForbids              3  plan_forbids
    |   +-- AccountNotActive         3  account_not_active
    |   +-- TermsNotAccepted         3  terms_not_accepted
    |   +-- ModelRefused             3  model_refused
    |   +-- ConfinementUnavailable   3  confinement_unavailable
    +-- NotAuthorised                4  not_authorised
    |   +-- VaultLocked              4  vault_locked
    |   +-- WrongPassphrase          4  wrong_passphrase
    +-- NotFound                     5  not_found
    |   +-- ItemNotFound             5  item_not_found
    |   +-- ItemGone                 5  item_gone
    |   +-- ModelNotFound            5  model_not_found
    |   +-- AccountNotFound          5  account_not_found
    +-- NeedsNetwork                 6  needs_network
    +-- DoesNotFit                   7  does_not_fit
    +-- OutOfMemory                  7  out_of_memory
    +-- SomeFailed                   8  some_failed
    +-- IntegrityError               9  integrity
    |   +-- VaultDamaged             9  vault_damaged
    |   +-- VaultNewer               9  vault_newer
    |   +-- VaultRolledBack          9  vault_rolled_back
    |   +-- ModelAltered             9  model_altered
    |   +-- LedgerDamaged            9  ledger_damaged
    |   +-- CertificateRefused       9  certificate_refused
    |   +-- CertificateInvalid       9  certificate_invalid
    |   +-- PolicyDamaged            9  policy_damaged
    |   +-- RegistryDamaged          9  registry_damaged
    |   +-- PromiseNotKept           9  promise_not_kept
    +-- Busy                        10  busy
    |   +-- TimedOut                10  timed_out
    +-- StorageFailed                1  storage_failed
    |   +-- DiskFull                 1  disk_full
    |   +-- HomeReadOnly             1  home_read_only
    +-- EngineFailed                 1  engine_failed
    |   +-- WireError                1  wire_error
    +-- MediaFailed                  1  media_failed
    +-- HeldForReview               11  held_for_review
    +-- Interrupted                130  interrupted
    +-- Terminated                 143  terminated

A message is lower case without a full stop and never holds a prompt, a passphrase, a key or a path inside
the vault.  `hint` says what to do.  Slugs are stable; exit codes are the table in docs/reference/errors.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class FluxctxError(Exception):
    """The root: a message for a person, a slug and an exit code for a script."""

    slug = "bug"
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = dict(details or {})
        self.data: Mapping[str, object] | None = None  # what was measured before it failed


class UsageError(FluxctxError):
    """The command line or the request makes no sense."""

    slug, exit_code = "usage", 2


class InvalidRequest(UsageError):
    """A value is outside what the model or the format can do."""

    slug = "invalid_request"


class UnknownParameter(UsageError):
    """A field or flag that does not exist here."""

    slug = "unknown_parameter"


class QuestionNeedsTerminal(UsageError):
    """Something would have to be asked, and nobody is there to answer."""

    slug = "no_terminal"


class OutputExists(UsageError):
    """The copy's path is taken."""

    slug = "output_exists"


class OutputFailed(UsageError):
    """The copy could not be written where it was asked for."""

    slug = "output_failed"


class MediaInvalid(UsageError):
    """An uploaded file is not the picture or video it claims to be, or is too large."""

    slug = "media_invalid"


class Refused(FluxctxError):
    """Policy, plan or account status says no."""

    slug, exit_code = "refused", 3


class PolicyRefused(Refused):
    """The content policy blocks the request or the result; details: rule, category, stage."""

    slug = "policy_refused"


class PlanForbids(Refused):
    """The account's plan does not include this model, workflow or value."""

    slug = "plan_forbids"


class AccountNotActive(Refused):
    """The account is restricted or suspended."""

    slug = "account_not_active"


class TermsNotAccepted(Refused):
    """The acceptable-use terms in force have not been accepted."""

    slug = "terms_not_accepted"


class ModelRefused(Refused):
    """The model directory holds something that is never loaded (pickle, code, unknown modules)."""

    slug = "model_refused"


class ConfinementUnavailable(Refused):
    """The kernel cannot confine the worker; nothing is generated without that."""

    slug = "confinement_unavailable"


class NotAuthorised(FluxctxError):
    """No key, or the wrong one."""

    slug, exit_code = "not_authorised", 4


class VaultLocked(NotAuthorised):
    """A passphrase is needed and none was given."""

    slug = "vault_locked"


class WrongPassphrase(NotAuthorised):
    """No key slot opens with this secret."""

    slug = "wrong_passphrase"


class NotFound(FluxctxError):
    """It is not there."""

    slug, exit_code = "not_found", 5


class ItemNotFound(NotFound):
    """No item has this id in this vault."""

    slug = "item_not_found"


class ItemGone(NotFound):
    """The item expired or was purged; its key is destroyed or closed."""

    slug = "item_gone"


class ModelNotFound(NotFound):
    """No installed model has this name."""

    slug = "model_not_found"


class AccountNotFound(NotFound):
    """No account has this name on this machine."""

    slug = "account_not_found"


class NeedsNetwork(FluxctxError):
    """It would need a network, and there is none by design."""

    slug, exit_code = "needs_network", 6


class DoesNotFit(FluxctxError):
    """The plan does not fit the device's memory; details say by how much."""

    slug, exit_code = "does_not_fit", 7


class OutOfMemory(FluxctxError):
    """Memory ran out after every fallback."""

    slug, exit_code = "out_of_memory", 7


class SomeFailed(FluxctxError):
    """A batch finished with failures; see its events."""

    slug, exit_code = "some_failed", 8


class IntegrityError(FluxctxError):
    """Something stored was changed or damaged."""

    slug, exit_code = "integrity", 9


class VaultDamaged(IntegrityError):
    """A vault file failed authentication or its checksum."""

    slug = "vault_damaged"


class VaultNewer(IntegrityError):
    """The home was made by a newer version; it is left untouched."""

    slug = "vault_newer"


class VaultRolledBack(IntegrityError):
    """One of the vault's files is older than the others."""

    slug = "vault_rolled_back"


class ModelAltered(IntegrityError):
    """A model file differs from its recorded digest."""

    slug = "model_altered"


class LedgerDamaged(IntegrityError):
    """The ledger does not verify."""

    slug = "ledger_damaged"


class CertificateRefused(IntegrityError):
    """A check after the deletion failed, so no certificate says that it succeeded."""

    slug = "certificate_refused"


class CertificateInvalid(IntegrityError):
    """A certificate does not verify."""

    slug = "certificate_invalid"


class PolicyDamaged(IntegrityError):
    """The policy bundle is missing, altered, expired or rolled back; nothing is generated."""

    slug = "policy_damaged"


class RegistryDamaged(IntegrityError):
    """The account registry does not open under this machine's key."""

    slug = "registry_damaged"


class PromiseNotKept(IntegrityError):
    """`trust` found a promise that is not kept on this installation."""

    slug = "promise_not_kept"


class Busy(FluxctxError):
    """Another process holds what is needed; try again."""

    slug, exit_code = "busy", 10


class TimedOut(Busy):
    """The time that was allowed is over."""

    slug = "timed_out"


class StorageFailed(FluxctxError):
    """The operating system refused a write; nothing was acknowledged."""

    slug = "storage_failed"


class DiskFull(StorageFailed):
    """No space is left; purging works without any."""

    slug = "disk_full"


class HomeReadOnly(StorageFailed):
    """The home cannot be written."""

    slug = "home_read_only"


class EngineFailed(FluxctxError):
    """The worker died or the model code failed; nothing was stored."""

    slug = "engine_failed"


class WireError(EngineFailed):
    """What came over a confined child's channel is not a frame, or what should go is none."""

    slug = "wire_error"


class MediaFailed(FluxctxError):
    """The media child died at fluxctx's own pixels; nothing was stored."""

    slug = "media_failed"


class HeldForReview(FluxctxError):
    """The request waits for a reviewer, with its owner's consent."""

    slug, exit_code = "held_for_review", 11


class Interrupted(FluxctxError):
    """Ctrl-C; nothing is half stored."""

    slug, exit_code = "interrupted", 130


class Terminated(FluxctxError):
    """SIGTERM; nothing is half stored."""

    slug, exit_code = "terminated", 143


def registry() -> dict[str, type[FluxctxError]]:
    """Slug -> class, for `discover`, the reference page and the test that keeps them equal."""

    def walk(cls: type[FluxctxError]) -> Iterator[type[FluxctxError]]:
        yield cls
        for sub in cls.__subclasses__():
            yield from walk(sub)

    return {cls.slug: cls for cls in walk(FluxctxError)}
