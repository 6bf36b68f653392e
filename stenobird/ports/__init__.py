"""The ports of the service: Protocols between features and their implementations, and the records they use.

One module per feature. A port exists only where there are several implementations, or a fake; each has one
contract suite under `tests/contract` that every implementation passes. `Clock`, `Wakeups` and `JobObserver`
need nothing but the standard library, so they are their own default implementation. What is imported here is
what the package exports.
"""

from stenobird.ports.accounts import (
    AccountBilling,
    AccountRecord,
    AccountState,
    AuditEntry,
    Caller,
    KeyMode,
    KeyRecord,
    KeyScope,
    NewKey,
    Tier,
    UsageRecord,
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
    Gap,
    GapReason,
    MediaOrigin,
    OpenedMedia,
    Title,
    VerdictSink,
)
from stenobird.ports.jobs import (
    RESULT_READY,
    TERMINAL,
    Attempt,
    CarryPoint,
    Claim,
    EventRow,
    JobChange,
    JobExtra,
    JobObserver,
    JobPage,
    JobRecord,
    JobStatus,
    Lease,
    Mode,
    NewEvent,
    NewJob,
    Origin,
    QueueSwitch,
    ResumePoint,
    StopRequest,
    UploadedFile,
    UsageRow,
)
from stenobird.ports.speech import (
    Lane,
    RecognitionOptions,
    SpeechCheckpoint,
    SpeechRecognizer,
    Translator,
    VoiceFinder,
    WindowResult,
)
from stenobird.ports.wakeups import Clock, Wakeups, Watch
