//! What a refusal of the server means: HTTP status, `errorcode`, `cserrorcode` and, as a last resort, its text. Pure.
//!
//! CloudStack uses 431 and 530 for nearly everything, so some texts are matched; each is quoted from the server's
//! source. Callers should still decide by reading the entity again wherever they can.

use std::time::Duration;

use model::FailureKind;

/// Longest server text kept, in characters: enough for the longest known message, too short for a stack trace.
const MAX_TEXT_CHARS: usize = 1_000;

/// The group a refusal belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalClass {
    /// Wrong key, wrong signature, expired request or disabled user.
    Unauthenticated,
    /// The role or account may not do this.
    Forbidden,
    /// A parameter names something that does not exist (any more).
    NotFound,
    /// The chosen id (`customid`) is taken: an earlier attempt succeeded.
    AlreadyExists,
    /// The volume is attached, and the call wants one that is not.
    Attached,
    /// The volume is not attached, and the call wants one that is.
    NotAttached,
    /// Another state of the world forbids it now (running, snapshots present, in use).
    Conflict,
    /// An account limit, a capacity or the number of device ids is used up.
    Exhausted,
    /// The server or something behind it cannot take the request now.
    Busy,
    /// A parameter is wrong.
    InvalidParameter,
    /// The server does not know the command or does not support it here.
    Unsupported,
    /// The server failed.
    Internal,
}

impl RefusalClass {
    /// The kind of failure.
    #[must_use]
    pub fn kind(self) -> FailureKind {
        match self {
            Self::Unauthenticated => FailureKind::Unauthenticated,
            Self::Forbidden => FailureKind::Forbidden,
            Self::NotFound => FailureKind::NotFound,
            Self::AlreadyExists | Self::Attached | Self::NotAttached | Self::Conflict => FailureKind::Conflict,
            Self::Exhausted => FailureKind::Exhausted,
            Self::Busy => FailureKind::Unavailable,
            Self::InvalidParameter | Self::Unsupported => FailureKind::Invalid,
            Self::Internal => FailureKind::Internal,
        }
    }

    /// What the operator can do.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Unauthenticated => {
                "check the API key and secret key of the target, that the user is enabled, and both clocks"
            }
            Self::Forbidden => "use the keys of an account whose role allows this command (root admin for replication)",
            Self::NotFound => "it was removed or belongs to another account; refresh and choose an existing one",
            Self::AlreadyExists => "nothing: an earlier attempt already made it and it can be adopted",
            Self::Attached => "detach the volume from its VM first",
            Self::NotAttached => "nothing, if it was to be detached; otherwise attach the volume first",
            Self::Conflict => "bring the VM or volume into the state the message asks for, then repeat",
            Self::Exhausted => "raise the account's limit or add capacity in CloudStack, then repeat",
            Self::Busy => "wait until the management server or storage answers again, then repeat",
            Self::InvalidParameter => "correct the value the message names",
            Self::Unsupported => "check the CloudStack version (4.18 or later) and the hypervisor",
            Self::Internal => "look into the management server's log at the time of this message",
        }
    }
}

/// What the server said when it refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The command, or the job's id for a failed job.
    pub command: String,
    /// `errorcode`, or the HTTP status when the body had none.
    pub error_code: u16,
    /// `cserrorcode` (the exception's class), when there was one.
    pub cs_error_code: Option<i64>,
    /// `errortext`, cut to a sane length, without credentials.
    pub text: String,
    /// What it means.
    pub class: RefusalClass,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Classifies what the server said.
    pub(crate) fn new(command: &str, error_code: u16, cs_error_code: Option<i64>, text: &str) -> Self {
        let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT_CHARS).collect();
        Self {
            command: command.to_owned(),
            error_code,
            cs_error_code,
            class: classify(error_code, cs_error_code, &text),
            retry_after: retry_after_in(&text),
            text,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let said = if self.text.is_empty() { "no reason given" } else { &self.text };
        write!(f, "CloudStack refused {} with {}: {said}", self.command, self.error_code)
    }
}

/// Parts of messages (lower case) that decide before any code does; the first match counts.
const TEXTS: [(&str, RefusalClass); 34] = [
    // Any parameter that takes a UUID.
    ("entity does not exist or due to incorrect parameter annotation", RefusalClass::NotFound),
    ("already exists so can't create/update with custom id", RefusalClass::AlreadyExists),
    ("specify a volume that is not attached to any vm", RefusalClass::Attached),
    ("this volume is already attached to a vm", RefusalClass::Attached),
    ("the specified volume is not attached to a vm", RefusalClass::NotAttached),
    ("has the maximum number of data disks", RefusalClass::Exhausted),
    ("all device ids are used by vm", RefusalClass::Exhausted),
    ("maximum amount of resources of type", RefusalClass::Exhausted),
    ("maximum number of resources of type", RefusalClass::Exhausted),
    ("unable to find suitable primary storage", RefusalClass::Exhausted),
    ("unable to create a deployment for vm instance", RefusalClass::Exhausted),
    ("vm already has root volume attached", RefusalClass::Conflict),
    ("is used by vol", RefusalClass::Conflict),
    ("does not have vm snapshots", RefusalClass::Conflict),
    ("with vm snapshots", RefusalClass::Conflict),
    ("does not have any backups", RefusalClass::Conflict),
    ("from a vm that has backups", RefusalClass::Conflict),
    ("snapshot operations in progress", RefusalClass::Conflict),
    // One volume snapshot at a time for each VM: the next one has to wait for its turn.
    ("other active snapshot tasks", RefusalClass::Busy),
    ("there is/are unbacked up snapshot", RefusalClass::Conflict),
    ("has delete protection enabled", RefusalClass::Conflict),
    ("is already running", RefusalClass::Conflict),
    ("is not in the shutdown state", RefusalClass::Conflict),
    ("specify a vm that is either running or stopped", RefusalClass::Conflict),
    ("root volume is missing", RefusalClass::Conflict),
    ("volume state must be in", RefusalClass::Conflict),
    ("volume that is not uploading", RefusalClass::Conflict),
    ("volume that is not destroyed", RefusalClass::Conflict),
    ("when vm is not on stopped state", RefusalClass::Conflict),
    ("root volume detach can happen only when vm is in states", RefusalClass::Conflict),
    ("already exists in the network domain", RefusalClass::Conflict),
    ("a nic already exists for vm", RefusalClass::Conflict),
    ("a nic with this mac address exists", RefusalClass::Conflict),
    ("unable to find zone by id", RefusalClass::NotFound),
];

fn classify(error_code: u16, cs_error_code: Option<i64>, text: &str) -> RefusalClass {
    let text = text.to_lowercase();
    // Who may ask is said by the code; a text must not hide it.
    match error_code {
        401 if text.contains("is not available for user") => return RefusalClass::Forbidden,
        401 | 511 => return RefusalClass::Unauthenticated,
        403 => return RefusalClass::Forbidden,
        429 | 503 => return RefusalClass::Busy,
        _ => {}
    }
    if let Some((_, class)) = TEXTS.iter().find(|(part, _)| text.contains(part)) {
        return *class;
    }
    match error_code {
        531 => RefusalClass::Forbidden,
        532 | 533 | 535 => RefusalClass::Exhausted,
        534 => RefusalClass::Busy,
        536 | 537 => RefusalClass::Conflict,
        400 | 405 | 430 | 431 => by_exception(cs_error_code).unwrap_or(RefusalClass::InvalidParameter),
        432 => RefusalClass::Unsupported,
        _ => by_exception(cs_error_code).unwrap_or(RefusalClass::Internal),
    }
}

/// `cserrorcode` names the exception's class.
fn by_exception(cs_error_code: Option<i64>) -> Option<RefusalClass> {
    Some(match cs_error_code? {
        // AgentUnavailable, ConcurrentOperation, ResourceUnavailable, StorageUnavailable
        4285 | 4300 | 4380 | 4385 => RefusalClass::Busy,
        // InsufficientCapacity, ResourceAllocation
        4325 | 4370 => RefusalClass::Exhausted,
        4350 => RefusalClass::InvalidParameter,
        4365 => RefusalClass::Forbidden,
        // ResourceInUse
        4375 => RefusalClass::Conflict,
        _ => return None,
    })
}

/// `… please retry after [1500] ms.`: how the rate limit says it.
fn retry_after_in(text: &str) -> Option<Duration> {
    let (_, rest) = text.split_once("retry after")?;
    let digits: String = rest.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: u16, cs: Option<i64>, text: &str, expected: RefusalClass) {
        assert_eq!(Refusal::new("x", code, cs, text).class, expected, "{code} {cs:?} {text}");
    }

    #[test]
    fn codes_alone() {
        for (code, cs, expected) in [
            (400, None, RefusalClass::InvalidParameter),
            (401, None, RefusalClass::Unauthenticated),
            (429, None, RefusalClass::Busy),
            (430, Some(9999), RefusalClass::InvalidParameter),
            (431, Some(4350), RefusalClass::InvalidParameter),
            (432, Some(9999), RefusalClass::Unsupported),
            (503, None, RefusalClass::Busy),
            (511, None, RefusalClass::Unauthenticated),
            (530, Some(4250), RefusalClass::Internal),
            (530, Some(4300), RefusalClass::Busy),
            (530, Some(4365), RefusalClass::Forbidden),
            (531, Some(4365), RefusalClass::Forbidden),
            (532, None, RefusalClass::Exhausted),
            (533, Some(4325), RefusalClass::Exhausted),
            (534, Some(4380), RefusalClass::Busy),
            (535, Some(4370), RefusalClass::Exhausted),
            (536, None, RefusalClass::Conflict),
            (537, None, RefusalClass::Conflict),
            (530, None, RefusalClass::Internal),
        ] {
            check(code, cs, "Something", expected);
        }
    }

    #[test]
    fn texts_that_say_more_than_their_code() {
        let not_found = "Unable to execute API command deletevolume due to invalid value. Invalid parameter id \
            value=5b1d due to incorrect long value format, or entity does not exist or due to incorrect parameter \
            annotation for the field in api cmd class.";
        for (code, cs, text, expected) in [
            (431, Some(9999), not_found, RefusalClass::NotFound),
            (431, Some(4350), "Please specify a volume that is not attached to any VM.", RefusalClass::Attached),
            (530, None, "This volume is already attached to a VM.", RefusalClass::Attached),
            (431, None, "The specified volume is not attached to a VM.", RefusalClass::NotAttached),
            (
                431,
                Some(4350),
                "UUID: 1d8d already exists so can't create/update with custom id",
                RefusalClass::AlreadyExists,
            ),
            (431, None, "The virtual machine U (name) is already running", RefusalClass::Conflict),
            (535, Some(4370), "Maximum amount of resources of Type = 'volume' for Account", RefusalClass::Exhausted),
            (530, None, "Unable to find suitable primary storage when creating volume [v].", RefusalClass::Exhausted),
            (530, None, "deviceId 1 is used by vol x on vm y", RefusalClass::Conflict),
            (
                431,
                Some(4350),
                "There is other active snapshot tasks on the instance to which the volume is attached, please try again \
                later",
                RefusalClass::Busy,
            ),
            (
                431,
                None,
                "Unable to detach volume, please specify a VM that does not have VM snapshots",
                RefusalClass::Conflict,
            ),
            (
                401,
                None,
                "The given command 'createVolume' either does not exist, is not available for user.",
                RefusalClass::Forbidden,
            ),
            (401, None, "unable to verify user credentials and/or request signature", RefusalClass::Unauthenticated),
            (
                431,
                Some(4350),
                "Volume size: 4000 GB is out of allowed range. Min: 1. Max: 1024",
                RefusalClass::InvalidParameter,
            ),
        ] {
            check(code, cs, text, expected);
        }
    }

    #[test]
    fn the_rate_limit_says_how_long_to_wait() {
        let text = "The given user has reached his/her account api limit, please retry after [1500] ms.";
        assert_eq!(Refusal::new("x", 429, None, text).retry_after, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn server_text_is_bounded_and_printable() {
        let refusal = Refusal::new("x", 530, None, &"a\u{7}".repeat(5000));
        assert_eq!(refusal.text.len(), MAX_TEXT_CHARS);
    }
}
