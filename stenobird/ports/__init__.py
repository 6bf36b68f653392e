"""The ports of the service: Protocols between features and their implementations, and the records they use.

One module per feature. Each port has one contract suite under `tests/contract` that every implementation
passes. What is imported here is what the package exports.
"""

from stenobird.ports.accounts import (
    AccountBilling,
    AccountRecord,
    AccountStanding,
    AccountState,
    AccountStore,
    AuditEntry,
    Caller,
    KeyMode,
    KeyScope,
    NewAccount,
    Tier,
    UsageRecord,
    UsageStore,
    UsageSum,
    WalletEntry,
    WalletRecord,
)
from stenobird.ports.audio import (
    PCM,
    SAMPLE_RATE,
    AudioFinder,
    AudioLimits,
    AudioOpener,
    AudioRequest,
    AudioStream,
    FoundAudio,
    MediaOrigin,
    OpenedMedia,
    VerdictSink,
)
from stenobird.ports.clock import Clock
from stenobird.ports.idempotency import IdempotencyClaim, IdempotencyStore, StoredAnswer
from stenobird.ports.jobs import (
    CarryPoint,
    Claim,
    EventRow,
    JobChange,
    JobExtra,
    JobObserver,
    JobPage,
    JobRecord,
    JobStatus,
    JobStore,
    Lease,
    Mode,
    NewEvent,
    NewJob,
    Origin,
    OutboxRow,
    ResumePoint,
    ShareStore,
    UploadedFile,
    UsageRow,
)
from stenobird.ports.keys import KeyRecord, KeyStore, NewKey
from stenobird.ports.speech import Lane, RecognitionOptions, SpeechCheckpoint, SpeechRecognizer, WindowResult
from stenobird.ports.translation import Translation, Translator
from stenobird.ports.uploads import BlobStore, NewUpload, UploadRecord, UploadStore
from stenobird.ports.wakeups import Wakeups, Watch
from stenobird.ports.webhooks import WebhookTargets
