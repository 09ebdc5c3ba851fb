//! How each disk is read: chosen from what the agent and vCenter say of it. Pure: asks nobody.
//!
//! The first that can read the disk is taken: added to the agent's own VM (no network but the storage's), datastore files
//! over HTTPS (no further software), a command of the agent's configuration (VDDK behind nbdkit, for one).

use api::Problem;
use api::vma::{ReaderFacts, ReaderSpec, SourceDisk};
use model::FailureKind;

/// Datastores that keep a disk as files anybody may read.
const WITH_FILES: [&str; 3] = ["VMFS", "NFS", "NFS41"];
/// The command that is taken when there are several.
const USUAL_COMMAND: &str = "vddk";

/// A reader and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// How the disk is read.
    pub reader: ReaderSpec,
    /// Why.
    pub reason: String,
}

/// Chooses for one disk.
///
/// # Errors
/// Nothing can read it: the evidence says why of each reader, the remedy what to configure.
pub fn choose(disk: &SourceDisk, facts: &ReaderFacts) -> Result<Choice, Box<Problem>> {
    let no_hotadd = match hotadd(disk, facts) {
        Ok(reason) => return Ok(Choice { reader: ReaderSpec::Hotadd, reason }),
        Err(why) => why,
    };
    let no_folder = match folder(disk, facts) {
        Ok(reason) => {
            return Ok(Choice { reader: ReaderSpec::Folder, reason: format!("{reason}; no hotadd: {no_hotadd}") });
        }
        Err(why) => why,
    };
    let usual = facts.nbd_commands.iter().find(|name| *name == USUAL_COMMAND);
    if let Some(name) = usual.or_else(|| facts.nbd_commands.iter().min()) {
        let reason = format!("command {name} is configured; no hotadd: {no_hotadd}; no folder: {no_folder}");
        return Ok(Choice { reader: ReaderSpec::NbdCommand { name: name.clone() }, reason });
    }
    let remedy = format!(
        "run an agent in a VM of the same datacenter whose host has datastore {}, or configure a command under \
         [nbd_commands] of the agent (VDDK behind nbdkit: docs/operations.md)",
        disk.datastore
    );
    let problem = Problem::new(FailureKind::Conflict, format!("nothing can read {}", disk.disk_id));
    Err(Box::new(
        problem.evidence(format!("no hotadd: {no_hotadd}; no folder: {no_folder}; no command")).remedy(remedy),
    ))
}

fn hotadd(disk: &SourceDisk, facts: &ReaderFacts) -> Result<String, String> {
    if let Some(refusal) = &facts.hotadd_refusal {
        return Err(refusal.clone());
    }
    let own = facts.own_vm.as_deref().ok_or("the agent runs in no VM of this vCenter")?;
    if is_raw_device(disk) {
        return Err("it is a raw device".to_owned());
    }
    if !facts.hotadd_datastores.contains(&disk.datastore) {
        return Err(format!("the host of {own} does not have datastore {}", disk.datastore));
    }
    Ok(format!("the agent's VM {own} is in the same datacenter and its host has datastore {}", disk.datastore))
}

fn folder(disk: &SourceDisk, facts: &ReaderFacts) -> Result<String, String> {
    if is_raw_device(disk) {
        return Err("it is a raw device".to_owned());
    }
    let Some(kind) = facts.datastore_types.get(&disk.datastore) else {
        return Ok(format!("the type of datastore {} is not known", disk.datastore));
    };
    if WITH_FILES.iter().any(|with_files| with_files.eq_ignore_ascii_case(kind)) {
        return Ok(format!("datastore {} is {kind}", disk.datastore));
    }
    Err(format!("datastore {} is {kind}, which keeps no files of disks", disk.datastore))
}

fn is_raw_device(disk: &SourceDisk) -> bool {
    disk.backing.starts_with("Raw")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(datastore: &str, backing: &str) -> SourceDisk {
        SourceDisk {
            disk_id: "disk-2000".into(),
            device_key: 2000,
            disk_uuid: "6000C29".into(),
            vmdk_path: format!("[{datastore}] web/web.vmdk"),
            datastore: datastore.into(),
            label: "Hard disk 1".into(),
            capacity_bytes: 1 << 30,
            controller_type: "pvscsi".into(),
            controller_bus: 0,
            unit_number: 0,
            provisioning_type: "thin".into(),
            disk_mode: "persistent".into(),
            sharing: "sharingNone".into(),
            is_boot_disk: true,
            backing: backing.into(),
        }
    }

    fn facts(own_vm: Option<&str>, commands: &[&str]) -> ReaderFacts {
        let types = [("fast", "VMFS"), ("nas", "NFS41"), ("san", "vsan"), ("vol", "VVOL")];
        ReaderFacts {
            nbd_commands: commands.iter().map(|name| (*name).to_owned()).collect(),
            own_vm: own_vm.map(str::to_owned),
            hotadd_refusal: None,
            hotadd_datastores: vec!["fast".to_owned(), "san".to_owned()],
            datastore_types: types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).into(),
        }
    }

    #[test]
    fn the_first_that_can_read_the_disk_is_taken() {
        let command = |name: &str| ReaderSpec::NbdCommand { name: name.to_owned() };
        let cases = [
            // Own VM, datastore, backing, commands: reader, part of the reason.
            (Some("agent"), "fast", "FlatVer2", &["vddk"][..], ReaderSpec::Hotadd, "its host has datastore fast"),
            (Some("agent"), "san", "FlatVer2", &[], ReaderSpec::Hotadd, "same datacenter"),
            (Some("agent"), "nas", "SeSparse", &["vddk"], ReaderSpec::Folder, "does not have datastore nas"),
            (None, "fast", "FlatVer2", &[], ReaderSpec::Folder, "datastore fast is VMFS"),
            (None, "unknown", "FlatVer2", &["a"], ReaderSpec::Folder, "type of datastore unknown is not known"),
            (None, "san", "FlatVer2", &["other", "vddk"], command("vddk"), "is vsan"),
            (None, "vol", "FlatVer2", &["b", "a"], command("a"), "is VVOL"),
            (Some("agent"), "fast", "RawDiskMappingVer1", &["vddk"], command("vddk"), "raw device"),
        ];
        for (own_vm, datastore, backing, commands, reader, part) in cases {
            let choice = choose(&disk(datastore, backing), &facts(own_vm, commands)).unwrap();
            assert_eq!(choice.reader, reader, "{datastore}: {}", choice.reason);
            assert!(choice.reason.contains(part), "{datastore}: {}", choice.reason);
        }
    }

    #[test]
    fn what_nothing_can_read_is_a_blocker_that_says_what_to_configure() {
        let refused = ReaderFacts { hotadd_refusal: Some("it is switched off".into()), ..facts(Some("agent"), &[]) };
        let problem = choose(&disk("san", "FlatVer2"), &refused).unwrap_err();
        assert_eq!(problem.kind, FailureKind::Conflict);
        let evidence = problem.evidence.unwrap();
        assert!(evidence.contains("it is switched off") && evidence.contains("is vsan"), "{evidence}");
        let remedy = problem.remedy.unwrap();
        assert!(remedy.contains("datastore san") && remedy.contains("[nbd_commands]"), "{remedy}");
    }
}
