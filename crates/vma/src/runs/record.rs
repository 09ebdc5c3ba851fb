//! What is written down of a run while its vm_snapshot exists: enough to go on in it after the process died. No password
//! is in it, and nothing it says is believed before vCenter and the hub say the same.

use std::path::Path;

use api::vma::{RunDisk, StartRun, SyncMode};
use model::ChangeId;
use model::id::vm_snapshot_name;
use model::status::ChangeSource;
use runtime::private_file;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::VmaError;

/// Name of the file in the run's folder.
pub(super) const RECORD_FILE: &str = "run.json";
/// The form of the file. Another one is not understood.
const VERSION: u32 = 1;
/// Length of a generation, in hex digits.
const GENERATION_DIGITS: usize = 32;

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunRecord {
    version: u32,
    pub(super) job_id: String,
    pub(super) moref: String,
    pub(super) instance_uuid: String,
    /// Names the frozen content towards the hub.
    pub(super) generation: String,
    /// Managed object id of the vm_snapshot.
    pub(super) vm_snapshot: String,
    pub(super) quiesced: bool,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) started_at: OffsetDateTime,
    /// How often it went on before the process that wrote this.
    pub(super) resumed: u32,
    pub(super) disks: Vec<DiskRecord>,
}

/// One disk of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DiskRecord {
    disk_id: String,
    disk_uuid: String,
    capacity_bytes: u64,
    export_name: String,
    change_source: ChangeSource,
    previous_change_id: Option<ChangeId>,
    /// The change id in the vm_snapshot.
    change_id: Option<ChangeId>,
    mode: SyncMode,
    reason: String,
}

/// What a disk was found to be in the vm_snapshot, and how it is copied.
#[derive(Debug, Clone)]
pub(super) struct DecidedDisk {
    pub(super) change_id: Option<ChangeId>,
    pub(super) mode: SyncMode,
    pub(super) reason: String,
}

impl DiskRecord {
    fn new(wanted: &RunDisk, decided: DecidedDisk) -> Self {
        Self {
            disk_id: wanted.disk_id.clone(),
            disk_uuid: wanted.disk_uuid.clone(),
            capacity_bytes: wanted.capacity_bytes,
            export_name: wanted.export_name.clone(),
            change_source: wanted.change_source,
            previous_change_id: wanted.previous_change_id.clone(),
            change_id: decided.change_id,
            mode: decided.mode,
            reason: decided.reason,
        }
    }

    fn is_for(&self, wanted: &RunDisk) -> bool {
        self.disk_id == wanted.disk_id
            && self.disk_uuid == wanted.disk_uuid
            && self.capacity_bytes == wanted.capacity_bytes
            && self.export_name == wanted.export_name
            && self.change_source == wanted.change_source
            // Only an increment builds upon it; the hub forgets it once what is written goes beyond change tracking.
            && (self.mode != SyncMode::Incremental || self.previous_change_id == wanted.previous_change_id)
    }

    /// Whether a disk of the vm_snapshot is the one that was frozen.
    pub(super) fn is_frozen_as(&self, disk: &vsphere::VirtualDisk) -> bool {
        self.disk_id == disk.disk_id()
            && self.disk_uuid == disk.disk_uuid
            && self.capacity_bytes == disk.capacity_bytes
            && self.change_id == disk.change_id
    }
}

impl RunRecord {
    /// Of a run that begins with this vm_snapshot; the content it froze gets a name of its own.
    pub(super) fn begin(request: &StartRun, vm_snapshot: &str, quiesced: bool, started_at: OffsetDateTime) -> Self {
        Self {
            version: VERSION,
            job_id: request.job_id.clone(),
            moref: request.moref.clone(),
            instance_uuid: request.instance_uuid.clone(),
            generation: model::id::generation(),
            vm_snapshot: vm_snapshot.to_owned(),
            quiesced,
            started_at,
            resumed: 0,
            disks: Vec::new(),
        }
    }

    /// Notes how the request's disks are copied.
    pub(super) fn decided(&mut self, wanted: &[RunDisk], decided: impl IntoIterator<Item = DecidedDisk>) {
        self.disks = wanted.iter().zip(decided).map(|(wanted, decided)| DiskRecord::new(wanted, decided)).collect();
    }

    /// How each of these disks was copied before the run was cut off; none in a run that begins.
    pub(super) fn modes(&self, wanted: &[RunDisk]) -> Vec<Option<SyncMode>> {
        let mode = |wanted: &RunDisk| self.disks.iter().find(|known| known.disk_id == wanted.disk_id).map(|k| k.mode);
        wanted.iter().map(mode).collect()
    }

    /// Name of the run's vm_snapshot.
    pub(super) fn vm_snapshot_name(&self) -> String {
        vm_snapshot_name(&self.job_id)
    }

    /// Whether a request asks for this very run.
    pub(super) fn is_for(&self, request: &StartRun) -> bool {
        self.job_id == request.job_id
            && self.moref == request.moref
            && self.instance_uuid == request.instance_uuid
            && self.disks.len() == request.disks.len()
            && self.disks.iter().zip(&request.disks).all(|(known, wanted)| known.is_for(wanted))
    }

    /// Reads the record of a run's folder. `None`: there is none, or none that is understood.
    pub(super) fn load(folder: &Path) -> Option<Self> {
        let path = folder.join(RECORD_FILE);
        let text = match private_file::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            read => read.map_err(|error| error.to_string()),
        };
        let record = text.and_then(|text| Self::parse(&text).map_err(|error| error.to_string()));
        record.inspect_err(|error| tracing::warn!(path = %path.display(), error, "the run cannot go on")).ok()
    }

    fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let record: Self = serde_json::from_slice(text)?;
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let is_whole = record.version == VERSION
            && record.generation.len() == GENERATION_DIGITS
            && record.generation.bytes().all(is_hex)
            && !record.disks.is_empty();
        if is_whole { Ok(record) } else { Err(serde::de::Error::custom("it is of another version, or no run at all")) }
    }

    /// Writes the record: whole, durable, readable for this user alone.
    pub(super) async fn save(&self, folder: &Path) -> Result<(), VmaError> {
        let path = folder.join(RECORD_FILE);
        let failed = |source| VmaError::StateFile { path: path.clone(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        let target = path.clone();
        let written = tokio::task::spawn_blocking(move || private_file::write(&target, &text)).await;
        let written = written.map_err(|source| VmaError::Interrupted { doing: "writing down the run", source })?;
        written.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use api::vma::{ReaderSpec, RunLimits, VcenterConnection};
    use model::Secret;

    use super::*;

    fn request() -> StartRun {
        let disk = |number: u32| RunDisk {
            disk_id: format!("disk-{number}"),
            disk_uuid: format!("uuid-{number}"),
            capacity_bytes: 1 << 30,
            export_name: format!("migration-vol-{number}"),
            previous_change_id: Some("52 aa/5".parse().unwrap()),
            reader: ReaderSpec::Folder,
            reader_reason: None,
            change_source: ChangeSource::Cbt,
            scrub: None,
        };
        StartRun {
            job_id: "job-1".to_owned(),
            moref: "vm-7".to_owned(),
            instance_uuid: "503c".to_owned(),
            vcenter: VcenterConnection {
                url: "https://vcenter.example".to_owned(),
                username: "user".to_owned(),
                password: Secret::new("not to be written down"),
                thumbprint: None,
                ca_pem: None,
            },
            quiesce: true,
            connections_per_disk: 2,
            disks: vec![disk(2000), disk(2001)],
            compression: None,
            limits: RunLimits::default(),
        }
    }

    fn record() -> RunRecord {
        let mut record = RunRecord::begin(&request(), "snapshot-3", true, OffsetDateTime::UNIX_EPOCH);
        let decided = || DecidedDisk {
            change_id: Some("52 aa/6".parse().unwrap()),
            mode: SyncMode::Incremental,
            reason: "what changed".to_owned(),
        };
        record.decided(&request().disks, [decided(), decided()]);
        record
    }

    #[tokio::test]
    async fn a_run_is_written_down_privately_without_its_password() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(RunRecord::load(folder.path()), None);
        record().save(folder.path()).await.unwrap();
        let path = folder.path().join(RECORD_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!std::fs::read_to_string(&path).unwrap().contains("not to be written down"));
        let loaded = RunRecord::load(folder.path()).unwrap();
        assert_eq!((loaded.vm_snapshot.as_str(), loaded.disks.len()), ("snapshot-3", 2));
        assert!(loaded.is_for(&request()));
        assert_eq!(loaded.vm_snapshot_name(), "migratekit-job-1");
    }

    #[test]
    fn two_runs_never_have_one_generation() {
        assert_ne!(record().generation, record().generation);
        assert_eq!(record().generation.len(), GENERATION_DIGITS);
    }

    #[test]
    fn what_does_not_build_upon_a_commit_goes_on_without_it() {
        let mut request = request();
        request.disks[0].previous_change_id = None;
        assert!(!record().is_for(&request), "an increment has lost its base");
        for mode in [SyncMode::Compare, SyncMode::Full] {
            let mut known = record();
            known.disks[0].mode = mode;
            assert!(known.is_for(&request), "{mode:?}");
        }
    }

    #[test]
    fn only_the_same_request_goes_on() {
        let known = record();
        let others: [fn(&mut StartRun); 9] = [
            |request| request.job_id = "job-2".to_owned(),
            |request| request.moref = "vm-8".to_owned(),
            |request| request.instance_uuid = "other".to_owned(),
            |request| request.disks.truncate(1),
            |request| request.disks.reverse(),
            |request| request.disks[1].export_name = "migration-vol-9".to_owned(),
            |request| request.disks[1].previous_change_id = None,
            |request| request.disks[0].capacity_bytes += 512,
            |request| request.disks[0].change_source = ChangeSource::Compare,
        ];
        for (number, change) in others.into_iter().enumerate() {
            let mut other = request();
            change(&mut other);
            assert!(!known.is_for(&other), "change {number}");
        }
        let mut login = request();
        login.vcenter.password = Secret::new("changed meanwhile");
        login.connections_per_disk = 4;
        assert!(known.is_for(&login), "how it is reached and how fast it is sent is no other run");
    }

    #[test]
    fn a_record_is_read_strictly() {
        let whole = serde_json::to_value(record()).unwrap();
        let parse = |value: &serde_json::Value| RunRecord::parse(&serde_json::to_vec(value).unwrap());
        assert_eq!(parse(&whole).unwrap().job_id, "job-1");
        let fields = whole.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        for field in fields {
            let mut without = whole.clone();
            without.as_object_mut().unwrap().remove(&field);
            assert!(parse(&without).is_err(), "without {field}");
        }
        let wrong = [
            ("version", serde_json::json!(2)),
            ("generation", serde_json::json!("ABCDEF")),
            ("generation", serde_json::json!("../../../../../../../../etc/passw")),
            ("disks", serde_json::json!([])),
            ("something_new", serde_json::json!(1)),
        ];
        for (field, value) in wrong {
            let mut other = whole.clone();
            other[field] = value;
            assert!(parse(&other).is_err(), "{field}");
        }
        let text = serde_json::to_vec(&whole).unwrap();
        assert!((0..text.len()).all(|length| RunRecord::parse(&text[..length]).is_err()), "a torn record");
    }
}
