//! What to write when rows, devices and CloudStack disagree. Pure.

use model::status::{LinuxState, VolumeState};

/// What is to be done with a volume's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VolumeVerdict {
    /// Nothing.
    Agrees,
    /// CloudStack does not show it.
    Gone,
    /// Nothing holds it.
    Detached,
    /// A VM holds it that is not recorded.
    Held {
        /// The VM.
        vm_id: String,
    },
}

/// Compares a row with CloudStack: `seen` is none when it does not show the volume, else the VM that holds it, if any.
pub(super) fn of_volume(state: VolumeState, recorded_vm: Option<&str>, seen: Option<Option<&str>>) -> VolumeVerdict {
    // Whoever is making or deleting it says how that ends.
    if matches!(state, VolumeState::Creating | VolumeState::Deleting | VolumeState::Deleted) {
        return VolumeVerdict::Agrees;
    }
    match seen {
        None if state == VolumeState::Error => VolumeVerdict::Agrees,
        None => VolumeVerdict::Gone,
        Some(None) if matches!(state, VolumeState::Attached | VolumeState::Error) => VolumeVerdict::Detached,
        Some(None) => VolumeVerdict::Agrees,
        Some(Some(vm_id)) if state == VolumeState::Attached && recorded_vm == Some(vm_id) => VolumeVerdict::Agrees,
        Some(Some(vm_id)) => VolumeVerdict::Held { vm_id: vm_id.to_owned() },
    }
}

/// What is to be done with a device's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeviceVerdict {
    /// Nothing.
    Agrees,
    /// It is here, and that is not recorded.
    Appeared,
    /// It should be here and is not.
    Vanished,
    /// It is not here and should not be.
    NotHere,
}

/// Compares a mapping with this machine: `known` is the device recorded, `found` the usable one seen now.
pub(super) fn of_device(
    state: LinuxState,
    belongs_here: bool,
    known: Option<&str>,
    found: Option<&str>,
) -> DeviceVerdict {
    match (belongs_here, state, found) {
        (true, LinuxState::Present, Some(_)) if known == found => DeviceVerdict::Agrees,
        (true, _, Some(_)) => DeviceVerdict::Appeared,
        // An unplugged device is first missed, and its exports with it.
        (_, LinuxState::Present, None) | (true, LinuxState::Appearing, None) => DeviceVerdict::Vanished,
        (false, LinuxState::Vanished | LinuxState::Appearing, None) => DeviceVerdict::NotHere,
        _ => DeviceVerdict::Agrees,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_follows_cloudstack() {
        let held = |vm_id: &str| VolumeVerdict::Held { vm_id: vm_id.to_owned() };
        for (state, recorded, seen, verdict) in [
            (VolumeState::Attached, Some("hub"), Some(Some("hub")), VolumeVerdict::Agrees),
            (VolumeState::Attached, Some("hub"), Some(Some("other")), held("other")),
            (VolumeState::Attached, Some("hub"), Some(None), VolumeVerdict::Detached),
            (VolumeState::Attached, Some("hub"), None, VolumeVerdict::Gone),
            (VolumeState::Available, None, Some(None), VolumeVerdict::Agrees),
            (VolumeState::Detached, None, Some(Some("hub")), held("hub")),
            (VolumeState::Error, None, Some(None), VolumeVerdict::Detached),
            (VolumeState::Error, None, None, VolumeVerdict::Agrees),
            (VolumeState::Deleting, None, None, VolumeVerdict::Agrees),
        ] {
            assert_eq!(of_volume(state, recorded, seen), verdict, "{state} {seen:?}");
        }
    }

    #[test]
    fn a_device_follows_its_link() {
        let (one, two) = (Some("/dev/vdb"), Some("/dev/vdc"));
        for (state, here, known, found, verdict) in [
            (LinuxState::Present, true, one, one, DeviceVerdict::Agrees),
            (LinuxState::Present, true, one, two, DeviceVerdict::Appeared),
            (LinuxState::Present, true, one, None, DeviceVerdict::Vanished),
            (LinuxState::Present, false, one, None, DeviceVerdict::Vanished),
            (LinuxState::Present, false, one, one, DeviceVerdict::Agrees),
            (LinuxState::Vanished, true, None, one, DeviceVerdict::Appeared),
            (LinuxState::Vanished, true, None, None, DeviceVerdict::Agrees),
            (LinuxState::Vanished, false, None, None, DeviceVerdict::NotHere),
            (LinuxState::Absent, true, None, one, DeviceVerdict::Appeared),
            (LinuxState::Absent, false, None, one, DeviceVerdict::Agrees),
            (LinuxState::Absent, false, None, None, DeviceVerdict::Agrees),
        ] {
            assert_eq!(of_device(state, here, known, found), verdict, "{state} {here} {known:?} {found:?}");
        }
    }
}
